import type { Transport, TransportSink } from '../handler/transport.js'
import type { Chunk } from '../wire/chunk.js'
import type { StreamAnswer } from '../wire/request.js'
import { onAbort } from './on-abort.js'

/**
 * The most bytes that a pull takes, so that a reader which takes a large event slowly is seen to make progress.
 */
const PIECE_BYTES = 32 * 1024

/** The body of a `Response`. Uses only what is standard on the web. */
export class ResponseTransport implements Transport {
  readonly #signal: AbortSignal | undefined
  /**
   * Until the stream is closed: Node's Request holds the AbortController of its signal, and the signal does not. Once the
   * Request is collected, the signal never aborts.
   */
  readonly #kept: { request: object | null }
  #sink: TransportSink | null = null
  #answer: StreamAnswer | null = null
  #response: Response | null = null
  #stream: ReadableStream<Uint8Array> | null = null
  /** Null when nothing can be given to the stream: before it is made, and after its end. */
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null
  /** Whether the stream is read and has been given nothing since. */
  #isPulled = false
  /** What the stream was not given yet of the last chunk. */
  #rest: Uint8Array | null = null
  /** What it was given since it was read last. */
  #givenBytes = 0
  #isWaiting = false
  #isWriting = false
  #stopListening = () => {}

  constructor(signal: AbortSignal | undefined, request: object) {
    this.#signal = signal
    this.#kept = { request }
  }

  get response(): Response {
    this.#response ??= this.#makeResponse()
    return this.#response
  }

  get pendingBytes(): number {
    return this.#givenBytes + (this.#rest?.byteLength ?? 0)
  }

  attach(sink: TransportSink): void {
    this.#sink = sink
    this.#stopListening = onAbort(this.#signal, this.#onAbort)
  }

  open(answer: StreamAnswer): boolean {
    if (this.#response !== null) return false
    this.#answer = answer
    if (answer.stream) this.#stream = this.#makeStream()
    return true
  }

  write(chunk: Chunk): boolean {
    this.#isWaiting = true
    this.#isWriting = true
    this.#rest = chunk.bytes
    if (this.#isPulled) this.#give(chunk.bytes)
    this.#isWriting = false
    return !this.#isWaiting
  }

  end(): void {
    this.#close()
    this.#sink?.ended()
  }

  /** Has the server cut the connection off, so that the client does not take it for an end. */
  reset(): void {
    this.#controller?.error(new Error('The event stream was aborted.'))
    this.#controller = null
  }

  detach(): void {
    this.#sink = null
    this.#kept.request = null
    this.#rest = null
    this.#stopListening()
  }

  #makeResponse(): Response {
    const answer = this.#answer
    // Nobody is left to read it. What nginx logs in this case.
    if (answer === null) return new Response(null, { status: 499 })
    if (answer.stream) return new Response(this.#stream, { headers: answer.headers })
    return new Response(answer.body === '' ? null : answer.body, answer)
  }

  #makeStream(): ReadableStream<Uint8Array> {
    const start = (controller: ReadableStreamDefaultController<Uint8Array>) => {
      this.#controller = controller
    }
    // Without a high-water mark of 0 a chunk would wait in the stream, where nobody sees that it is not taken.
    return new ReadableStream({ start, pull: this.#onPull, cancel: this.#onCancel }, { highWaterMark: 0 })
  }

  #give(bytes: Uint8Array): void {
    this.#isPulled = false
    this.#rest = bytes.byteLength > PIECE_BYTES ? bytes.subarray(PIECE_BYTES) : null
    // A copy: who reads a body may change or transfer it, and other connections write the same memory.
    const piece = new Uint8Array(bytes.subarray(0, PIECE_BYTES))
    this.#givenBytes = piece.byteLength
    this.#controller?.enqueue(piece)
  }

  #close(): void {
    this.#controller?.close()
    this.#controller = null
  }

  /** Called from inside `enqueue` when more than one read waits. */
  readonly #onPull = (): void => {
    this.#isPulled = true
    this.#givenBytes = 0
    if (this.#rest !== null) {
      this.#give(this.#rest)
    } else if (this.#isWaiting) {
      this.#isWaiting = false
      if (!this.#isWriting) this.#sink?.roomMade()
    }
  }

  readonly #onCancel = (): void => {
    this.#controller = null
    this.#sink?.lost('client-closed')
  }

  /** Nobody is left who could miss something, and servers print the error of a body that fails. */
  readonly #onAbort = (): void => {
    this.#close()
    this.#sink?.lost('client-closed')
  }
}
