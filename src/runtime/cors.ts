import { SSEError, shown } from '../errors.js'
import { knownOptions, wholeNumber } from '../options.js'
import type { Exchange } from '../transport/exchange.js'
import { isHeaderName } from '../wire/headers.js'
import type { StreamRequest } from '../wire/request.js'

/** Which pages of other origins may read streams (Fetch standard, section 3.2: the CORS protocol). */
export interface CorsOptions {
  /** Origins such as `https://app.example`, a function that decides, or `*` for all, which excludes credentials. */
  origins: '*' | readonly string[] | ((origin: string) => boolean)
  /** Whether cookies and the like may be sent along. Default false. */
  credentials?: boolean | undefined
  /** Request headers that are allowed besides those of an event stream. Default: none. */
  headers?: readonly string[] | undefined
  /** Seconds a browser may keep the answer to a preflight. Minimum 0, default 600. */
  maxAgeSeconds?: number | undefined
}

/** What a request gets: headers for its answer, or no stream at all. */
interface CorsVerdict {
  kind: 'allowed' | 'preflight' | 'refused'
  headers: Readonly<Record<string, string>>
}

export type CorsRules = (exchange: Pick<Exchange, 'request' | 'isSecure'>) => CorsVerdict

/** What clients of event streams send. */
const STREAM_REQUEST_HEADERS = ['Last-Event-ID', 'Authorization', 'Cache-Control', 'Content-Type']

const KNOWN: ReadonlySet<string> = new Set(['origins', 'credentials', 'headers', 'maxAgeSeconds'])

/** Checks the options; throws ERR_SSE_INVALID_OPTION. */
export function resolveCors(options: CorsOptions): CorsRules {
  knownOptions('cors', options, KNOWN)
  const { origins, credentials = false, headers = [] } = options
  const maxAge = wholeNumber('cors.maxAgeSeconds', options.maxAgeSeconds, 600, { min: 0 })
  const isAllowed = originTest(origins)
  if (typeof credentials !== 'boolean') {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `Option cors.credentials is ${shown(credentials)}; expected true or false.`,
    )
  }
  if (!Array.isArray(headers) || !headers.every((name) => isHeaderName(name))) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `Option cors.headers is ${shown(headers)}; expected an array of names of headers.`,
    )
  }
  if (origins === '*' && credentials) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'Option cors.credentials cannot be true when cors.origins is "*": browsers refuse it. Name the origins.',
    )
  }
  const preflight = {
    'Access-Control-Allow-Methods': 'GET, POST, HEAD',
    'Access-Control-Allow-Headers': [...STREAM_REQUEST_HEADERS, ...headers].join(', '),
    'Access-Control-Max-Age': String(maxAge),
  }
  // Whatever the answer is, it is of this origin (Fetch standard, section 3.2.5).
  const vary: Record<string, string> = origins === '*' ? {} : { Vary: 'Origin' }
  return ({ request, isSecure }) => {
    const origin = request.header('origin')
    const isPreflight =
      request.method === 'OPTIONS' && request.header('access-control-request-method') !== undefined
    // Browsers name the origin of every request from elsewhere; without one there is nothing to check.
    if (origin === undefined) return { kind: 'allowed', headers: vary }
    if (!isSameOrigin(origin, request, isSecure) && !isAllowed(origin))
      return { kind: 'refused', headers: vary }
    const answer = {
      ...vary,
      'Access-Control-Allow-Origin': origins === '*' ? '*' : origin,
      'Access-Control-Expose-Headers': 'Retry-After',
      ...(credentials && { 'Access-Control-Allow-Credentials': 'true' }),
    }
    return isPreflight
      ? { kind: 'preflight', headers: { ...answer, ...preflight } }
      : { kind: 'allowed', headers: answer }
  }
}

/**
 * A page posts to its own server with an Origin header, too. Over TLS a page of the same host without TLS is another origin;
 * where TLS may end at a proxy it cannot be told from its own.
 */
function isSameOrigin(origin: string, request: StreamRequest, isSecure: boolean): boolean {
  const host = request.header('host')
  return host !== undefined && (origin === `https://${host}` || (!isSecure && origin === `http://${host}`))
}

function originTest(origins: CorsOptions['origins']): (origin: string) => boolean {
  if (origins === '*') return () => true
  if (typeof origins === 'function') return (origin) => origins(origin) === true
  const isList =
    Array.isArray(origins) &&
    origins.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin)
  if (!isList) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `Option cors.origins is ${Array.isArray(origins) ? shown(origins.join(', ')) : shown(origins)}; expected "*", a function, or origins such as "https://app.example", without a path.`,
    )
  }
  const allowed = new Set(origins)
  return (origin) => allowed.has(origin)
}
