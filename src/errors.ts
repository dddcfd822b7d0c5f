/** Every `code` an {@link SSEError} can have. The set is closed: a new code is a minor release. */
export type SSEErrorCode =
  | 'ERR_SSE_ALREADY_SUBSCRIBED'
  | 'ERR_SSE_CLOSED'
  | 'ERR_SSE_EVENT_TOO_LARGE'
  | 'ERR_SSE_HEADERS_SENT'
  | 'ERR_SSE_INVALID_EVENT'
  | 'ERR_SSE_INVALID_OPTION'
  | 'ERR_SSE_INVALID_SOURCE'
  | 'ERR_SSE_LOG_FAILED'
  | 'ERR_SSE_PERMIT_EXPIRED'
  | 'ERR_SSE_PERMIT_SPENT'
  | 'ERR_SSE_POOL_FULL'
  | 'ERR_SSE_TOO_MANY_CHANNELS'
  | 'ERR_SSE_TOO_MANY_WAITERS'

/** What an {@link SSEError} carries besides its code and message. */
export interface SSEErrorOptions {
  /** The error behind this one. */
  cause?: unknown
  /** Why the connection closed. Only with `ERR_SSE_CLOSED`. */
  reason?: string
}

/**
 * The one error class of sluice. The message says what was wrong, what was expected and what to do;
 * `code` is what a program should look at.
 */
export class SSEError extends Error {
  override readonly name = 'SSEError'
  readonly code: SSEErrorCode
  /** Why the connection closed, with `ERR_SSE_CLOSED`; otherwise undefined. */
  readonly reason: string | undefined

  constructor(code: SSEErrorCode, message: string, options: SSEErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.reason = options.reason
  }
}

/** The text of whatever was thrown. Never throws, which `String` does for some values. */
export function textOf(error: unknown): string {
  try {
    return String(error)
  } catch {
    return 'something thrown that cannot be shown'
  }
}

/** A short, safe rendering of a value for an error message. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return `function ${value.name || '(anonymous)'}`
  if (value === null || typeof value !== 'object') return String(value)
  return Array.isArray(value) ? 'an array' : 'an object'
}
