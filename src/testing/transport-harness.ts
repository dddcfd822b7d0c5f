import type { EventEmitter } from 'node:events'
import type { StreamRequest, Transport } from 'sluice'

/** A request that the suite wants a client to make. */
export interface HarnessRequest {
  method: string
  /** Path and query. Each request of a server has another one. */
  path: string
  headers: Readonly<Record<string, string>>
}

/** What a server makes of a request: the transport under test, not yet used, and the request. */
export interface HarnessExchange {
  transport: Transport
  request: StreamRequest
  /**
   * What the transport may listen to: the request, the response, the socket, the signal. The suite looks whether a listener
   * is left there after `detach`; not at those of `error`, `finish` and `data`. Default: nothing is looked at.
   */
  listenedTo?: readonly (EventEmitter | AbortSignal)[]
}

/** How the suite reaches a transport: a server that answers through it, and clients of that server. */
export interface TransportHarness {
  /** Starts a server that calls `answer` for each request, in the turn in which it gets it. */
  serve(answer: (exchange: HarnessExchange) => void): Promise<HarnessServer>
  /**
   * Has a client make a request and leave, and calls `answer` only when the server has seen that it has left. Ends what it
   * has started, and resolves. Without it, the suite has no case for a client that is gone before `attach`.
   */
  answerLate?(answer: (exchange: HarnessExchange) => void): Promise<void>
}

/** A server that runs. */
export interface HarnessServer {
  /** Has a client make a request. Resolves when it has the head of the response. */
  request(request: HarnessRequest): Promise<HarnessClient>
  /** Ends the server and what its clients hold. Called once, at the end of each case. */
  close(): unknown
}

/** One response, as its client sees it. It reads from the start. */
export interface HarnessClient {
  readonly status: number
  /** The value of a header by its lower-case name. */
  header(name: string): string | undefined
  /** The body so far. */
  readonly text: string
  /** Whether the body has ended in order: an abort is no end. */
  readonly ended: boolean
  /** Whether nothing more can come, ended or not. */
  readonly closed: boolean
  /** Stops reading, so that the transport is in time given no more room. */
  pause(): void
  resume(): void
  /** Leaves, without regard to other requests of this server. */
  leave(): void
}
