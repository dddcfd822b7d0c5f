import type { EventLog } from '../buffer/event-log.js'
import type { Clock } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { checkedLog, HANDLER_OPTIONS, type SSEHandlerOptions } from '../handler/options.js'
import { connectionOf, SSEHandler } from '../handler/sse-handler.js'
import { knownOptions } from '../options.js'
import type { Exchange } from '../transport/exchange.js'
import type { EventMap } from '../wire/event.js'
import { streamHeaders } from '../wire/headers.js'
import { positionOf, type StreamAnswer, type StreamRequest } from '../wire/request.js'
import { authorized } from './authorize.js'
import type { ResolvedSluiceOptions } from './options.js'
import { isAnswerable, preflightAnswer, type RefusalCause, refusalAnswer } from './refusal.js'
import type { Registry } from './registry.js'
import { Supervised, type Supervisor } from './supervised.js'
import type { Totals } from './totals.js'

/** Options of one stream: those of `createSSEHandler`, but for the clock. */
export type OpenOptions<Events extends object = EventMap> = Omit<SSEHandlerOptions<Events>, 'clock'>

/** The bytes in all queues and logs are summed up no more often than this. */
const BYTES_COUNTED_EVERY_MS = 250

const OPEN_OPTIONS: ReadonlySet<string> = new Set([...HANDLER_OPTIONS].filter((name) => name !== 'clock'))

/** What an admission is part of. */
export interface Admitting extends Supervisor {
  readonly streams: Registry<Supervised>
  readonly totals: Totals
  /** The time of all streams. */
  readonly wheel: Clock
  /** Aborts when the process stops. */
  readonly stopping: AbortSignal
  /** Keeps a stream that is open. */
  opened(stream: Supervised): void
}

/** A request on its way to a stream. */
interface Candidate<Request> {
  readonly exchange: Exchange
  readonly request: Request
  readonly options: OpenOptions
  principal: string | null
  isAuthorized: boolean
  /** The session it takes over, when there is no room for another stream. */
  takesOver: string | null
  /** For whatever it is answered. */
  headers: Readonly<Record<string, string>>
}

/** Decides who gets a stream, and answers the others. */
export class Admission<Request> {
  readonly #options: ResolvedSluiceOptions<Request>
  readonly #sluice: Admitting
  /** Who a log was first opened for, who may have no name: it is nobody else's history. */
  readonly #ownerOfLog = new WeakMap<EventLog, string | null>()
  #authorizing = 0
  /** Sessions that are taken over beyond the limit, by requests that wait for `authorize`. */
  readonly #takingOver = new Set<string>()
  #heldBytes = 0
  #heldBytesAt = Number.NEGATIVE_INFINITY

  constructor(options: ResolvedSluiceOptions<Request>, sluice: Admitting) {
    this.#options = options
    this.#sluice = sluice
  }

  /** Requests that wait for `authorize`. */
  get authorizing(): number {
    return this.#authorizing
  }

  /** Whether there are as many streams, or bytes, as the limits allow. */
  get isFull(): boolean {
    return this.#overload() !== null
  }

  admit(
    exchange: Exchange,
    request: Request,
    options: OpenOptions,
  ): SSEHandler | null | Promise<SSEHandler | null> {
    checkOpenOptions(options)
    const { authorize } = this.#options
    const candidate: Candidate<Request> = {
      exchange,
      request,
      options,
      principal: null,
      isAuthorized: authorize === null,
      takesOver: null,
      headers: {},
    }
    this.#sluice.lifecycle.tell('establishing', () => fieldsOf(exchange))
    if (!this.#passesOrigin(candidate) || !this.#passesLimits(candidate)) return null
    return authorize === null ? this.#enter(candidate) : this.#authorize(candidate, authorize)
  }

  /** Bytes in all queues, and in the logs that open streams read; a quarter of a second old at most. */
  countHeldBytes(): number {
    const now = this.#options.clock.now()
    if (now - this.#heldBytesAt < BYTES_COUNTED_EVERY_MS) return this.#heldBytes
    const logs = new Set<EventLog>()
    let bytes = 0
    for (const { connection } of this.#sluice.streams) {
      bytes += connection.heldBytes
      if (connection.log !== null) logs.add(connection.log)
    }
    for (const log of logs) bytes += this.#bytesOf(log)
    this.#heldBytes = bytes
    this.#heldBytesAt = now
    return bytes
  }

  /** A log may be the program's, and throw: that is no reason to refuse anybody. */
  #bytesOf(log: EventLog): number {
    try {
      return log.bytesFrom(log.oldest)
    } catch (error) {
      this.#sluice.lifecycle.log('warn', { err: error }, 'sse log cannot say how much it holds')
      return 0
    }
  }

  #passesOrigin(candidate: Candidate<Request>): boolean {
    const { cors } = this.#options
    if (cors === null) return true
    const verdict = this.#asked(candidate, () => cors(candidate.exchange))
    if (verdict === undefined) return false
    candidate.headers = verdict.headers
    if (verdict.kind === 'refused') this.#refuse(candidate, 'origin')
    if (verdict.kind === 'preflight') this.#answerPreflight(candidate)
    return verdict.kind === 'allowed'
  }

  #answerPreflight({ exchange, headers }: Candidate<Request>): void {
    if (this.#sluice.stopping.aborted) exchange.lastAnswer()
    answer(exchange, preflightAnswer(headers))
  }

  #passesLimits(candidate: Candidate<Request>): boolean {
    if (candidate.exchange.isBehindAnother()) {
      this.#refuse(candidate, 'pipelined')
      return false
    }
    const cause = this.#sluice.stopping.aborted ? 'shutting-down' : this.#overload()
    // A client that is back before its old stream is known to be dead takes nobody's place.
    candidate.takesOver = cause === 'max-connections' ? this.#takenOver(candidate) : null
    if (cause === null || candidate.takesOver !== null) return true
    this.#refuse(candidate, cause)
    return false
  }

  /** The open session that a request beyond the limit would take over, one at a time; null when there is none. */
  #takenOver({ request, options, principal, isAuthorized }: Candidate<Request>): string | null {
    const { onOpenSession, sessionId } = this.#options
    if (onOpenSession !== 'replace') return null
    try {
      const name = options.sessionId ?? named('sessionId', sessionId?.(request))
      if (name === undefined || this.#takingOver.has(name)) return null
      const open = this.#sluice.streams.ofSession(name)
      const isItsOwn = open.every((stream) => !isAuthorized || stream.principal === principal)
      return open.length > 0 && isItsOwn ? name : null
    } catch {
      // A hook that fails lets nobody in.
      return null
    }
  }

  #overload(): 'max-connections' | 'max-bytes' | null {
    const { maxConnections, maxBytes } = this.#options
    if (this.#sluice.streams.size + this.#authorizing >= maxConnections) return 'max-connections'
    return this.countHeldBytes() >= maxBytes ? 'max-bytes' : null
  }

  async #authorize(
    candidate: Candidate<Request>,
    authorize: NonNullable<ResolvedSluiceOptions<Request>['authorize']>,
  ): Promise<SSEHandler | null> {
    const { exchange, request } = candidate
    const { authorizeTimeoutMs, clock } = this.#options
    const patience = { timeoutMs: authorizeTimeoutMs, clock, stopping: this.#sluice.stopping }
    const { takesOver } = candidate
    this.#authorizing += 1
    if (takesOver !== null) this.#takingOver.add(takesOver)
    const outcome = await authorized(exchange, request, authorize, patience).finally(() => {
      this.#authorizing -= 1
      if (takesOver !== null) this.#takingOver.delete(takesOver)
    })
    // The program has had time to answer something else.
    exchange.assertUnanswered()
    if ('refused' in outcome) return this.#refuse(candidate, outcome.refused, outcome.error)
    candidate.principal = outcome.principal
    candidate.isAuthorized = true
    return this.#passesLimits(candidate) ? this.#enter(candidate) : null
  }

  #enter(candidate: Candidate<Request>): SSEHandler | null {
    const { exchange, options, principal } = candidate
    const names = this.#namesOf(candidate)
    if (names === null) return null
    // A hook may have stopped it.
    if (this.#sluice.stopping.aborted) return this.#refuse(candidate, 'shutting-down')
    const { sessionId, key } = names
    const { streams, wheel } = this.#sluice
    const { onOpenSession, atMaxPerKey, idleMs, lifetimeMs } = this.#options

    const ofSession = streams.ofSession(sessionId).filter((stream) => !stream.isClosing)
    const isForeign = ofSession.some((stream) => stream.principal !== principal)
    if (isForeign || !this.#mayRead(options.log, principal)) return this.#refuse(candidate, 'forbidden')
    if (ofSession.length > 0 && onOpenSession === 'refuse') return this.#refuse(candidate, 'session-open')
    const replaced = onOpenSession === 'replace' ? ofSession : []
    const oldest = this.#oneTooMany(key, replaced)
    if (oldest !== null && atMaxPerKey === 'refuse') return this.#refuse(candidate, 'max-per-key')

    const handler = this.#create(candidate, sessionId, replaced.at(-1))
    if (handler.phase === 'closed') return this.#closedAtOnce(candidate, handler)
    this.#claim(options.log, principal)
    const limits = { idleMs, lifetimeMs, clock: wheel }
    const stream = new Supervised(handler, exchange, { sessionId, key, principal }, limits, this.#sluice)
    // Before anything that runs code of the user, which may close it.
    this.#sluice.opened(stream)
    this.#cutEnding(stream)
    for (const old of oldest === null ? replaced : [...replaced, oldest])
      void old.handler.close({ reason: 'replaced' })
    // A hook may have had it stopped meanwhile.
    if (this.#sluice.stopping.aborted) stream.end('shutdown', 0)
    return handler
  }

  #namesOf(candidate: Candidate<Request>): { sessionId: string; key: string } | null {
    const { exchange, request, options, principal } = candidate
    const { sessionId, key } = this.#options
    const names = this.#asked(candidate, () => ({
      sessionId: options.sessionId ?? named('sessionId', sessionId?.(request)) ?? crypto.randomUUID(),
      key: named('key', key?.(request)) ?? principal ?? exchange.peer?.address ?? '',
    }))
    return names ?? null
  }

  /** The stream that has to go for another one of this key; null when there is room. */
  #oneTooMany(key: string, replaced: readonly Supervised[]): Supervised | null {
    const { maxPerKey } = this.#options
    if (maxPerKey === Number.POSITIVE_INFINITY) return null
    const others = this.#sluice.streams
      .ofKey(key)
      .filter((stream) => !stream.isClosing && !replaced.includes(stream))
    return others.length < maxPerKey ? null : (others[0] ?? null)
  }

  /**
   * Streams that drain take places, too: of a session that is taken over again and again, or of a key, no more than it may
   * have open.
   */
  #cutEnding({ sessionId, key, principal }: Supervised): void {
    const { onOpenSession, maxPerKey } = this.#options
    const { streams } = this.#sluice
    const isEnding = (stream: Supervised) => stream.isClosing && stream.principal === principal
    const ofSession = onOpenSession === 'replace' ? streams.ofSession(sessionId).filter(isEnding) : []
    const ofKey = maxPerKey === Number.POSITIVE_INFINITY ? [] : streams.ofKey(key).filter(isEnding)
    const tooMany = ofKey.slice(0, Math.max(0, ofKey.length + 1 - maxPerKey))
    for (const { handler } of [...ofSession, ...tooMany]) handler.abort('replaced')
  }

  #mayRead(log: EventLog | undefined, principal: string | null): boolean {
    return log === undefined || !this.#ownerOfLog.has(log) || this.#ownerOfLog.get(log) === principal
  }

  #claim(log: EventLog | undefined, principal: string | null): void {
    if (log !== undefined) this.#ownerOfLog.set(log, principal)
  }

  #create(candidate: Candidate<Request>, sessionId: string, replaced: Supervised | undefined): SSEHandler {
    const { exchange, options, headers } = candidate
    const { handler } = this.#options
    return new SSEHandler(exchange.transport, withPosition(exchange.request, options.log, replaced), {
      ...handler,
      ...given(options),
      heartbeat: { ...handler.heartbeat, ...given(options.heartbeat) },
      replay: { ...handler.replay, ...given(options.replay) },
      headers: mergedHeaders(handler.headers, options.headers, headers),
      sessionId,
      clock: this.#sluice.wheel,
    })
  }

  /** A HEAD request, or one that accepts no stream, has been answered; a client that has left cannot be. */
  #closedAtOnce(candidate: Candidate<Request>, handler: SSEHandler): null {
    return this.#refuse(candidate, connectionOf(handler)?.reason === 'refused' ? 'no-stream' : 'client-left')
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

  #refuse({ exchange, headers }: Candidate<Request>, cause: RefusalCause, error?: unknown): null {
    const { lifecycle, totals } = this.#sluice
    totals.refused(cause)
    lifecycle.tell('refused', () => ({
      ...fieldsOf(exchange),
      cause,
      ...(error !== undefined && { err: error }),
    }))
    if (this.#sluice.stopping.aborted) exchange.lastAnswer()
    if (isAnswerable(cause)) answer(exchange, refusalAnswer(cause, this.#options.retryAfterMs, headers))
    return null
  }
}

/** What is wrong with the options of one stream is misuse, and told before anything is answered. */
function checkOpenOptions(options: OpenOptions): void {
  knownOptions('open', options, OPEN_OPTIONS)
  checkedLog(options.log)
  streamHeaders(options.headers)
}

/** The options that are not left out. */
function given<Options extends object>(options: Options | undefined): Options {
  const entries = Object.entries(options ?? {}).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as Options
}

/** Those of the stream take the place of those of all; `Vary` is all that anybody says (RFC 9110, section 12.5.5). */
function mergedHeaders(...sets: (Readonly<Record<string, string>> | undefined)[]): Record<string, string> {
  const merged: Record<string, string> = {}
  const nameOf = (name: string) =>
    Object.keys(merged).find((known) => known.toLowerCase() === name.toLowerCase()) ?? name
  for (const [name, value] of sets.flatMap((set) => Object.entries(set ?? {}))) {
    const known = nameOf(name)
    const before = merged[known]
    merged[known] = known.toLowerCase() === 'vary' && before !== undefined ? `${before}, ${value}` : value
  }
  return merged
}

/** What a hook named, from what the client sent: nothing at all is no name, and anything but a text a fault of the hook. */
function named(hook: string, name: unknown): string | undefined {
  if (name === undefined || name === null || name === '') return undefined
  if (typeof name === 'string') return name
  throw new SSEError('ERR_SSE_INVALID_OPTION', `The hook ${hook} returned ${shown(name)}; expected a text.`)
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
  transport.detach()
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
  if (position === null || positionOf(request) !== null) return request
  return { ...request, header: (name) => (name === 'last-event-id' ? position : request.header(name)) }
}
