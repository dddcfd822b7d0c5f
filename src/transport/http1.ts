import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Transport, TransportSink } from '../handler/transport.js'
import type { Chunk } from '../wire/chunk.js'
import { HEADERS_TO_REMOVE } from '../wire/headers.js'
import type { StreamAnswer, StreamRequest } from '../wire/request.js'
import type { Exchange } from './exchange.js'
import { ReplacedWrite } from './replaced-write.js'
import {
  assertUnanswered,
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

export function http1Exchange(request: StreamRequest, req: IncomingMessage, res: ServerResponse): Exchange {
  return {
    request,
    transport: new Http1Transport(req, res),
    peer: peerOf(req.socket),
    isBehindAnother: () => res.socket === null,
    assertUnanswered: () => assertUnanswered(res),
    onGone(listener) {
      // A pipelined response has no socket yet, and is not told of its end.
      const told = res.socket === null ? req.socket : res
      if (req.socket.destroyed || res.destroyed) listener()
      else if (told === req.socket) req.socket.setMaxListeners(0).once('close', listener)
      else told.once('close', listener)
      return () => void told.off('close', listener)
    },
    isSecure: isEncrypted(req.socket),
    // Node says so in the answer, and ends the connection behind it.
    lastAnswer() {
      res.shouldKeepAlive = false
    },
    hangUp: () => req.socket.destroySoon?.(),
    cut: () => destroy(req.socket),
    isStuck: () => (untakenBytes(req.socket) ?? 0) > 0,
  }
}

/** How often to look whether a middleware has let the first bytes out. */
const LOOK_MS = 50

/** A response of `node:http` or `node:https`. */
class Http1Transport implements Transport {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  /** Made when a middleware turns out to have replaced `write`. */
  #replaced: ReplacedWrite | null = null
  #sink: TransportSink | null = null
  #isWaiting = false
  /** The head of the stream, until the first write sends it. */
  #head: Readonly<Record<string, string>> | null = null
  /** Whether a first write, which takes the head along, has gone through the response. */
  #isHeadOut = false
  /** Whether the connection has ended the response itself. */
  #isEnded = false
  /** Bytes of the first write while a middleware keeps them. */
  #keptBytes = 0
  #look: NodeJS.Timeout | undefined

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req
    this.#res = res
  }

  get pendingBytes(): number {
    // The response of a pipelined request waits for the one before it, not for the peer.
    if (this.#res.socket === null) return 0
    if (this.#keptBytes > 0) return this.#keptBytes
    // What a layer has corked is in the response, and nothing of it in the socket.
    return untakenBytes(this.#req.socket) || this.#res.writableLength
  }

  attach(sink: TransportSink): void {
    markAnswered(this.#res)
    this.#sink = sink
    const { socket } = this.#req
    // The response of a pipelined request has no socket yet, and Node tells it nothing when the socket closes.
    if (this.#res.socket === null) socket.setMaxListeners(0).on('close', this.#onClose)
    this.#res.on('close', this.#onClose)
    // Without a listener, an error of the response would end the process. 'close' follows and tells.
    this.#res.on('error', ignoreError)
    if (socket.destroyed || this.#res.destroyed || this.#res.writableEnded) this.#onClose()
  }

  open(answer: StreamAnswer): boolean {
    const res = this.#res
    if (res.headersSent) return false
    // An unread body would let server.requestTimeout end the stream.
    if (!this.#req.readableEnded && this.#req.readableFlowing === null) this.#req.resume()
    if (answer.stream) {
      // What tests of a framework put in place of a socket has no such method, nor has any Duplex.
      this.#req.socket.setKeepAlive?.(true, KEEPALIVE_DELAY_MS)
      this.#head = answer.headers
      // Node reads no more pipelined requests when enough output waits for its turn: let the head count.
      if (res.socket === null) this.#writeHead(answer.headers).flushHeaders()
      return true
    }
    for (const name of HEADERS_TO_REMOVE) res.removeHeader(name)
    res.writeHead(answer.status, withVaryOf(res, answer.headers))
    res.end(answer.body)
    return true
  }

  write(chunk: Chunk): boolean {
    const res = this.#res
    this.#isWaiting = true
    if (res.writableEnded) {
      // Somebody else has ended the response: nothing can follow.
      this.#onClose()
      return false
    }
    if (this.#head !== null) this.#writeHead(this.#head)
    if (res.write !== ServerResponse.prototype.write) {
      this.#writeReplaced(chunk)
    } else if (this.#isHeadOut && res.socket !== null) {
      const { socket } = res
      // The response would hand the kernel four pieces, framing included, where one does.
      socket.write(res.chunkedEncoding ? chunk.http1 : chunk.bytes, this.#onWritten)
      // The system call was made inside write(): mostly the kernel has everything by now.
      this.#isWaiting = socket.writableLength > 0
    } else {
      res.write(chunk.bytes, this.#onWritten)
    }
    return !this.#isWaiting
  }

  #writeReplaced(chunk: Chunk): void {
    const res = this.#res
    const { bytesWritten } = this.#req.socket
    this.#replaced ??= new ReplacedWrite(res, this.#onDrain)
    const isTaken = this.#replaced.write(chunk.bytes)
    // What stands in place of a socket in a test may count nothing.
    if (!this.#isHeadOut && bytesWritten !== undefined && this.#req.socket.bytesWritten === bytesWritten) {
      this.#waitForFirst(chunk, bytesWritten)
      return
    }
    this.#isHeadOut = true
    this.#isWaiting = !(isTaken ?? !res.writableNeedDrain)
    if (this.#isWaiting) this.#replaced.listenForDrain()
  }

  /** A middleware that takes the head in and lets nothing out may keep all of it: that is a stall, and no progress. */
  #waitForFirst(chunk: Chunk, bytesWritten: number): void {
    this.#keptBytes = chunk.byteLength
    const look = () => {
      if (this.#req.socket.bytesWritten === bytesWritten) return
      this.#stopLooking()
      this.#onTaken()
    }
    this.#look = setInterval(look, LOOK_MS).unref()
    // Since Node 26 the response itself lets its first bytes out at the end of the turn.
    setImmediate(look)
  }

  #stopLooking(): void {
    this.#keptBytes = 0
    clearInterval(this.#look)
  }

  #writeHead(headers: Readonly<Record<string, string>>): ServerResponse {
    this.#head = null
    for (const name of HEADERS_TO_REMOVE) this.#res.removeHeader(name)
    return this.#res.writeHead(200, withVaryOf(this.#res, headers))
  }

  end(): void {
    this.#isEnded = true
    // No callback: a middleware that has replaced end() may write it as the last chunk. That of express-session does.
    this.#res.once('finish', this.#onFinish).end()
  }

  reset(): void {
    const { socket } = this.#req
    if (this.#res.socket === null) {
      // The socket is another response's still: this one ends when its turn comes.
      this.#res.end()
      return
    }
    destroy(socket)
  }

  /** The listener of 'error' stays: a socket that is being torn down may still report one. */
  detach(): void {
    this.#sink = null
    this.#req.socket.off('close', this.#onClose)
    this.#res.off('close', this.#onClose)
    this.#replaced?.detach()
    this.#res.off('finish', this.#onFinish)
    this.#stopLooking()
  }

  /** Called a tick late for a write that the kernel took at once: another may be pending by then. */
  readonly #onWritten = (error?: Error | null): void => {
    if ((this.#res.socket?.writableLength ?? 0) === 0) this.#onTaken(error)
  }

  readonly #onTaken = (error?: Error | null): void => {
    if (error != null || !this.#isWaiting) return
    this.#isWaiting = false
    this.#isHeadOut = true
    this.#sink?.roomMade()
  }

  /** Of a write that went on to the socket itself meanwhile, its own callback tells. */
  readonly #onDrain = (): void => {
    if (this.#res.write !== ServerResponse.prototype.write && this.#keptBytes === 0) this.#onTaken()
  }

  readonly #onFinish = (): void => this.#sink?.ended()

  readonly #onClose = (): void => {
    const error = this.#req.socket.errored ?? this.#res.errored ?? undefined
    const isEndedByOthers = this.#res.writableEnded && !this.#isEnded
    this.#sink?.lost(isEndedByOthers ? 'transport-closed' : lostBy(error), error)
  }
}

function destroy(socket: Socket): void {
  resetSocket(socket)
  socket.destroy?.()
}
