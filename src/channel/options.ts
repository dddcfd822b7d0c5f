import type { EventLog } from '../buffer/event-log.js'
import { createMemoryLog } from '../buffer/memory-log.js'
import { type Clock, systemClock } from '../clock.js'
import { SSEError } from '../errors.js'
import { checkedLog, type ReplayOptions, resolveReplay } from '../handler/options.js'
import { checkedRedact, type Redact } from '../handler/redact.js'
import { delayMs, knownOptions, oneOf, wholeNumber } from '../options.js'
import type { EventMap } from '../wire/event.js'

/** How far a reader may be behind the end of the channel. What the log does not hold any more is too far in any case. */
export interface MaxLagOptions {
  /** Events between a reader and the end. Minimum 1. Default: Infinity; with `wait` 256. */
  events?: number | undefined
  /** Bytes of encoded events between a reader and the end. Minimum 1. Default: Infinity; with `wait` 1 MiB. */
  bytes?: number | undefined
  /**
   * Milliseconds the oldest event that a reader has not got may be old, to 1/8. Looked at when something is published.
   * Not with `wait`. 1 to 2,147,483,647, or Infinity. Default: Infinity.
   */
  ageMs?: number | undefined
}

/** Options of `createChannel`. */
export interface ChannelOptions<Events extends object = EventMap> {
  /** The channel's history. Default: `createMemoryLog()`, of 1,000 events. */
  log?: EventLog | undefined
  /**
   * What happens to a reader that is behind by more than `maxLag`, or than the log holds.
   * - `gap`: an event `gap` tells it so, and it goes on from the oldest event that is not too far behind.
   * - `close`: its connection is reset, with the reason `slow-consumer`. It comes back by its id.
   * - `wait`: `send` and `requestSend` wait for it, for up to `maxWaitMs`; then it is closed as with `close`. Those who
   *   `publish` do not wait: a reader that falls out of the log for that gets a gap.
   *
   * Default `gap`.
   */
  slowConsumer?: 'gap' | 'close' | 'wait' | undefined
  /**
   * How far a reader may be behind. A reader that catches up from its Last-Event-ID may be behind by all the log holds
   * until it has got what it missed; with `wait` it is waited for.
   */
  maxLag?: MaxLagOptions | undefined
  /** With `wait`: milliseconds after which the readers that are waited for are closed. 1 to 2,147,483,647, default 5,000. */
  maxWaitMs?: number | undefined
  /**
   * Milliseconds from one flush to the next under load. The first event after a pause leaves at once; those that follow
   * within the interval leave together at its end. 0: each turn of the event loop flushes. 0 to 1,000, default 2.
   */
  flushIntervalMs?: number | undefined
  /** How the positions of clients are answered, and where a client without one starts. */
  replay?: ReplayOptions | undefined
  /** Milliseconds a snapshot hook may take; then its connection ends with an error. 1 to 2,147,483,647, default 30,000. */
  snapshotTimeoutMs?: number | undefined
  /**
   * Called once with each event before it is encoded, to keep fields out that no reader must see; what it returns is
   * published. When it throws, the event is refused with ERR_SSE_INVALID_EVENT. Default: none.
   */
  redact?: Redact | undefined
  /** The most bytes of one encoded event; a larger one is ERR_SSE_EVENT_TOO_LARGE. Minimum 1, default 256 KiB. */
  maxEventBytes?: number | undefined
  /** The most callers that wait in `requestSend` and `send`; one more is ERR_SSE_TOO_MANY_WAITERS. Minimum 0, default 1,000. */
  maxWaiters?: number | undefined
  /** Milliseconds after which an unused permit expires, 8 at least. 1 to 2,147,483,647, default 30,000. */
  leaseMs?: number | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
  /** Never set: carries the event map in the type. */
  readonly _events?: Events
}

export interface ResolvedChannelOptions {
  log: EventLog
  slowConsumer: 'gap' | 'close' | 'wait'
  maxLagEvents: number
  maxLagBytes: number
  maxLagMs: number
  maxWaitMs: number
  flushIntervalMs: number
  replayStart: 'newest' | 'oldest'
  afterGap: 'oldest' | 'newest' | 'close'
  snapshotTimeoutMs: number
  redact: Redact | null
  maxEventBytes: number
  maxWaiters: number
  leaseMs: number
  clock: Clock
}

const KiB = 1024
/** The names of the options. */
export const KNOWN_CHANNEL_OPTIONS: ReadonlySet<string> = new Set([
  'log',
  'slowConsumer',
  'maxLag',
  'maxWaitMs',
  'flushIntervalMs',
  'replay',
  'snapshotTimeoutMs',
  'redact',
  'maxEventBytes',
  'maxWaiters',
  'leaseMs',
  'clock',
])
const KNOWN_LAG: ReadonlySet<string> = new Set(['events', 'bytes', 'ageMs'])

export function resolveChannelOptions(options: ChannelOptions<object>): ResolvedChannelOptions {
  knownOptions('createChannel', options, KNOWN_CHANNEL_OPTIONS)
  const { maxLag = {} } = options
  knownOptions('maxLag', maxLag, KNOWN_LAG)
  const slowConsumer = oneOf('slowConsumer', options.slowConsumer, 'gap', ['gap', 'close', 'wait'])
  const forever = Number.POSITIVE_INFINITY
  const [lagEvents, lagBytes] = slowConsumer === 'wait' ? [256, 1024 * KiB] : [forever, forever]
  const infinity = true
  if (slowConsumer === 'wait' && maxLag.ageMs !== undefined) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'Option maxLag.ageMs is given with slowConsumer wait, which waits by events and bytes; leave it out, or choose another policy.',
    )
  }
  return {
    log: checkedLog(options.log) ?? createMemoryLog({ clock: options.clock }),
    slowConsumer,
    maxLagEvents: wholeNumber('maxLag.events', maxLag.events, lagEvents, { min: 1, infinity }),
    maxLagBytes: wholeNumber('maxLag.bytes', maxLag.bytes, lagBytes, { min: 1, infinity }),
    maxLagMs:
      maxLag.ageMs === undefined || maxLag.ageMs === forever
        ? forever
        : delayMs('maxLag.ageMs', maxLag.ageMs),
    maxWaitMs: delayMs('maxWaitMs', options.maxWaitMs, 5000),
    flushIntervalMs: wholeNumber('flushIntervalMs', options.flushIntervalMs, 2, { min: 0, max: 1000 }),
    ...resolveReplay(options.replay),
    snapshotTimeoutMs: delayMs('snapshotTimeoutMs', options.snapshotTimeoutMs, 30_000),
    redact: checkedRedact(options.redact),
    maxEventBytes: wholeNumber('maxEventBytes', options.maxEventBytes, 256 * KiB, { min: 1 }),
    maxWaiters: wholeNumber('maxWaiters', options.maxWaiters, 1000, { min: 0 }),
    leaseMs: delayMs('leaseMs', options.leaseMs, 30_000),
    clock: options.clock ?? systemClock,
  }
}
