import { type Clock, systemClock } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { HANDLER_OPTIONS, resolveHandlerOptions, type SSEHandlerOptions } from '../handler/options.js'
import { delayMs, knownOptions, oneOf, wholeNumber } from '../options.js'
import { type CorsOptions, type CorsRules, resolveCors } from './cors.js'
import type { Logger } from './lifecycle.js'

/** How much a process takes on. What is above is refused, before a byte of a stream is sent. */
export interface LimitsOptions {
  /** Open streams, those that are being authorized included; one more gets 503. Minimum 1, default 10,000. */
  maxConnections?: number | undefined
  /** Open streams of one key; see `key`. Minimum 1. Default: Infinity. */
  maxPerKey?: number | undefined
  /**
   * What happens at `maxPerKey`. `refuse`: the new one gets 429. `close-oldest`: the oldest of that key is closed with the
   * reason `replaced`. Default `refuse`.
   */
  atMaxPerKey?: 'refuse' | 'close-oldest' | undefined
  /**
   * Bytes of events in all queues and in the logs that open streams read; above it, new ones get 503. Counted at most four
   * times a second. Minimum 1, default 256 MiB.
   */
  maxBytes?: number | undefined
  /** `Retry-After` of a refusal: this long to twice as long, at random. 1,000 to 2,147,483,647, default 5,000. */
  retryAfterMs?: number | undefined
}

/**
 * Who a request is from. A text names its principal, `true` admits it without one. `401`, `false` and nothing: the client
 * has to say who it is. `403`: it may not.
 */
export type Authorization = string | boolean | 401 | 403 | null | undefined

/** Options of `createSluice`: those of every connection, unless `open` gives others, and those of the whole. */
export interface SluiceOptions<Request = unknown> extends Omit<SSEHandlerOptions, 'sessionId' | 'log'> {
  limits?: LimitsOptions | undefined
  /** The key that `limits.maxPerKey` counts by. Default: the principal, else the address of the client. */
  key?: ((request: Request) => string) | undefined
  /**
   * Decides who may have a stream. With it, `open` returns a promise. The signal aborts when the client leaves or the time
   * is up. What it throws is told to the logger, and the client gets 500. Default: none, everybody may.
   */
  authorize?:
    | ((request: Request, context: { signal: AbortSignal }) => Authorization | Promise<Authorization>)
    | undefined
  /** Milliseconds `authorize` may take; then the client gets 503. 1 to 2,147,483,647, default 5,000. */
  authorizeTimeoutMs?: number | undefined
  /** Which pages of other origins may read. Default: none of it is looked at. */
  cors?: CorsOptions | undefined
  /** Names the session of a request; `open` may name it, too. Default: a random UUID. */
  sessionId?: ((request: Request) => string | undefined) | undefined
  /**
   * What happens when a session is open already. `replace`: the old stream is closed with the reason `replaced`. `refuse`:
   * the new one gets 409. `allow`: both are open. A session of another principal is refused with 403. Default `replace`.
   */
  onOpenSession?: 'replace' | 'refuse' | 'allow' | undefined
  /**
   * Milliseconds without an event after which a stream is closed with the reason `idle`, after 9/8 of it and some
   * seconds at the latest.
   * Heartbeats and comments are no events. 1 to 2,147,483,647, or Infinity. Default 600,000.
   */
  idleMs?: number | undefined
  /**
   * Milliseconds after which a stream is closed with the reason `lifetime`: each after 80 to 100 % of it, at random, so that
   * not all come back at once. 1 to 2,147,483,647, or Infinity. Default 3,600,000.
   */
  lifetimeMs?: number | undefined
  /**
   * Linux: milliseconds from one look at the kernel's socket table to the next. It finds clients that are gone without a
   * word while something is on its way to them. 1,000 to 2,147,483,647, or Infinity: never. Default 5,000.
   */
  sweepMs?: number | undefined
  /** Told each stage in the life of a connection; see the docs. Anything with pino's methods. Default: none. */
  logger?: Logger | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
}

export interface ResolvedSluiceOptions<Request> {
  handler: Omit<SSEHandlerOptions, 'sessionId' | 'log'>
  maxConnections: number
  maxPerKey: number
  atMaxPerKey: 'refuse' | 'close-oldest'
  maxBytes: number
  retryAfterMs: number
  key: ((request: Request) => string) | null
  authorize: NonNullable<SluiceOptions<Request>['authorize']> | null
  authorizeTimeoutMs: number
  cors: CorsRules | null
  sessionId: ((request: Request) => string | undefined) | null
  onOpenSession: 'replace' | 'refuse' | 'allow'
  idleMs: number
  lifetimeMs: number
  sweepMs: number
  logger: Logger | null
  clock: Clock
}

const MiB = 1024 * 1024
const MAX_TIMER_MS = 2 ** 31 - 1
const KNOWN_LIMITS: ReadonlySet<string> = new Set([
  'maxConnections',
  'maxPerKey',
  'atMaxPerKey',
  'maxBytes',
  'retryAfterMs',
])

const OF_ONE_STREAM = ['sessionId', 'log']
const KNOWN: ReadonlySet<string> = new Set([
  ...[...HANDLER_OPTIONS].filter((name) => !OF_ONE_STREAM.includes(name)),
  'limits',
  'key',
  'authorize',
  'authorizeTimeoutMs',
  'cors',
  'sessionId',
  'onOpenSession',
  'idleMs',
  'lifetimeMs',
  'sweepMs',
  'logger',
])

/** Checks the options and fills in the defaults; throws ERR_SSE_INVALID_OPTION. */
export function resolveSluiceOptions<Request>(
  options: SluiceOptions<Request>,
): ResolvedSluiceOptions<Request> {
  knownOptions('createSluice', options, KNOWN)
  const {
    limits = {},
    key,
    authorize,
    authorizeTimeoutMs,
    cors,
    sessionId,
    onOpenSession,
    idleMs,
    lifetimeMs,
    sweepMs,
    logger,
    clock,
    ...handler
  } = options
  // What is left is for each connection, and checked once here rather than at the first of them.
  resolveHandlerOptions(handler)
  knownOptions('limits', limits, KNOWN_LIMITS)
  const orNever = { min: 1, max: MAX_TIMER_MS, infinity: true }
  return {
    handler,
    maxConnections: wholeNumber('limits.maxConnections', limits.maxConnections, 10_000, { min: 1 }),
    maxPerKey: wholeNumber('limits.maxPerKey', limits.maxPerKey, Number.POSITIVE_INFINITY, {
      min: 1,
      infinity: true,
    }),
    atMaxPerKey: oneOf('limits.atMaxPerKey', limits.atMaxPerKey, 'refuse', ['refuse', 'close-oldest']),
    maxBytes: wholeNumber('limits.maxBytes', limits.maxBytes, 256 * MiB, { min: 1 }),
    retryAfterMs: delayMs('limits.retryAfterMs', limits.retryAfterMs, 5000, 1000),
    key: hook('key', key),
    authorize: hook('authorize', authorize),
    authorizeTimeoutMs: delayMs('authorizeTimeoutMs', authorizeTimeoutMs, 5000),
    cors: cors === undefined ? null : resolveCors(cors),
    sessionId: hook('sessionId', sessionId),
    onOpenSession: oneOf('onOpenSession', onOpenSession, 'replace', ['replace', 'refuse', 'allow']),
    idleMs: wholeNumber('idleMs', idleMs, 600_000, orNever),
    lifetimeMs: wholeNumber('lifetimeMs', lifetimeMs, 3_600_000, orNever),
    sweepMs: wholeNumber('sweepMs', sweepMs, 5000, { ...orNever, min: 1000 }),
    logger: withMethods('logger', logger, ['debug', 'info', 'warn', 'error']),
    clock: withMethods('clock', clock, ['now', 'setTimeout', 'clearTimeout']) ?? systemClock,
  }
}

function hook<Hook>(name: string, value: Hook | undefined): Hook | null {
  if (value === undefined || typeof value === 'function') return value ?? null
  throw new SSEError('ERR_SSE_INVALID_OPTION', `Option ${name} is ${shown(value)}; expected a function.`)
}

function withMethods<Port extends object>(
  name: string,
  value: Port | undefined,
  methods: (keyof Port & string)[],
): Port | null {
  if (value === undefined) return null
  if (
    typeof value === 'object' &&
    value !== null &&
    methods.every((method) => typeof value[method] === 'function')
  ) {
    return value
  }
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option ${name} is ${shown(value)}; expected an object with the methods ${methods.join(', ')}.`,
  )
}
