import type { EventLog } from '../buffer/event-log.js'
import { type Clock, systemClock } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { delayMs, knownOptions, oneOf, wholeNumber } from '../options.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { streamHeaders } from '../wire/headers.js'
import { checkedRedact, type Redact } from './redact.js'

/** What keeps a stream in which nothing happens from being taken for dead. */
export interface HeartbeatOptions {
  /** Milliseconds without a write after which one is sent. 1 to 2,147,483,647, default 15,000. */
  intervalMs?: number | undefined
  /**
   * `comment`: invisible to listeners. `event`: an event `heartbeat` whose data is `{"timestamp": <epoch ms>}`.
   * `none`: nothing is written. Default `comment`.
   */
  format?: 'comment' | 'event' | 'none' | undefined
  /**
   * Heartbeats in a row that fall due while the peer has taken nothing of what was written before, after which the connection is
   * closed by force with the reason `heartbeat-missed`. Minimum 1, default 3.
   */
  maxMissed?: number | undefined
}

/** How positions in the log are answered. */
export interface ReplayOptions {
  /** Where a client without a position starts in the log. Default `newest`: it gets what comes from now on. */
  start?: 'newest' | 'oldest' | undefined
  /**
   * What follows the gap event, when the client's position cannot be answered. `oldest`: all that is still held.
   * `newest`: only what comes from now on. `close`: the connection closes with reason `gap`. Default `oldest`.
   */
  afterGap?: 'oldest' | 'newest' | 'close' | undefined
}

/** Options of `createSSEHandler`. Checked before anything is sent. */
export interface SSEHandlerOptions<Events extends object = EventMap> {
  /** Names the session in events and statistics. Default: a random UUID. */
  sessionId?: string | undefined
  /**
   * The session's history: `send` appends before it writes, and a client that comes back with Last-Event-ID gets
   * what it missed. Default: none; events have no ids of their own and nothing is replayed.
   */
  log?: EventLog | undefined
  /** How positions in the log are answered. */
  replay?: ReplayOptions | undefined
  /**
   * The first event. Default `{ event: 'connected', data: { sessionId } }`; with a log it carries the client's
   * position, so that a reconnect before the next event misses nothing. `false`: none.
   */
  firstEvent?: EventInput | false | undefined
  /**
   * More headers of the response. `Content-Type`, what concerns the length and coding of the body, and what concerns one
   * connection, such as `Keep-Alive`, cannot be set; a `Cache-Control` has to say `no-transform` itself. Default: none.
   */
  headers?: Readonly<Record<string, string>> | undefined
  /**
   * Called with each event before it is encoded, to keep fields out that this client must not see; what it returns is
   * sent. When it throws, the event is refused with ERR_SSE_INVALID_EVENT. Not called for the first event, nor for
   * events of a channel, which has its own. Default: none.
   */
  redact?: Redact | undefined
  /** Milliseconds a client waits before it reconnects, told at the start. Minimum 0, default 2,000. */
  retryMs?: number | undefined
  heartbeat?: HeartbeatOptions | undefined
  /** The most events that wait to be written, permits included; then producers wait. Minimum 1, default 64. */
  maxEvents?: number | undefined
  /**
   * Bytes of encoded events that wait to be written above which no permit is given. Permits already given may
   * add one event each. Minimum 1, default 1 MiB.
   */
  maxBytes?: number | undefined
  /** The most bytes of one encoded event; a larger one is ERR_SSE_EVENT_TOO_LARGE. Minimum 1, default 256 KiB. */
  maxEventBytes?: number | undefined
  /** The most callers that wait in `requestSend` and `send`; one more is ERR_SSE_TOO_MANY_WAITERS. Minimum 0, default 1,000. */
  maxWaiters?: number | undefined
  /** Milliseconds after which an unused permit expires, 8 at least. 1 to 2,147,483,647, default 30,000. */
  leaseMs?: number | undefined
  /**
   * Milliseconds the operating system may take no bytes for a peer before it is closed by force. A full socket buffer
   * of some MB takes none until the peer has read about a third of it. 1 to 2,147,483,647, default 30,000.
   */
  writeStallMs?: number | undefined
  /** Milliseconds `close` waits for the queue to drain before it closes by force. 0 to 2,147,483,647, default 5,000. */
  drainMs?: number | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
  /** Never set: carries the event map in the type. */
  readonly _events?: Events
}

export interface ResolvedOptions {
  headers: Readonly<Record<string, string>>
  redact: Redact | null
  sessionId: string | undefined
  log: EventLog | null
  replayStart: 'newest' | 'oldest'
  afterGap: 'oldest' | 'newest' | 'close'
  firstEvent: EventInput | false | undefined
  retryMs: number
  heartbeatMs: number
  heartbeatFormat: 'comment' | 'event' | 'none'
  maxMissedHeartbeats: number
  maxEvents: number
  maxBytes: number
  maxEventBytes: number
  maxWaiters: number
  leaseMs: number
  writeStallMs: number
  drainMs: number
  clock: Clock
}

const KiB = 1024
/** The names of the options of a connection. */
export const HANDLER_OPTIONS: ReadonlySet<string> = new Set([
  'sessionId',
  'log',
  'replay',
  'firstEvent',
  'headers',
  'redact',
  'retryMs',
  'heartbeat',
  'maxEvents',
  'maxBytes',
  'maxEventBytes',
  'maxWaiters',
  'leaseMs',
  'writeStallMs',
  'drainMs',
  'clock',
])
const KNOWN_HEARTBEAT: ReadonlySet<string> = new Set(['intervalMs', 'format', 'maxMissed'])
const KNOWN_REPLAY: ReadonlySet<string> = new Set(['start', 'afterGap'])

const DEFAULTS = resolve({})

/** Checks the options and fills in the defaults; throws ERR_SSE_INVALID_OPTION before anything is sent. */
export function resolveHandlerOptions(options: SSEHandlerOptions<object> | undefined): ResolvedOptions {
  return options === undefined ? DEFAULTS : resolve(options)
}

function resolve(options: SSEHandlerOptions<object>): ResolvedOptions {
  const { heartbeat = {} } = options
  knownOptions('createSSEHandler', options, HANDLER_OPTIONS)
  knownOptions('heartbeat', heartbeat, KNOWN_HEARTBEAT)
  return {
    sessionId: checkedSessionId(options.sessionId),
    log: checkedLog(options.log),
    ...resolveReplay(options.replay),
    firstEvent: checkedFirstEvent(options.firstEvent),
    headers: streamHeaders(options.headers),
    redact: checkedRedact(options.redact),
    retryMs: wholeNumber('retryMs', options.retryMs, 2000, { min: 0 }),
    heartbeatMs: delayMs('heartbeat.intervalMs', heartbeat.intervalMs, 15_000),
    heartbeatFormat: oneOf('heartbeat.format', heartbeat.format, 'comment', ['comment', 'event', 'none']),
    maxMissedHeartbeats: wholeNumber('heartbeat.maxMissed', heartbeat.maxMissed, 3, { min: 1 }),
    maxEvents: wholeNumber('maxEvents', options.maxEvents, 64, { min: 1 }),
    maxBytes: wholeNumber('maxBytes', options.maxBytes, 1024 * KiB, { min: 1 }),
    maxEventBytes: wholeNumber('maxEventBytes', options.maxEventBytes, 256 * KiB, { min: 1 }),
    maxWaiters: wholeNumber('maxWaiters', options.maxWaiters, 1000, { min: 0 }),
    leaseMs: delayMs('leaseMs', options.leaseMs, 30_000),
    writeStallMs: delayMs('writeStallMs', options.writeStallMs, 30_000),
    drainMs: delayMs('drainMs', options.drainMs, 5000, 0),
    clock: options.clock ?? systemClock,
  }
}

export function resolveReplay(replay: ReplayOptions = {}): Pick<ResolvedOptions, 'replayStart' | 'afterGap'> {
  knownOptions('replay', replay, KNOWN_REPLAY)
  return {
    replayStart: oneOf('replay.start', replay.start, 'newest', ['newest', 'oldest']),
    afterGap: oneOf('replay.afterGap', replay.afterGap, 'oldest', ['oldest', 'newest', 'close']),
  }
}

function checkedSessionId(sessionId: string | undefined): string | undefined {
  if (sessionId === undefined || (typeof sessionId === 'string' && sessionId !== '')) return sessionId
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option sessionId is ${shown(sessionId)}; expected a string that is not empty.`,
  )
}

function checkedFirstEvent(first: EventInput | false | undefined): EventInput | false | undefined {
  if (first === undefined || first === false || (first !== null && typeof first === 'object')) return first
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option firstEvent is ${shown(first)}; expected an event such as { event, data }, or false.`,
  )
}

export function checkedLog(log: EventLog | undefined): EventLog | null {
  if (log === undefined) return null
  const methods = ['append', 'read', 'frameAt', 'bytesFrom', 'labelAt', 'onAppend'] as const
  if (log !== null && typeof log === 'object' && methods.every((name) => typeof log[name] === 'function'))
    return log
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option log is ${shown(log)}; expected an event log: createMemoryLog().`,
  )
}
