import type { CloseReason } from '../close-reason.js'
import { SSEError } from '../errors.js'

/**
 * What became of an event.
 * - `queued`: accepted. It is written when the transport has room, unless the connection closes first.
 * - `dropped`: there was no room. Only the `try*` forms, which never wait, drop.
 * - `closed`: the connection is closing or closed.
 */
export type SendOutcome = 'queued' | 'dropped' | 'closed'

/** Options of the calls that wait. */
export interface RequestOptions {
  /** Gives up waiting: the returned promise rejects with the signal's reason. A granted permit is not touched. */
  signal?: AbortSignal | undefined
}

export function closedError(reason: CloseReason): SSEError {
  return new SSEError(
    'ERR_SSE_CLOSED',
    `The stream is closed (${reason}); stop producing for it. Its signal tells when.`,
    { reason },
  )
}

/** A rejection with ERR_SSE_CLOSED that may go unnoticed. */
export function rejectedAsClosed(reason: CloseReason): Promise<never> {
  return toleratesNoCatch(Promise.reject(closedError(reason)))
}

/**
 * A client that leaves is no bug of the program: a `send` that nobody awaits must not end the process as an
 * unhandled rejection. Who awaits the promise still sees it reject.
 */
export function toleratesNoCatch<T>(promise: Promise<T>): Promise<T> {
  promise.catch(ignoreRejection)
  return promise
}

function ignoreRejection(): void {}

/** Whether an error says that the connection closed, which ends a producer and is no fault of it. */
export function isClosedError(error: unknown): error is SSEError {
  return error instanceof SSEError && error.code === 'ERR_SSE_CLOSED'
}
