export type { EventLabel, EventLog } from './buffer/event-log.js'
export { createMemoryLog, type MemoryLogOptions } from './buffer/memory-log.js'
export {
  Channel,
  type ChannelEvents,
  type ChannelStats,
  createChannel,
  type SubscribeOptions,
  type Subscriber,
} from './channel/channel.js'
export {
  Channels,
  type ChannelsOptions,
  type ChannelsStats,
  createChannels,
} from './channel/channels.js'
export type { ChannelOptions, MaxLagOptions } from './channel/options.js'
export type { ChannelEvent, SelectOptions } from './channel/selection.js'
export type { Snapshot, SnapshotHook, SnapshotRequest } from './channel/snapshot.js'
export type { Clock, Timer } from './clock.js'
export type { CloseReason } from './close-reason.js'
export { SSEError, type SSEErrorCode, type SSEErrorOptions } from './errors.js'
export type { Gap } from './handler/gap.js'
export type { Phase } from './handler/machine.js'
export type { HeartbeatOptions, ReplayOptions, SSEHandlerOptions } from './handler/options.js'
export type { Redact } from './handler/redact.js'
export { SSEHandler } from './handler/sse-handler.js'
export type { ClosedInfo, SSEHandlerEvents, SSEHandlerStats } from './handler/sse-handler-events.js'
export type { LostReason, Transport, TransportSink } from './handler/transport.js'
export { type BatchOptions, batch } from './producers/operators/batch.js'
export { type ConflateOptions, conflate } from './producers/operators/conflate.js'
export { type DebounceOptions, debounce } from './producers/operators/debounce.js'
export { type ThrottleOptions, throttle } from './producers/operators/throttle.js'
export type { SendPermit } from './producers/permit.js'
export {
  type EventNameFor,
  type PipeOptions,
  type PipeResult,
  type PipeSource,
  type PipeTarget,
  pipe,
} from './producers/pipe.js'
export {
  createProducerPool,
  type ProducerPool,
  type ProducerPoolOptions,
  type ProducerResult,
} from './producers/pool.js'
export type { RequestOptions, SendOutcome } from './producers/send.js'
export type { Source } from './producers/source.js'
export {
  type PushSource,
  type Wired,
  type WireOptions,
  type WireResult,
  type WireTarget,
  wire,
} from './producers/wire.js'
export type { OpenOptions } from './runtime/admission.js'
export type { ClientKind } from './runtime/client-kind.js'
export type { CorsOptions } from './runtime/cors.js'
export { createSluice } from './runtime/create-sluice.js'
export { createHealthHandler, type HttpRequest, type HttpResponse } from './runtime/health.js'
export type { LifecycleStage, Logger } from './runtime/lifecycle.js'
export type { Authorization, LimitsOptions, SluiceOptions } from './runtime/options.js'
export type { RefusalCause } from './runtime/refusal.js'
export type { GuardedServer } from './runtime/server-guard.js'
export type { ShutdownOptions, ShutdownReport } from './runtime/shutdown.js'
export {
  type Health,
  type Opened,
  type Responded,
  Sluice,
  type SluiceStats,
} from './runtime/sluice.js'
export type { SessionStatus } from './runtime/supervised.js'
export type { Counters, DurationHistogram } from './runtime/totals.js'
export type { Exchange, Peer } from './transport/exchange.js'
export { createFetchHandler, createSSEResponse, type SSEResponse } from './transport/fetch.js'
export {
  createHttp2SSEHandler,
  createSSEHandler,
  type NodeRequest,
  type NodeResponse,
} from './transport/node.js'
export type { EndableSession } from './transport/responses.js'
export type { Chunk } from './wire/chunk.js'
export type { EventFields, EventInput, EventMap } from './wire/event.js'
export type { Frame } from './wire/frame.js'
export type { StreamAnswer, StreamRequest } from './wire/request.js'
