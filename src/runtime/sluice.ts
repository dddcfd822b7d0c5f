import type { EventLog } from '../buffer/event-log.js'
import type { SSEHandlerOptions } from '../handler/options.js'
import { connectionOf, SSEHandler } from '../handler/sse-handler.js'
import type { ClosedInfo, SSEHandlerStats } from '../handler/sse-handler-events.js'
import type { Exchange } from '../transport/exchange.js'
import { exchangeOf, type NodeRequest, type NodeResponse } from '../transport/node.js'
import type { EventMap } from '../wire/event.js'
import type { StreamAnswer, StreamRequest } from '../wire/request.js'
import { authorized } from './admission.js'
import { Lifecycle } from './lifecycle.js'
import { type ResolvedSluiceOptions, resolveSluiceOptions, type SluiceOptions } from './options.js'
import { isAnswerable, preflightAnswer, type RefusalCause, refusalAnswer } from './refusal.js'
import { Registry } from './registry.js'
import { attachServer, type GuardedServer } from './server-guard.js'
import {
  type ResolvedShutdownOptions,
  resolveShutdownOptions,
  type ShutdownOptions,
  type ShutdownReport,
  shutDown,
} from './shutdown.js'
import { type SessionStatus, Supervised, type Supervisor } from './supervised.js'
import { type Counters, type DurationHistogram, Totals } from './totals.js'
import { VanishedSweep } from './vanished.js'
import { WheelClock } from './wheel-clock.js'

/** The bytes in all queues and logs are summed up no more often than this. */
const BYTES_COUNTED_EVERY_MS = 250

/** Options of one stream: those of `createSSEHandler`, but for the clock. */
export type OpenOptions<Events extends object = EventMap> = Omit<SSEHandlerOptions<Events>, 'clock'>

/** What all streams of a process are like at one moment, and what has happened since its start. */
export interface SluiceStats extends Counters {
  /** Streams that are open. */
  open: number
  /** Requests that wait for `authorize`. */
  authorizing: number
  /** Open streams whose client has not taken the last write. */
  blocked: number
  queuedEvents: number
  /** Bytes of events in the queues and in what the system has not taken. */
  queuedBytes: number
  /** Bytes of events in all queues and in the logs that open streams read. */
  heldBytes: number
  waiters: number
  permits: number
  durations: DurationHistogram
  /** TCP connections that a server given to `attach` has refused for its own limit. */
  droppedByServer: number
  /** How late the last tick of the timer wheel was: for as long the event loop was busy. */
  loopLagMs: number
}

/** Whether this process can take streams. */
export interface Health {
  /** `overloaded`: as many streams or bytes as the limits allow. `stopping`: `shutdown` was called. */
  status: 'ok' | 'overloaded' | 'stopping'
  /** Whether a load balancer should send new streams here. */
  isReady: boolean
  open: number
  maxConnections: number
  heldBytes: number
  maxBytes: number
  loopLagMs: number
}

/** A stream, or null when it was refused. With `authorize`, a promise of it. */
export type Opened<Events extends object, Waits extends boolean> = Waits extends true
  ? Promise<SSEHandler<Events> | null>
  : SSEHandler<Events> | null

/**
 * Supervises all streams of a process. Made by `createSluice`.
 *
 * @typeParam Request what the hooks get: the request of the server.
 * @typeParam Waits whether `open` waits for `authorize`.
 */
export class Sluice<Request = NodeRequest, Waits extends boolean = false> implements Supervisor {
  readonly lifecycle: Lifecycle
  readonly #options: ResolvedSluiceOptions<Request>
  readonly #wheel: WheelClock
  readonly #streams = new Registry<Supervised>()
  readonly #totals = new Totals()
  readonly #sweep: VanishedSweep
  /** Who a log was first opened for: it is nobody else's history. */
  readonly #ownerOfLog = new WeakMap<EventLog, string>()
  #authorizing = 0
  #droppedByServer = 0
  #heldBytes = 0
  #heldBytesAt = Number.NEGATIVE_INFINITY
  #shutdown: Promise<ShutdownReport> | null = null

  constructor(options: SluiceOptions<Request>) {
    this.#options = resolveSluiceOptions(options)
    this.#wheel = new WheelClock(this.#options.clock)
    this.lifecycle = new Lifecycle(this.#options.logger, this)
    this.#sweep = new VanishedSweep(this.#streams, this.#options.clock, this.#options.sweepMs)
  }

  /**
   * Answers a request with an event stream that is supervised, or refuses it. Null: it was refused, and the response is
   * sent. A client that has left already is no refusal: the handler is closed.
   *
   * Synchronous, unless `authorize` is set: then the promise resolves when it has decided, and rejects for misuse only.
   *
   * @throws SSEError as `createSSEHandler` does
   */
  open<Events extends object = EventMap>(
    req: Request & NodeRequest,
    res: NodeResponse,
    options?: OpenOptions<Events>,
  ): Opened<Events, Waits> {
    return this.admit(exchangeOf(req, res), req, options)
  }

  /** As `open`, for any transport. `request` is what the hooks get. */
  admit<Events extends object = EventMap>(
    exchange: Exchange,
    request: Request,
    options: OpenOptions<Events> = {},
  ): Opened<Events, Waits> {
    const { authorize } = this.#options
    const candidate: Candidate<Request> = {
      exchange,
      request,
      options: options as OpenOptions,
      principal: null,
      headers: {},
    }
    this.lifecycle.tell('establishing', () => fieldsOf(exchange))
    const isLet = this.#passesOrigin(candidate) && this.#passesLimits(candidate)
    if (authorize === null) return (isLet ? this.#enter(candidate) : null) as Opened<Events, Waits>
    return (isLet ? this.#authorize(candidate, authorize) : Promise.resolve(null)) as Opened<Events, Waits>
  }

  /** Notes that the client of a session is there, though no event goes to it: it is not idle. False when it has no stream. */
  touch(sessionId: string): boolean {
    const streams = this.#streams.ofSession(sessionId)
    for (const stream of streams) stream.touch()
    return streams.length > 0
  }

  /** The open streams, oldest first. */
  sessions(): SessionStatus[] {
    return [...this.#streams].map((stream) => stream.status())
  }

  /** The newest open stream of a session; null when it has none. */
  session(sessionId: string): SessionStatus | null {
    return this.#streams.ofSession(sessionId).at(-1)?.status() ?? null
  }

  /** Looks at every open stream: ask for it every few seconds, not for every event. */
  stats(): SluiceStats {
    const open = [...this.#streams].map(({ handler }) => handler.stats())
    const sum = (value: (stats: SSEHandlerStats) => number) =>
      open.reduce((total, stats) => total + value(stats), 0)
    let queuedBytes = 0
    for (const { connection } of this.#streams) queuedBytes += connection.heldBytes
    return {
      ...this.#totals.counters(open),
      open: open.length,
      authorizing: this.#authorizing,
      blocked: open.filter(({ phase }) => phase === 'blocked').length,
      queuedEvents: sum((stats) => stats.queuedEvents),
      queuedBytes,
      heldBytes: this.#countHeldBytes(),
      waiters: sum((stats) => stats.waiters),
      permits: sum((stats) => stats.permits),
      durations: this.#totals.durations(),
      droppedByServer: this.#droppedByServer,
      loopLagMs: this.#wheel.lagMs,
    }
  }

  health(): Health {
    const { maxConnections, maxBytes } = this.#options
    const heldBytes = this.#countHeldBytes()
    const isFull = this.#taken >= maxConnections || heldBytes >= maxBytes
    const status = this.#shutdown !== null ? 'stopping' : isFull ? 'overloaded' : 'ok'
    return {
      status,
      isReady: status === 'ok',
      open: this.#streams.size,
      maxConnections,
      heldBytes,
      maxBytes,
      loopLagMs: this.#wheel.lagMs,
    }
  }

  /**
   * Keeps a server from taking more TCP connections than it has streams and files for, and counts those that it drops.
   * Node says nothing when the system has no file left for a connection (EMFILE): `server.maxConnections` is set below
   * that, where it is not set already. Resolves when that is done.
   */
  async attach(server: GuardedServer): Promise<void> {
    await attachServer(server, this.#options.maxConnections, this.lifecycle, () => {
      this.#droppedByServer += 1
    })
  }

  /**
   * Stops gracefully. From here on every request is refused. Each client is told when to come back, at a moment of its own
   * within `reconnectWithinMs`; it gets what was accepted for it; then its stream ends, and its connection. What has not
   * ended after `graceMs` is reset. Never takes longer than that, and never rejects but for options that are none. A
   * second call changes nothing and resolves alike.
   *
   * @throws SSEError (rejects) ERR_SSE_INVALID_OPTION
   */
  async shutdown(options: ShutdownOptions = {}): Promise<ShutdownReport> {
    this.#shutdown ??= this.#shutDown(resolveShutdownOptions(options))
    return this.#shutdown
  }

  heartbeatMissed(): void {
    this.#totals.heartbeatMissed()
  }

  terminated(stream: Supervised, info: ClosedInfo, stats: SSEHandlerStats): void {
    this.#streams.remove(stream)
    this.#totals.closed(info, stats)
    this.lifecycle.tell('terminated', () => {
      const { error, ...end } = info
      return {
        ...stream.fields(),
        ...end,
        // Loggers show the message and the stack of an error that has this name.
        ...(error !== undefined && { err: error }),
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      }
    })
  }

  /** Streams that are open or may be in a moment. */
  get #taken(): number {
    return this.#streams.size + this.#authorizing
  }

  #passesOrigin(candidate: Candidate<Request>): boolean {
    const { cors } = this.#options
    if (cors === null) return true
    const verdict = this.#asked(candidate, () => cors(candidate.exchange.request))
    if (verdict === undefined) return false
    if (verdict.kind === 'refused') return this.#refuse(candidate, 'origin')
    candidate.headers = verdict.headers
    if (verdict.kind === 'allowed') return true
    answer(candidate.exchange, preflightAnswer(verdict.headers))
    return false
  }

  #passesLimits(candidate: Candidate<Request>): boolean {
    const { maxConnections, maxBytes } = this.#options
    if (this.#shutdown !== null) return this.#refuse(candidate, 'shutting-down')
    if (this.#taken >= maxConnections) return this.#refuse(candidate, 'max-connections')
    if (this.#countHeldBytes() >= maxBytes) return this.#refuse(candidate, 'max-bytes')
    return true
  }

  async #authorize(
    candidate: Candidate<Request>,
    authorize: NonNullable<ResolvedSluiceOptions<Request>['authorize']>,
  ): Promise<SSEHandler | null> {
    const { exchange, request } = candidate
    const { authorizeTimeoutMs, clock } = this.#options
    this.#authorizing += 1
    const outcome = await authorized(exchange, request, authorize, authorizeTimeoutMs, clock).finally(() => {
      this.#authorizing -= 1
    })
    if ('refused' in outcome) {
      this.#refuse(candidate, outcome.refused, outcome.error)
      return null
    }
    candidate.principal = outcome.principal
    return this.#passesLimits(candidate) ? this.#enter(candidate) : null
  }

  #enter(candidate: Candidate<Request>): SSEHandler | null {
    const { exchange, options, principal } = candidate
    const names = this.#namesOf(candidate)
    if (names === null) return null
    const { sessionId, key } = names
    const ofSession = this.#streams.ofSession(sessionId).filter((stream) => !stream.isClosing)
    const isForeign =
      ofSession.some((stream) => stream.principal !== principal) || !this.#mayRead(options.log, principal)
    if (isForeign) return this.#refused(candidate, 'forbidden')
    const { onOpenSession } = this.#options
    if (ofSession.length > 0 && onOpenSession === 'refuse') return this.#refused(candidate, 'session-open')
    const replaced = onOpenSession === 'replace' ? ofSession : []
    const oldest = this.#oneTooMany(key, replaced)
    if (oldest !== null && this.#options.atMaxPerKey === 'refuse')
      return this.#refused(candidate, 'max-per-key')

    const handler = this.#create(candidate, sessionId, replaced.at(-1))
    if (handler.phase === 'closed') return this.#closedAtOnce(candidate, handler)
    const { idleMs, lifetimeMs } = this.#options
    const limits = { idleMs, lifetimeMs, clock: this.#wheel }
    const stream = new Supervised(handler, exchange, { sessionId, key, principal }, limits, this)
    this.#streams.add(stream)
    this.#totals.opened(stream.client)
    this.lifecycle.tell('established', () => stream.establishedFields())
    this.#sweep.start()
    const gone = oldest === null ? replaced : [...replaced, oldest]
    for (const old of gone) void old.handler.close({ reason: 'replaced' })
    return handler
  }

  #namesOf(candidate: Candidate<Request>): { sessionId: string; key: string } | null {
    const { exchange, request, options, principal } = candidate
    const names = this.#asked(candidate, () => ({
      sessionId: options.sessionId ?? this.#options.sessionId?.(request) ?? crypto.randomUUID(),
      key: this.#options.key?.(request) ?? principal ?? exchange.peer?.address ?? '',
    }))
    return names ?? null
  }

  /** The stream that has to go for another one of this key; null when there is room. */
  #oneTooMany(key: string, replaced: readonly Supervised[]): Supervised | null {
    const { maxPerKey } = this.#options
    if (maxPerKey === Number.POSITIVE_INFINITY) return null
    const others = this.#streams
      .ofKey(key)
      .filter((stream) => !stream.isClosing && !replaced.includes(stream))
    return others.length < maxPerKey ? null : (others[0] ?? null)
  }

  /** Whether a principal may read a history: its own, or one that is nobody's. */
  #mayRead(log: EventLog | undefined, principal: string | null): boolean {
    if (log === undefined) return true
    const owner = this.#ownerOfLog.get(log)
    if (owner === undefined && principal !== null) this.#ownerOfLog.set(log, principal)
    return owner === undefined || owner === principal
  }

  #create(
    { exchange, options, headers }: Candidate<Request>,
    sessionId: string,
    replaced?: Supervised,
  ): SSEHandler {
    const { handler } = this.#options
    const request = withPosition(exchange.request, options.log, replaced)
    return new SSEHandler(exchange.transport, request, {
      ...handler,
      ...options,
      headers: { ...handler.headers, ...headers, ...options.headers },
      sessionId,
      clock: this.#wheel,
    } as SSEHandlerOptions)
  }

  /** A HEAD request, or one that accepts no stream, has been answered; a client that has left cannot be. */
  #closedAtOnce(candidate: Candidate<Request>, handler: SSEHandler): SSEHandler | null {
    const isAnswered = connectionOf(handler)?.reason === 'refused'
    this.#count(candidate, isAnswered ? 'no-stream' : 'client-left')
    return isAnswered ? null : handler
  }

  /** What a hook says; undefined when it threw, and the request is refused. */
  #asked<Said>(candidate: Candidate<Request>, hook: () => Said): Said | undefined {
    try {
      return hook()
    } catch (error) {
      this.#refuse(candidate, 'hook-failed', error)
      return undefined
    }
  }

  #refused(candidate: Candidate<Request>, cause: RefusalCause): null {
    this.#refuse(candidate, cause)
    return null
  }

  #refuse(candidate: Candidate<Request>, cause: RefusalCause, error?: unknown): false {
    this.#count(candidate, cause)
    if (cause === 'hook-failed')
      this.lifecycle.log('error', { err: error, ...fieldsOf(candidate.exchange) }, 'sse hook failed')
    const { retryAfterMs } = this.#options
    if (isAnswerable(cause)) answer(candidate.exchange, refusalAnswer(cause, retryAfterMs, candidate.headers))
    return false
  }

  #count(candidate: Candidate<Request>, cause: RefusalCause): void {
    this.#totals.refused(cause)
    this.lifecycle.tell('refused', () => ({ ...fieldsOf(candidate.exchange), cause }))
  }

  #countHeldBytes(): number {
    const now = this.#options.clock.now()
    if (now - this.#heldBytesAt < BYTES_COUNTED_EVERY_MS) return this.#heldBytes
    const logs = new Set<EventLog>()
    let bytes = 0
    for (const { connection } of this.#streams) {
      bytes += connection.heldBytes
      if (connection.log !== null) logs.add(connection.log)
    }
    for (const log of logs) bytes += log.bytesFrom(log.oldest)
    this.#heldBytes = bytes
    this.#heldBytesAt = now
    return bytes
  }

  async #shutDown(options: ResolvedShutdownOptions): Promise<ShutdownReport> {
    this.#sweep.stop()
    const report = await shutDown([...this.#streams], options, this.#options.clock)
    this.#wheel.stop()
    return report
  }
}

/** A request on its way to a stream. */
interface Candidate<Request> {
  readonly exchange: Exchange
  readonly request: Request
  readonly options: OpenOptions
  principal: string | null
  /** For whatever it is answered. */
  headers: Readonly<Record<string, string>>
}

/** What is logged of a request that has no stream yet. */
function fieldsOf({ request, peer }: Exchange): object {
  return {
    method: request.method,
    // A query may hold a token.
    path: request.url.split('?', 1)[0],
    address: peer?.address ?? null,
    userAgent: request.header('user-agent')?.slice(0, 200) ?? null,
  }
}

function answer({ transport }: Exchange, withAnswer: StreamAnswer): void {
  transport.attach({ roomMade() {}, ended() {}, lost() {} })
  transport.open(withAnswer)
}

/**
 * A client that takes a session over without saying where it stands goes on where the stream before it was: what had not
 * left by then is not lost.
 */
function withPosition(
  request: StreamRequest,
  log: EventLog | undefined,
  replaced: Supervised | undefined,
): StreamRequest {
  const position =
    log !== undefined && replaced?.connection.log === log ? replaced.handler.stats().lastId : null
  if (position === null || request.header('last-event-id')) return request
  return { ...request, header: (name) => (name === 'last-event-id' ? position : request.header(name)) }
}
