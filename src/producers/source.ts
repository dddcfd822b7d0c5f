import { SSEError, shown } from '../errors.js'

/** What `pipe` and the operators read from: anything that can be paused by not asking it for more. */
export type Source<T> = Iterable<T> | AsyncIterable<T> | ReadableStream<T>

/** A source being read, one item at a time. */
export interface Puller<T> {
  /** The next item. Not called again before it settles, nor after `stop`. */
  next(): IteratorResult<T, unknown> | PromiseLike<IteratorResult<T, unknown>>
  /**
   * Tells the source that nobody reads any more: `return()`, `destroy()` or `cancel()`. Does not wait: a source
   * that is stuck would never answer.
   */
  stop(): void
}

/**
 * Starts to read a source of any kind.
 *
 * @throws SSEError ERR_SSE_INVALID_SOURCE for what is no source, or is being read already.
 */
export function openSource<T>(source: Source<T>): Puller<T> {
  if (isObject(source)) {
    if (isWebStream<T>(source)) return new WebStreamPuller(source)
    if (Symbol.asyncIterator in source) return new IteratorPuller(source[Symbol.asyncIterator](), source)
    if (Symbol.iterator in source) return new IteratorPuller(source[Symbol.iterator](), source)
  }
  throw new SSEError(
    'ERR_SSE_INVALID_SOURCE',
    `The source is ${shown(source)}; expected an Iterable (not a string), an AsyncIterable, a Node Readable or a Web ReadableStream.`,
  )
}

function isObject(value: unknown): value is object {
  return value !== null && (typeof value === 'object' || typeof value === 'function')
}

function isWebStream<T>(source: object): source is ReadableStream<T> {
  return 'getReader' in source && typeof source.getReader === 'function'
}

class WebStreamPuller<T> implements Puller<T> {
  readonly #reader: ReadableStreamDefaultReader<T>

  constructor(stream: ReadableStream<T>) {
    try {
      this.#reader = stream.getReader()
    } catch (cause) {
      throw new SSEError('ERR_SSE_INVALID_SOURCE', 'The stream is locked: something else reads it already.', {
        cause,
      })
    }
  }

  next(): Promise<IteratorResult<T, unknown>> {
    return this.#reader.read() as Promise<IteratorResult<T, unknown>>
  }

  stop(): void {
    this.#reader.cancel().catch(ignoreError)
  }
}

class IteratorPuller<T> implements Puller<T> {
  readonly #iterator: Iterator<T, unknown> | AsyncIterator<T, unknown>
  readonly #source: object

  constructor(iterator: Iterator<T, unknown> | AsyncIterator<T, unknown>, source: object) {
    this.#iterator = iterator
    this.#source = source
    // The iterator of a Node stream listens only while it reads: a failure in between would end the process. It is
    // told at the next read.
    if (isNodeStream(source)) source.on('error', ignoreError)
  }

  next(): IteratorResult<T, unknown> | PromiseLike<IteratorResult<T, unknown>> {
    return this.#iterator.next()
  }

  stop(): void {
    // The iterator of a Node stream destroys it only when its pending read settles; this does at once.
    if (isNodeStream(this.#source)) this.#source.destroy()
    // A generator runs its clean-up now, or when the await it is stuck in settles.
    Promise.resolve()
      .then(() => this.#iterator.return?.())
      .catch(ignoreError)
  }
}

interface NodeStream {
  on(event: 'error', listener: () => void): unknown
  destroy(): unknown
}

function isNodeStream(source: object): source is NodeStream {
  return 'destroy' in source && typeof source.destroy === 'function' && 'on' in source
}

/** What a source says when it is told to stop, or was told to, interests nobody any more. */
function ignoreError(): void {}
