import PQueue from 'p-queue'
import { SSEError } from '../errors.js'
import { knownOptions, wholeNumber } from '../options.js'
import { LinkedAbort, onAbort } from './abort.js'

/** Options of {@link createProducerPool}. */
export interface ProducerPoolOptions {
  /** The most producers that run at once. Minimum 1, default 16. */
  concurrency?: number | undefined
  /** The most producers that wait for their turn; one more is ERR_SSE_POOL_FULL. Minimum 0, default 1,000. */
  maxWaiting?: number | undefined
}

/** How a producer ended. */
export type ProducerResult<T> =
  | { status: 'completed'; value: T }
  | { status: 'failed'; error: unknown }
  /** Its signal aborted or the pool closed before it came to its end. */
  | { status: 'cancelled' }

const KNOWN: ReadonlySet<string> = new Set(['concurrency', 'maxWaiting'])

/**
 * Runs many producers, a limited number at once, first come, first served. Each is its own failure domain: what
 * one throws is in its own result and disturbs no other.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function createProducerPool(options: ProducerPoolOptions = {}): ProducerPool {
  knownOptions('createProducerPool', options, KNOWN)
  const concurrency = wholeNumber('concurrency', options.concurrency, 16, { min: 1 })
  const maxWaiting = wholeNumber('maxWaiting', options.maxWaiting, 1000, { min: 0 })
  return new ProducerPool(concurrency, maxWaiting)
}

/** Made by `createProducerPool`. */
export class ProducerPool {
  readonly #queue: PQueue
  readonly #maxWaiting: number
  readonly #closing = new AbortController()

  /** @internal */
  constructor(concurrency: number, maxWaiting: number) {
    this.#queue = new PQueue({ concurrency })
    this.#maxWaiting = maxWaiting
  }

  /** Producers that run now. */
  get running(): number {
    return this.#queue.pending
  }

  /** Producers that wait for their turn. */
  get waiting(): number {
    return this.#queue.size
  }

  /**
   * Runs a producer when it is its turn. Its signal aborts when the given one does, such as `sse.signal`, or when
   * the pool closes; one that still waits is never started then, and settles at once. A producer that ignores its signal keeps its
   * place until it ends.
   *
   * @throws SSEError (rejects) ERR_SSE_POOL_FULL. What the producer throws is in the result instead.
   */
  async run<T>(
    producer: (signal: AbortSignal) => T | PromiseLike<T>,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<ProducerResult<T>> {
    if (this.#queue.size >= this.#maxWaiting && this.#queue.pending >= this.#queue.concurrency) {
      throw new SSEError(
        'ERR_SSE_POOL_FULL',
        `${this.#queue.size} producers wait already, the most that maxWaiting allows; start this one later.`,
      )
    }
    const abort = new LinkedAbort(options.signal, this.#closing.signal)
    // Takes it out of the line. Not once it runs: the queue would give its place away while it still does.
    const queued = new AbortController()
    const stopListening = onAbort(abort.signal, () => queued.abort())
    if (abort.signal.aborted) queued.abort()
    try {
      return await this.#queue.add(
        () => {
          stopListening()
          return outcomeOf(producer, abort.signal)
        },
        { signal: queued.signal },
      )
    } catch (error) {
      if (queued.signal.aborted) return { status: 'cancelled' }
      throw error
    } finally {
      stopListening()
      abort.unlink()
    }
  }

  /** Aborts every producer, starts none any more, and resolves when none runs. A second call changes nothing. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#queue.onIdle()
  }
}

async function outcomeOf<T>(
  producer: (signal: AbortSignal) => T | PromiseLike<T>,
  signal: AbortSignal,
): Promise<ProducerResult<T>> {
  if (signal.aborted) return { status: 'cancelled' }
  try {
    return { status: 'completed', value: await producer(signal) }
  } catch (error) {
    return signal.aborted ? { status: 'cancelled' } : { status: 'failed', error }
  }
}
