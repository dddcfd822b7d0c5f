import { SSEError, shown } from './errors.js'

/**
 * Why a connection closed. Each connection has one; the first cause wins.
 *
 * | reason | cause |
 * |---|---|
 * | `client-closed` | the client left, or the network reset the connection |
 * | `vanished` | the client is gone without a word: the operating system got no answer any more |
 * | `transport-closed` | somebody else ended the response, such as a middleware |
 * | `server-closed` | `close()` without a reason of its own |
 * | `completed` | the program said that the stream is complete |
 * | `shutdown` | the server stops: `sluice.shutdown()`, or the program said so |
 * | `replaced` | another stream took its place: of its session, or of its key; or the program said so |
 * | `unauthorized` | the program said that the client may not go on, as with `sluice.close` |
 * | `aborted` | `abort()` without a reason of its own |
 * | `error` | `sendError()` |
 * | `slow-consumer` | a source that cannot be paused overran its buffer under the policy `close` |
 * | `gap` | the client's position cannot be answered and `replay.afterGap` is `close` |
 * | `heartbeat-missed` | heartbeats in a row could not be written, because the peer took nothing in between |
 * | `idle` | the program sent nothing for `idleMs` |
 * | `lifetime` | the connection was open for `lifetimeMs` |
 * | `write-stalled` | the peer took no bytes for `writeStallMs` |
 * | `transport-error` | writing failed |
 * | `refused` | the request got another answer than a stream: HEAD, or an Accept header without event streams |
 */
export type CloseReason = (typeof CLOSE_REASONS)[number]

export const CLOSE_REASONS = [
  'client-closed',
  'vanished',
  'transport-closed',
  'server-closed',
  'completed',
  'shutdown',
  'replaced',
  'unauthorized',
  'aborted',
  'error',
  'slow-consumer',
  'gap',
  'heartbeat-missed',
  'idle',
  'lifetime',
  'write-stalled',
  'transport-error',
  'refused',
] as const

/** Throws ERR_SSE_INVALID_OPTION for a reason that is none. */
export function assertReason(reason: CloseReason): void {
  if (CLOSE_REASONS.includes(reason)) return
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `The close reason is ${shown(reason)}; expected one of ${CLOSE_REASONS.join(', ')}.`,
  )
}
