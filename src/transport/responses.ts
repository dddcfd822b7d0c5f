import { SSEError } from '../errors.js'
import type { LostReason } from '../handler/transport.js'

/**
 * After so long without a packet the operating system asks the client whether it is there, once a second and up to ten
 * times (libuv, uv__tcp_keepalive). It asks only while all it has sent is acknowledged, so that has to be over before
 * the next heartbeat.
 */
export const KEEPALIVE_DELAY_MS = 4000

/** Responses whose head may not have left yet, though they are streams. */
const answered = new WeakSet<object>()

/** Throws for a response that has started, or that is a stream already. */
export function assertUnanswered(response: { readonly headersSent: boolean }): void {
  if (!response.headersSent && !answered.has(response)) return
  throw new SSEError(
    'ERR_SSE_HEADERS_SENT',
    'The response has started already, so it cannot become an event stream; call createSSEHandler before anything is written.',
  )
}

export function markAnswered(response: object): void {
  answered.add(response)
}

/** What the errors mean that the operating system gives when it got no answer, to keepalive probes too. */
export function lostBy(error: (Error & { code?: string }) | undefined): LostReason {
  return error?.code === 'ETIMEDOUT' || error?.code === 'EHOSTUNREACH' ? 'vanished' : 'client-closed'
}

/** Without a listener, an error of a response would end the process. The close that follows tells of it. */
export function ignoreError(): void {}
