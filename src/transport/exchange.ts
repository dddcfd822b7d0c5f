import type { Transport } from '../handler/transport.js'
import type { StreamRequest } from '../wire/request.js'

/** A request and the way to answer it, whatever the server: what a supervisor decides upon. */
export interface Exchange {
  readonly transport: Transport
  readonly request: StreamRequest
  /** The other end of the connection; null when the server does not say. */
  readonly peer: Peer | null
  /** Calls the listener once when the client has left, at once when it has already. Returns what stops it. */
  onGone(listener: () => void): () => void
  /** Ends the connection itself, after what was answered, when it would be kept for another request. */
  hangUp(): void
}

/** The two ends of a TCP connection, as the operating system names them. */
export interface Peer {
  readonly address: string
  readonly port: number
  readonly localPort: number
}
