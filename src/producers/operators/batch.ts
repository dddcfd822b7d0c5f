import { type Clock, systemClock, type Timer } from '../../clock.js'
import { delayMs, knownOptions, wholeNumber } from '../../options.js'
import type { Source } from '../source.js'
import { Relay, type Stage } from './relay.js'

/** Options of {@link batch}. */
export interface BatchOptions {
  /** The most items in one batch. Minimum 1, default 100. */
  maxItems?: number | undefined
  /** Milliseconds the first item of a batch waits for others. 1 to 2,147,483,647, default 250. */
  maxWaitMs?: number | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
}

const KNOWN: ReadonlySet<string> = new Set(['maxItems', 'maxWaitMs', 'clock'])

/**
 * Gathers items into arrays. Drops nothing: while a full batch waits for its reader, the source is not read.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function batch<T>(source: Source<T>, options: BatchOptions = {}): AsyncIterableIterator<T[]> {
  knownOptions('batch', options, KNOWN)
  const maxItems = wholeNumber('maxItems', options.maxItems, 100, { min: 1 })
  const maxWaitMs = delayMs('maxWaitMs', options.maxWaitMs, 250)
  return new Relay(
    source,
    (onReady) => new Batch<T>(maxItems, maxWaitMs, options.clock ?? systemClock, onReady),
  )
}

class Batch<T> implements Stage<T, T[]> {
  readonly #maxItems: number
  readonly #maxWaitMs: number
  readonly #clock: Clock
  readonly #onReady: () => void
  #items: T[] = []
  #timer: Timer | null = null
  #isDue = false

  constructor(maxItems: number, maxWaitMs: number, clock: Clock, onReady: () => void) {
    this.#maxItems = maxItems
    this.#maxWaitMs = maxWaitMs
    this.#clock = clock
    this.#onReady = onReady
  }

  get isFull(): boolean {
    return this.#items.length >= this.#maxItems
  }

  get isReady(): boolean {
    return this.#items.length > 0 && (this.#isDue || this.isFull)
  }

  push(item: T): void {
    this.#items.push(item)
    this.#timer ??= this.#clock.setTimeout(() => {
      this.#isDue = true
      this.#onReady()
    }, this.#maxWaitMs)
  }

  end(): void {
    this.#stopTimer()
    this.#isDue = true
  }

  take(): T[] {
    const items = this.#items
    this.#items = []
    this.#stopTimer()
    this.#isDue = false
    return items
  }

  clear(): void {
    this.#items = []
    this.#stopTimer()
  }

  #stopTimer(): void {
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer)
    this.#timer = null
  }
}
