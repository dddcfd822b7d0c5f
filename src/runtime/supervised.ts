import type { Clock, Timer } from '../clock.js'
import type { CloseReason } from '../close-reason.js'
import type { Gap } from '../handler/gap.js'
import type { ConnectionObserver, Observable } from '../handler/observe.js'
import { connectionOf, type SSEHandler } from '../handler/sse-handler.js'
import type { ClosedInfo, SSEHandlerStats } from '../handler/sse-handler-events.js'
import type { Exchange, Peer } from '../transport/exchange.js'
import { type ClientKind, clientKind } from './client-kind.js'
import type { Lifecycle } from './lifecycle.js'
import type { Registered } from './registry.js'
import type { Sweepable } from './vanished.js'

/** Idle time is counted in eighths, so that nothing has to be noted for each event. */
const LOOKS_PER_IDLE = 8

/** Lifetimes end within their last fifth, at random. */
const LIFETIME_JITTER = 0.2

/** Why a client is closed that takes nothing. */
const STALLS: readonly CloseReason[] = ['write-stalled', 'heartbeat-missed']

/** An open stream, as `sessions()` tells it. */
export interface SessionStatus extends SSEHandlerStats {
  /** Who it belongs to, as `authorize` said; null when it said nobody. */
  principal: string | null
  /** What `limits.maxPerKey` counts it by. */
  key: string
  /** The address of the client; null when the server does not say. */
  address: string | null
  /** The User-Agent header, at most 200 characters of it. */
  userAgent: string | null
  client: ClientKind
  /** Whether the client came with a position to resume from. */
  isResumed: boolean
  /** Milliseconds since the program last sent an event or touched the session, to 1/8 of `idleMs`. */
  idleMs: number
}

/** What is decided about a stream before it opens. */
export interface Admitted {
  sessionId: string
  key: string
  principal: string | null
}

export interface SupervisorLimits {
  idleMs: number
  lifetimeMs: number
  clock: Clock
}

/** Who looks after the streams. */
export interface Supervisor {
  readonly lifecycle: Lifecycle
  heartbeatMissed(): void
  terminated(stream: Supervised, info: ClosedInfo, stats: SSEHandlerStats): void
}

/** One stream of a process: what is known of it, and how long it may go on. */
export class Supervised implements ConnectionObserver, Registered, Sweepable {
  readonly sessionId: string
  readonly key: string
  readonly principal: string | null
  readonly peer: Peer | null
  readonly client: ClientKind
  readonly handler: SSEHandler
  readonly connection: Observable
  readonly #exchange: Exchange
  readonly #supervisor: Supervisor
  readonly #limits: SupervisorLimits
  readonly #endsAt: number
  #timer: Timer | null = null
  #activeAt: number
  #eventsSeen = -1
  #heartbeats = 0
  /** Whether it had to be reset. */
  wasForced = false

  constructor(
    handler: SSEHandler,
    exchange: Exchange,
    { sessionId, key, principal }: Admitted,
    limits: SupervisorLimits,
    supervisor: Supervisor,
  ) {
    this.sessionId = sessionId
    this.key = key
    this.principal = principal
    this.peer = exchange.peer
    this.client = clientKind(exchange.request.header('user-agent'))
    this.handler = handler
    this.connection = connectionOf(handler) as Observable
    this.#exchange = exchange
    this.#supervisor = supervisor
    this.#limits = limits
    const now = limits.clock.now()
    this.#activeAt = now
    this.#endsAt = now + limits.lifetimeMs * (1 - LIFETIME_JITTER * Math.random())
    this.connection.observe(this)
    this.#watch()
  }

  get isClosing(): boolean {
    const { phase } = this.connection
    return phase === 'draining' || phase === 'closed'
  }

  status(): SessionStatus {
    this.#noteEvents()
    return {
      ...this.handler.stats(),
      principal: this.principal,
      key: this.key,
      address: this.peer?.address ?? null,
      userAgent: this.#userAgent,
      client: this.client,
      isResumed: this.handler.lastEventId !== null,
      idleMs: Math.round(this.#limits.clock.now() - this.#activeAt),
    }
  }

  /** The client has shown in another way that it is there: it is not idle. */
  touch(): void {
    this.#activeAt = this.#limits.clock.now()
  }

  /** What every line of the log says. */
  fields(): { sessionId: string; address: string | null; principal: string | null } {
    return { sessionId: this.sessionId, address: this.peer?.address ?? null, principal: this.principal }
  }

  establishedFields(): object {
    const { client, handler } = this
    return {
      ...this.fields(),
      userAgent: this.#userAgent,
      client,
      isResumed: handler.lastEventId !== null,
    }
  }

  /** Tells the client when to come back, and ends the stream when all that was accepted has left, or the time is up. */
  end(reason: CloseReason, withinMs: number, retryMs?: number): void {
    if (retryMs !== undefined) this.handler.retry(retryMs)
    this.connection.drainWithin(withinMs)
    void this.handler.close({ reason })
  }

  /** Ends the connection under the stream, once that has ended. */
  hangUp(withinMs: number): void {
    this.#exchange.hangUp(withinMs)
  }

  heartbeat(missed: number): void {
    if (missed > 0) this.#supervisor.heartbeatMissed()
    else this.#heartbeats += 1
    const { lifecycle } = this.#supervisor
    if (missed > 0) lifecycle.tell('heartbeat-missed', () => ({ ...this.fields(), missed }))
    else lifecycle.tell('heartbeat', () => ({ ...this.fields(), count: this.#heartbeats }))
  }

  blocked(): void {
    this.#supervisor.lifecycle.tell('blocked', () => this.fields())
  }

  gap(gap: Gap): void {
    this.#supervisor.lifecycle.tell('gap', () => ({ ...this.fields(), gap }))
  }

  closing(reason: CloseReason): void {
    this.#stopWatching()
    this.#supervisor.lifecycle.tell('closing', () => ({ ...this.fields(), reason }))
  }

  forced(reason: CloseReason): void {
    this.wasForced = true
    // A client that takes nothing at all: over HTTP/2 the reset of one stream would wait for it, too.
    const hasStalled = STALLS.includes(reason) || this.connection.phase === 'draining'
    if (hasStalled && this.#exchange.isStuck()) this.#exchange.cut()
    this.#supervisor.lifecycle.tell('forced', () => ({ ...this.fields(), reason }))
  }

  closed(info: ClosedInfo, stats: SSEHandlerStats): void {
    this.#stopWatching()
    this.#supervisor.terminated(this, info, stats)
  }

  vanished(): void {
    this.handler.abort('vanished')
    this.#exchange.cut()
  }

  get #userAgent(): string | null {
    return this.#exchange.request.header('user-agent')?.slice(0, 200) ?? null
  }

  #stopWatching(): void {
    if (this.#timer !== null) this.#limits.clock.clearTimeout(this.#timer)
    this.#timer = null
  }

  #watch(): void {
    const { idleMs, clock } = this.#limits
    const untilEnd = this.#endsAt - clock.now()
    const nextMs = Math.min(idleMs / LOOKS_PER_IDLE, untilEnd)
    if (nextMs === Number.POSITIVE_INFINITY) return
    this.#timer = clock.setTimeout(() => this.#look(), Math.max(1, Math.ceil(nextMs)))
  }

  /** When an event was sent is not known more exactly than that it was since the last look. */
  #noteEvents(): void {
    const { eventsSent } = this.connection
    if (eventsSent === this.#eventsSeen) return
    this.#eventsSeen = eventsSent
    this.#activeAt = this.#limits.clock.now()
  }

  #look(): void {
    const now = this.#limits.clock.now()
    this.#noteEvents()
    this.#watch()
    if (now >= this.#endsAt) void this.handler.close({ reason: 'lifetime' })
    else if (now - this.#activeAt >= this.#limits.idleMs) void this.handler.close({ reason: 'idle' })
  }
}
