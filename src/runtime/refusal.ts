import type { StreamAnswer } from '../wire/request.js'

/**
 * `client-left`: nobody is there to be answered. `no-stream`: the answer was none of a refusal, to HEAD or to a client that
 * accepts no event stream.
 */
type AnsweredOtherwise = 'client-left' | 'no-stream'

type Answerable = Exclude<RefusalCause, AnsweredOtherwise>

/** Why a request gets no stream. */
export type RefusalCause =
  | 'shutting-down'
  | 'max-connections'
  | 'max-bytes'
  | 'max-per-key'
  | 'pipelined'
  | 'origin'
  | 'unauthenticated'
  | 'forbidden'
  | 'hook-failed'
  | 'authorize-timeout'
  | 'session-open'
  | AnsweredOtherwise

interface Meaning {
  status: number
  title: string
  detail: string
  /** Whether to come back later is of any use. */
  retry: boolean
}

const MEANINGS: Record<Answerable, Meaning> = {
  'shutting-down': {
    status: 503,
    title: 'Service Unavailable',
    detail: 'The server is stopping; come back later.',
    retry: true,
  },
  'max-connections': {
    status: 503,
    title: 'Service Unavailable',
    detail: 'As many streams are open as the server takes; come back later.',
    retry: true,
  },
  'max-bytes': {
    status: 503,
    title: 'Service Unavailable',
    detail: 'The server holds as many events as it can; come back later.',
    retry: true,
  },
  'max-per-key': {
    status: 429,
    title: 'Too Many Requests',
    detail: 'You have as many streams open as you may; close one, or come back later.',
    retry: true,
  },
  pipelined: {
    status: 503,
    title: 'Service Unavailable',
    detail: 'The stream would wait for another answer on its connection; ask on a connection of its own.',
    retry: true,
  },
  origin: {
    status: 403,
    title: 'Forbidden',
    detail: 'Pages of this origin may not read this stream.',
    retry: false,
  },
  unauthenticated: {
    status: 401,
    title: 'Unauthorized',
    detail: 'This stream is only for clients that say who they are.',
    retry: false,
  },
  forbidden: { status: 403, title: 'Forbidden', detail: 'You may not read this stream.', retry: false },
  'hook-failed': {
    status: 500,
    title: 'Internal Server Error',
    detail: 'The server failed to decide whether you may read this stream.',
    retry: false,
  },
  'authorize-timeout': {
    status: 503,
    title: 'Service Unavailable',
    detail: 'The server took too long to decide whether you may read this stream; come back later.',
    retry: true,
  },
  'session-open': {
    status: 409,
    title: 'Conflict',
    detail: 'This session has an open stream already; close it, or come back later.',
    retry: true,
  },
}

export function isAnswerable(cause: RefusalCause): cause is Answerable {
  return cause in MEANINGS
}

/**
 * The answer of a refusal: a problem body (RFC 9457), and a delay at random, so that those who are refused together do not
 * come back together.
 */
export function refusalAnswer(
  cause: Answerable,
  retryAfterMs: number,
  headers: Readonly<Record<string, string>>,
): StreamAnswer {
  const { status, title, detail, retry } = MEANINGS[cause]
  return {
    stream: false,
    status,
    headers: {
      'Content-Type': 'application/problem+json',
      'Cache-Control': 'no-store',
      ...(retry && { 'Retry-After': String(Math.ceil((retryAfterMs * (1 + Math.random())) / 1000)) }),
      // RFC 9110, section 15.5.2, asks for a challenge; this one makes no browser ask for a password.
      ...(status === 401 && { 'WWW-Authenticate': 'Bearer' }),
      ...headers,
    },
    body: JSON.stringify({ type: 'about:blank', title, status, detail, cause }),
  }
}

/** The answer to a preflight. */
export function preflightAnswer(headers: Readonly<Record<string, string>>): StreamAnswer {
  return { stream: false, status: 204, headers, body: '' }
}
