import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import type { Transport, TransportSink } from '../handler/transport.js'
import type { Chunk } from '../wire/chunk.js'
import { HEADERS_OF_ONE_HOP, HEADERS_TO_REMOVE } from '../wire/headers.js'
import type { StreamAnswer, StreamRequest } from '../wire/request.js'
import type { Exchange } from './exchange.js'
import { ReplacedWrite } from './replaced-write.js'
import {
  assertUnanswered,
  endSession,
  ignoreError,
  isEncrypted,
  KEEPALIVE_DELAY_MS,
  lostBy,
  markAnswered,
  peerOf,
  resetSocket,
  untakenBytes,
  withVaryOf,
} from './responses.js'

/**
 * The most bytes given to the stream at once, which tells of them only when all have gone: a client that reads slowly is
 * seen to make progress. It is the size of a frame, so that a larger write is made of several all the same.
 */
const PIECE_BYTES = 16 * 1024

/** The objects that the compatibility API of `node:http2` puts around a stream. */
export interface Compat {
  req: Http2ServerRequest
  res: Http2ServerResponse
}

export function http2Exchange(
  request: StreamRequest,
  stream: ServerHttp2Stream,
  compat: Compat | null = null,
): Exchange {
  const { session } = stream
  return {
    request,
    transport: new Http2Transport(stream, compat),
    peer: session === undefined || session.destroyed ? null : peerOf(session.socket),
    isBehindAnother: () => false,
    assertUnanswered: () => assertUnanswered(compat?.res ?? stream),
    onGone(listener) {
      if (stream.closed || stream.destroyed) listener()
      else stream.once('close', listener)
      return () => void stream.off('close', listener)
    },
    isSecure: session !== undefined && !session.destroyed && isEncrypted(session.socket),
    lastAnswer: () => session?.close(),
    hangUp(withinMs) {
      if (session !== undefined) endSession(session, withinMs)
    },
    // A session that is over does not give its socket any more: another stream of it may have been cut before.
    isStuck: () => session !== undefined && !session.destroyed && (untakenBytes(session.socket) ?? 0) > 0,
    cut() {
      if (session === undefined || session.destroyed) return
      resetSocket(session.socket)
      session.destroy()
    },
  }
}

/** A stream of `node:http2`. The session is left alone: what happens to it the stream tells. */
class Http2Transport implements Transport {
  readonly #stream: ServerHttp2Stream
  readonly #compat: Compat | null
  /** Made when a middleware turns out to have replaced `write`. */
  #replaced: ReplacedWrite | null = null
  #sink: TransportSink | null = null
  /** The head of the stream, until the first write sends it. */
  #head: Readonly<Record<string, string>> | null = null
  /** What the stream was not given yet of the last chunk. */
  #rest: Uint8Array | null = null
  /** Whether the connection has ended the response itself. */
  #isEnded = false

  /** Whether a middleware that has replaced `write` has asked to wait. */
  #isWaiting = false

  /** Whether the server's own program has destroyed the stream, or its session. */
  #isDestroyedByOthers = false

  constructor(stream: ServerHttp2Stream, compat: Compat | null = null) {
    this.#stream = stream
    this.#compat = compat
  }

  get pendingBytes(): number {
    return this.#stream.writableLength + (this.#rest?.byteLength ?? 0)
  }

  get #response(): ServerHttp2Stream | Http2ServerResponse {
    return this.#compat?.res ?? this.#stream
  }

  attach(sink: TransportSink): void {
    const stream = this.#stream
    markAnswered(this.#response)
    this.#sink = sink
    stream.on('aborted', this.#onAborted).on('close', this.#onClose).on('error', ignoreError)
    // For a HEAD request Node has ended the stream before anybody sees it.
    if (stream.closed || stream.destroyed) this.#onClose()
  }

  open(answer: StreamAnswer): boolean {
    const stream = this.#stream
    if (stream.headersSent) return false
    const body = this.#compat?.req ?? stream
    // A client may wait for its body to be taken before it reads the answer.
    if (!body.readableEnded && body.readableFlowing === null) body.resume()
    if (answer.stream) {
      this.#keepAlive()
      this.#head = answer.headers
      return true
    }
    this.#head = null
    this.#writeHead(answer.status, answer.headers)
    // Node has ended the stream already for a HEAD request, and for a status that has no body.
    if (!stream.writableEnded) this.#response.end(answer.body)
    return true
  }

  /** The window of the client decides when a write is over: never inside this call. */
  write(chunk: Chunk): boolean {
    const stream = this.#stream
    if (stream.writableEnded) {
      // Somebody else has ended the response: nothing can follow.
      this.#onClose()
      return false
    }
    if (this.#head !== null) this.#writeHead(200, this.#head)
    this.#head = null
    const res = this.#compat?.res
    if (res === undefined || !Object.hasOwn(res, 'write')) {
      this.#writePiece(chunk.bytes)
      return false
    }
    this.#replaced ??= new ReplacedWrite(res, this.#onDrain)
    this.#isWaiting = !(this.#replaced.write(chunk.bytes) ?? !stream.writableNeedDrain)
    if (this.#isWaiting) this.#replaced.listenForDrain()
    return !this.#isWaiting
  }

  #writePiece(bytes: Uint8Array): void {
    this.#rest = bytes.byteLength > PIECE_BYTES ? bytes.subarray(PIECE_BYTES) : null
    this.#stream.write(this.#rest === null ? bytes : bytes.subarray(0, PIECE_BYTES), this.#onTaken)
  }

  #writeHead(status: number, headers: Readonly<Record<string, string>>): void {
    if (this.#compat === null) {
      // Node adds a `date` of its own to any that is written in another case.
      const names = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value])
      this.#stream.respond({ ':status': status, ...Object.fromEntries(names) })
      return
    }
    const { res } = this.#compat
    for (const name of [...HEADERS_TO_REMOVE, ...HEADERS_OF_ONE_HOP]) res.removeHeader(name)
    res.writeHead(status, withVaryOf(res, headers))
  }

  /** HTTP/2 forbids most use of the socket, this too, because it knows nothing of it. It does HTTP/2 no harm. */
  #keepAlive(): void {
    const socket = this.#stream.session?.socket
    if (socket !== undefined) Socket.prototype.setKeepAlive.call(socket, true, KEEPALIVE_DELAY_MS)
  }

  end(): void {
    this.#isEnded = true
    // No callback: a middleware that has replaced end() may write it as the last chunk. That of express-session does.
    // Somebody else may have ended it, while a client that still sends its body keeps it from closing.
    if (this.#stream.writableFinished) this.#onFinish()
    else this.#stream.once('finish', this.#onFinish)
    this.#response.end()
  }

  /**
   * RST_STREAM: the other streams of the session go on. Not `stream.close(code)`, which has Node 20 end the stream in
   * order before it resets it, so that clients take the abort for an end.
   */
  reset(): void {
    this.#stream.destroy(new Error('The event stream was aborted.'))
  }

  /** The listener of 'error' stays: a stream that is being torn down may still report one. */
  detach(): void {
    this.#sink = null
    this.#rest = null
    this.#stream.off('aborted', this.#onAborted)
    this.#stream.off('close', this.#onClose)
    this.#stream.off('finish', this.#onFinish)
    this.#replaced?.detach()
  }

  readonly #onTaken = (error?: Error | null): void => {
    if (error || this.#sink === null) return
    if (this.#rest === null) this.#sink.roomMade()
    else this.#writePiece(this.#rest)
  }

  readonly #onDrain = (): void => {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.#sink?.roomMade()
  }

  readonly #onFinish = (): void => this.#sink?.ended()

  /**
   * Node closes a stream that the client has reset, or that lost its socket, before it destroys it; and where it destroys a
   * session for what the client did, there is an error, or the socket is gone.
   */
  readonly #onAborted = (): void => {
    const { destroyed, errored, session } = this.#stream
    this.#isDestroyedByOthers = destroyed && errored == null && session?.socket?.destroyed !== true
  }

  readonly #onClose = (): void => {
    const error = this.#stream.errored ?? undefined
    // Node ends a stream that the client has reset, and says that it was aborted.
    const isEndedByOthers = this.#stream.writableEnded && !this.#stream.aborted && !this.#isEnded
    const isOfOthers = isEndedByOthers || this.#isDestroyedByOthers
    this.#sink?.lost(isOfOthers ? 'transport-closed' : lostBy(error), error)
  }
}
