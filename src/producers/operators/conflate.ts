import { SSEError, shown } from '../../errors.js'
import { knownOptions, wholeNumber } from '../../options.js'
import type { Source } from '../source.js'
import { Relay, type Stage } from './relay.js'

/** Options of {@link conflate}. */
export interface ConflateOptions<T> {
  /** What an item replaces: a waiting item with the same key. */
  key: (item: T) => unknown
  /** The most keys that wait; then the source is not read until one was taken. Minimum 1, default 1,000. */
  maxKeys?: number | undefined
}

const KNOWN: ReadonlySet<string> = new Set(['key', 'maxKeys'])

/**
 * Keeps only the latest item of each key while the reader is busy. Keys come through in the order in which they
 * began to wait, so that one busy key starves no other.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function conflate<T>(source: Source<T>, options: ConflateOptions<T>): AsyncIterableIterator<T> {
  knownOptions('conflate', options, KNOWN)
  if (typeof options.key !== 'function') {
    throw new SSEError('ERR_SSE_INVALID_OPTION', `Option key is ${shown(options.key)}; expected a function.`)
  }
  const maxKeys = wholeNumber('maxKeys', options.maxKeys, 1000, { min: 1 })
  return new Relay(source, () => new Conflate(options.key, maxKeys))
}

class Conflate<T> implements Stage<T, T> {
  readonly #keyOf: (item: T) => unknown
  readonly #maxKeys: number
  readonly #latest = new Map<unknown, T>()

  constructor(keyOf: (item: T) => unknown, maxKeys: number) {
    this.#keyOf = keyOf
    this.#maxKeys = maxKeys
  }

  get isFull(): boolean {
    return this.#latest.size >= this.#maxKeys
  }

  get isReady(): boolean {
    return this.#latest.size > 0
  }

  push(item: T): void {
    this.#latest.set(this.#keyOf(item), item)
  }

  end(): void {}

  take(): T {
    const [[key, item]] = this.#latest as unknown as [[unknown, T]]
    this.#latest.delete(key)
    return item
  }

  clear(): void {
    this.#latest.clear()
  }
}
