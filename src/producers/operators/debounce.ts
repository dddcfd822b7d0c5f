import { type Clock, systemClock, type Timer } from '../../clock.js'
import { delayMs, knownOptions } from '../../options.js'
import type { Source } from '../source.js'
import { Latest } from './latest.js'
import { Relay, type Stage } from './relay.js'

/** Options of {@link debounce}. */
export interface DebounceOptions {
  /** Milliseconds of silence after which the latest item comes through. 1 to 2,147,483,647. Required. */
  waitMs: number
  /** Milliseconds after which it comes through without silence. 1 to 2,147,483,647. Default: never. */
  maxWaitMs?: number | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
}

const KNOWN: ReadonlySet<string> = new Set(['waitMs', 'maxWaitMs', 'clock'])

/**
 * Lets the latest item through when the source has been silent for a while. The last item of the source always
 * comes through. The source is read without pause; what is passed over is dropped.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function debounce<T>(source: Source<T>, options: DebounceOptions): AsyncIterableIterator<T> {
  knownOptions('debounce', options, KNOWN)
  const waitMs = delayMs('waitMs', options.waitMs)
  const maxWaitMs = options.maxWaitMs === undefined ? null : delayMs('maxWaitMs', options.maxWaitMs, waitMs)
  return new Relay(
    source,
    (onReady) => new Debounce<T>(waitMs, maxWaitMs, options.clock ?? systemClock, onReady),
  )
}

class Debounce<T> implements Stage<T, T> {
  readonly isFull = false
  readonly #latest = new Latest<T>()
  readonly #waitMs: number
  readonly #maxWaitMs: number | null
  readonly #clock: Clock
  readonly #onReady: () => void
  #silence: Timer | null = null
  #limit: Timer | null = null
  #isReady = false

  constructor(waitMs: number, maxWaitMs: number | null, clock: Clock, onReady: () => void) {
    this.#waitMs = waitMs
    this.#maxWaitMs = maxWaitMs
    this.#clock = clock
    this.#onReady = onReady
  }

  get isReady(): boolean {
    return this.#isReady && this.#latest.isSet
  }

  push(item: T): void {
    this.#latest.set(item)
    if (this.#isReady) return
    this.#stopSilence()
    this.#silence = this.#clock.setTimeout(this.#letThrough, this.#waitMs)
    if (this.#maxWaitMs !== null) this.#limit ??= this.#clock.setTimeout(this.#letThrough, this.#maxWaitMs)
  }

  end(): void {
    this.#stopTimers()
    this.#isReady = true
  }

  take(): T {
    this.#isReady = false
    return this.#latest.take()
  }

  clear(): void {
    this.#stopTimers()
    this.#latest.clear()
  }

  readonly #letThrough = (): void => {
    this.#stopTimers()
    this.#isReady = true
    this.#onReady()
  }

  #stopTimers(): void {
    this.#stopSilence()
    if (this.#limit !== null) this.#clock.clearTimeout(this.#limit)
    this.#limit = null
  }

  #stopSilence(): void {
    if (this.#silence !== null) this.#clock.clearTimeout(this.#silence)
    this.#silence = null
  }
}
