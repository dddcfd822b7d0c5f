import type { CloseReason } from '../close-reason.js'
import type { Chunk } from '../wire/chunk.js'
import type { StreamAnswer } from '../wire/request.js'

/**
 * The port between a connection and a server's response. A transport holds no policy: it hands bytes over and
 * tells what happened. It is used by one connection, once.
 */
export interface Transport {
  /** Bytes handed over that the operating system has not taken yet. Falls while a slow peer makes progress. */
  readonly pendingBytes: number
  /**
   * Starts to listen: from here on the sink is told. A client that has left already is told at once, from inside
   * this call. Called once, before anything else.
   */
  attach(sink: TransportSink): void
  /**
   * Answers the request. While the head of a stream has not left, `open` may be called again with another answer, which
   * takes its place, is sent whole, and ends the use of the transport. False when it is too late for that.
   */
  open(answer: StreamAnswer): boolean
  /**
   * Takes a chunk, always. True when it needs no waiting: another may follow. False: the transport calls
   * `sink.roomMade()` once, when the operating system has taken the chunk; until then nothing is written.
   */
  write(chunk: Chunk): boolean
  /** Ends the response after what was written, then calls `sink.ended()`. */
  end(): void
  /** Drops the connection and everything not yet taken, without waiting for the peer. */
  reset(): void
  /** Removes every listener; afterwards the sink is told nothing. */
  detach(): void
}

/**
 * How a transport loses its client. Where the two cannot be told apart, what the server's own program does to a connection is
 * taken for the client's doing: `stream.close()` of HTTP/2, whose code may be the client's, and `socket.destroy()`.
 */
export type LostReason = Extract<CloseReason, 'client-closed' | 'vanished' | 'transport-closed'>

/** The connection's side of its transport. None of these throws. */
export interface TransportSink {
  /** The operating system has taken the last chunk. */
  roomMade(): void
  /** The end of the stream has left. */
  ended(): void
  /**
   * The connection is over, and not by the sink's doing; the error, when the system gave one. `client-closed`: the client
   * or the network ended it. `vanished`: the operating system got no answer from the client any more.
   * `transport-closed`: somebody else ended the response.
   */
  lost(reason: LostReason, error?: unknown): void
}
