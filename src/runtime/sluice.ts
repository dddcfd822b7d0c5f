import { assertReason, type CloseReason } from '../close-reason.js'
import type { SSEHandler } from '../handler/sse-handler.js'
import type { SSEHandlerStats } from '../handler/sse-handler-events.js'
import type { Exchange } from '../transport/exchange.js'
import { fetchExchangeOf } from '../transport/fetch.js'
import { exchangeOf, type NodeRequest, type NodeResponse } from '../transport/node.js'
import { type EndableSession, endSession } from '../transport/responses.js'
import type { EventMap } from '../wire/event.js'
import { Admission, type OpenOptions } from './admission.js'
import { Core } from './core.js'
import { type ResolvedSluiceOptions, resolveSluiceOptions, type SluiceOptions } from './options.js'
import { attachServer, type GuardedServer } from './server-guard.js'
import {
  type ResolvedShutdownOptions,
  resolveShutdownOptions,
  type ShutdownOptions,
  type ShutdownReport,
  shutDown,
} from './shutdown.js'
import type { SessionStatus } from './supervised.js'
import type { Counters, DurationHistogram } from './totals.js'

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

/** The answer to a Fetch request, and its stream; null when it was refused. With `authorize`, a promise of both. */
export type Responded<Events extends object, Waits extends boolean> = Waits extends true
  ? Promise<RespondedNow<Events>>
  : RespondedNow<Events>

interface RespondedNow<Events extends object> {
  readonly sse: SSEHandler<Events> | null
  readonly response: Response
}

/**
 * Supervises all streams of a process. Made by `createSluice`.
 *
 * @typeParam Request what the hooks get: the request of the server.
 * @typeParam Waits whether `open` waits for `authorize`.
 */
export class Sluice<Request = NodeRequest, Waits extends boolean = false> {
  readonly #options: ResolvedSluiceOptions<Request>
  readonly #core: Core
  readonly #admission: Admission<Request>
  readonly #attached = new WeakSet<GuardedServer>()
  /** Sessions of HTTP/2 of the servers that were given to `attach`. */
  readonly #sessions = new Set<EndableSession>()
  #droppedByServer = 0
  #shutdown: Promise<ShutdownReport> | null = null

  constructor(options: SluiceOptions<Request>) {
    this.#options = resolveSluiceOptions(options)
    this.#core = new Core(this.#options, this)
    this.#admission = new Admission(this.#options, this.#core)
  }

  /** Whether `open` and `respond` return promises, because there is `authorize`: for code that needs a stream at once. */
  get waits(): Waits {
    return (this.#options.authorize !== null) as Waits
  }

  /**
   * Answers a request with an event stream that is supervised, or refuses it. Null: there is no stream. The request was
   * refused and answered, or its client has left.
   *
   * Options take the place of those of `createSluice`; those of `heartbeat` and `replay`, and `headers`, one by one.
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
    return this.#now(() => this.#admit(exchangeOf(req, res), req, options))
  }

  /**
   * As `open`, for a Fetch request: of Hono, Next.js and others, with `createSluice<Request>()`. Read `response` last, when
   * the stream follows its channel: a `Response` cannot change once it is made.
   *
   * @throws SSEError as `createSSEResponse` does
   */
  respond<Events extends object = EventMap>(
    request: Request & globalThis.Request,
    options?: OpenOptions<Events>,
  ): Responded<Events, Waits> {
    return this.#now(() => {
      const exchange = fetchExchangeOf(request)
      const responded = (sse: SSEHandler<Events> | null) => ({
        sse,
        get response() {
          return exchange.transport.response
        },
      })
      const opened: unknown = this.#admit(exchange, request, options)
      const result =
        opened instanceof Promise ? opened.then(responded) : responded(opened as SSEHandler<Events> | null)
      return result as Responded<Events, Waits>
    })
  }

  /** As `open`, for any transport. `request` is what the hooks get. */
  admit<Events extends object = EventMap>(
    exchange: Exchange,
    request: Request,
    options?: OpenOptions<Events>,
  ): Opened<Events, Waits> {
    return this.#now(() => this.#admit(exchange, request, options))
  }

  /** Notes that the client of a session is there, though no event goes to it: it is not idle. False when it has no stream. */
  touch(sessionId: string): boolean {
    const streams = this.#core.streams.ofSession(sessionId)
    for (const stream of streams) stream.touch()
    return streams.length > 0
  }

  /** The open streams, oldest first. */
  sessions(): SessionStatus[] {
    return [...this.#core.streams].map((stream) => stream.status())
  }

  /** The newest open stream of a session; null when it has none. */
  session(sessionId: string): SessionStatus | null {
    return this.#core.streams.ofSession(sessionId).at(-1)?.status() ?? null
  }

  /**
   * Closes the streams that `which` picks, gracefully, and returns how many: of a user who has signed out, of a session that
   * was deleted. What `which` throws is thrown on; then none is closed.
   *
   * @throws SSEError ERR_SSE_INVALID_OPTION for a reason that is none.
   */
  close(
    which: (session: SessionStatus) => boolean,
    options: { reason?: CloseReason | undefined } = {},
  ): number {
    const { reason = 'server-closed' } = options
    assertReason(reason)
    const picked = [...this.#core.streams].filter((stream) => which(stream.status()))
    for (const { handler } of picked) void handler.close({ reason })
    return picked.length
  }

  /** Looks at every open stream: ask for it every few seconds, not for every event. */
  stats(): SluiceStats {
    const open = [...this.#core.streams].map(({ handler }) => handler.stats())
    const sum = (value: (stats: SSEHandlerStats) => number) =>
      open.reduce((total, stats) => total + value(stats), 0)
    let queuedBytes = 0
    for (const { connection } of this.#core.streams) queuedBytes += connection.heldBytes
    return {
      ...this.#core.totals.counters(open),
      open: open.length,
      authorizing: this.#admission.authorizing,
      blocked: open.filter(({ phase }) => phase === 'blocked').length,
      queuedEvents: sum((stats) => stats.queuedEvents),
      queuedBytes,
      heldBytes: this.#admission.countHeldBytes(),
      waiters: sum((stats) => stats.waiters),
      permits: sum((stats) => stats.permits),
      durations: this.#core.totals.durations(),
      droppedByServer: this.#droppedByServer,
      loopLagMs: this.#core.wheel.lagMs,
    }
  }

  /** Whether this process can take more streams: for a load balancer. */
  health(): Health {
    const { maxConnections, maxBytes } = this.#options
    const heldBytes = this.#admission.countHeldBytes()
    const status = this.#core.stopping.aborted ? 'stopping' : this.#admission.isFull ? 'overloaded' : 'ok'
    return {
      status,
      isReady: status === 'ok',
      open: this.#core.streams.size,
      maxConnections,
      heldBytes,
      maxBytes,
      loopLagMs: this.#core.wheel.lagMs,
    }
  }

  /**
   * Keeps a server from taking more TCP connections than it has streams and files for, and counts those that it drops.
   * Node says nothing when the system has no file left for a connection (EMFILE): `server.maxConnections` is set below
   * that, where it is not set already. Of an HTTP/2 server `shutdown` closes the idle sessions, too. Resolves when that is done.
   */
  async attach(server: GuardedServer): Promise<void> {
    if (this.#attached.has(server)) return
    this.#attached.add(server)
    await attachServer(server, this.#options.maxConnections, this.#core.lifecycle, {
      dropped: () => {
        this.#droppedByServer += 1
      },
      cameSession: (session) => {
        this.#sessions.add(session)
        session.once('close', () => this.#sessions.delete(session))
      },
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

  #admit<Events extends object>(
    exchange: Exchange,
    request: Request,
    options: OpenOptions<Events> = {},
  ): Opened<Events, Waits> {
    return this.#admission.admit(exchange, request, options as OpenOptions) as Opened<Events, Waits>
  }

  /** With `authorize`, misuse is told by the promise. */
  #now<Result>(result: () => Result): Result {
    if (this.#options.authorize === null) return result()
    return (async () => result())() as Result
  }

  async #shutDown(options: ResolvedShutdownOptions): Promise<ShutdownReport> {
    const { streams, wheel } = this.#core
    this.#core.stop()
    // Node closes idle connections of HTTP/1 itself when it closes a server, and those of HTTP/2 it does not.
    for (const session of this.#sessions) endSession(session, options.graceMs)
    const report = await shutDown([...streams], options, this.#options.clock)
    wheel.stop()
    return report
  }
}
