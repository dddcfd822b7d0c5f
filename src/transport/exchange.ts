import type { Transport } from '../handler/transport.js'
import type { StreamRequest } from '../wire/request.js'

/** A request for a stream and what carries its answer, whatever the server: what a connection is made of. */
export interface Exchange {
  readonly transport: Transport
  readonly request: StreamRequest
  /** The two ends of the connection below; null when the server does not say. */
  readonly peer: Peer | null
  /** Whether the answer waits for that of another request on the same connection (RFC 9112, section 9.3.2). */
  isBehindAnother(): boolean
  /** Throws ERR_SSE_HEADERS_SENT when something else has been answered, or is being answered. */
  assertUnanswered(): void
  /** Calls the listener once when the client has left, at once when it has already. Returns what stops it. */
  onGone(listener: () => void): () => void
  /** Whether the connection below is known to be encrypted: behind a proxy it is not. */
  readonly isSecure: boolean
  /** Told before an answer, that no other request is wanted on the connection below. */
  lastAnswer(): void
  /**
   * Ends the connection below, which may be kept for other requests, once all that was answered has left, or after so many
   * milliseconds.
   */
  hangUp(withinMs: number): void
  /** Resets the connection below, whatever else it carries. */
  cut(): void
  /** Whether the operating system has not taken all that was given to the connection below, whatever it carries. */
  isStuck(): boolean
}

/** The two ends of a TCP connection, as the operating system names them. */
export interface Peer {
  readonly address: string
  readonly port: number
  readonly localPort: number
}
