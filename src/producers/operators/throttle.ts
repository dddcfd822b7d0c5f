import { type Clock, systemClock, type Timer } from '../../clock.js'
import { delayMs, knownOptions } from '../../options.js'
import type { Source } from '../source.js'
import { Latest } from './latest.js'
import { Relay, type Stage } from './relay.js'

/** Options of {@link throttle}. */
export interface ThrottleOptions {
  /** Milliseconds between two items. 1 to 2,147,483,647. Required. */
  intervalMs: number
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
}

const KNOWN: ReadonlySet<string> = new Set(['intervalMs', 'clock'])

/**
 * Lets one item through per interval: the first at once, then the latest of each interval. The last item of the
 * source always comes through. The source is read without pause; what is passed over is dropped.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function throttle<T>(source: Source<T>, options: ThrottleOptions): AsyncIterableIterator<T> {
  knownOptions('throttle', options, KNOWN)
  const intervalMs = delayMs('intervalMs', options.intervalMs)
  return new Relay(source, (onReady) => new Throttle<T>(intervalMs, options.clock ?? systemClock, onReady))
}

class Throttle<T> implements Stage<T, T> {
  readonly isFull = false
  readonly #latest = new Latest<T>()
  readonly #intervalMs: number
  readonly #clock: Clock
  readonly #onReady: () => void
  #pause: Timer | null = null
  #isEnding = false

  constructor(intervalMs: number, clock: Clock, onReady: () => void) {
    this.#intervalMs = intervalMs
    this.#clock = clock
    this.#onReady = onReady
  }

  get isReady(): boolean {
    return this.#latest.isSet && (this.#pause === null || this.#isEnding)
  }

  push(item: T): void {
    this.#latest.set(item)
  }

  end(): void {
    this.#isEnding = true
    this.#stopPause()
  }

  take(): T {
    if (!this.#isEnding) {
      this.#pause = this.#clock.setTimeout(() => {
        this.#pause = null
        this.#onReady()
      }, this.#intervalMs)
    }
    return this.#latest.take()
  }

  clear(): void {
    this.#latest.clear()
    this.#stopPause()
  }

  #stopPause(): void {
    if (this.#pause !== null) this.#clock.clearTimeout(this.#pause)
    this.#pause = null
  }
}
