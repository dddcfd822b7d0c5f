import { openSource, type Puller, type Source } from '../source.js'

/** What an operator does between its source and its reader: a value with a bound. */
export interface Stage<T, R> {
  /** Whether the source must wait until something was taken. */
  readonly isFull: boolean
  push(item: T): void
  /** The source has ended: what is held back is ready now. */
  end(): void
  /** Whether `take` has something. */
  readonly isReady: boolean
  take(): R
  /** Forgets what is held, and its timers. */
  clear(): void
}

const READS_PER_TURN = 64

/**
 * Runs a stage between a source and a reader. The source is read ahead of the reader, as far as the stage lets
 * it, from the first `next()` on. When the reader leaves, the source is told to stop.
 */
export class Relay<T, R> implements AsyncIterableIterator<R> {
  readonly #source: Source<T>
  readonly #stage: Stage<T, R>
  #puller: Puller<T> | null = null
  #isEnded = false
  #failure: { error: unknown } | null = null
  #lastRead: Promise<void> = Promise.resolve()
  #wakeReader: (() => void) | null = null
  #wakeSource: (() => void) | null = null

  /** @param makeStage Gets what it calls when something became ready by itself, such as by a timer. */
  constructor(source: Source<T>, makeStage: (onReady: () => void) => Stage<T, R>) {
    this.#source = source
    this.#stage = makeStage(() => this.#wakeReader?.())
  }

  /** Reads that wait side by side are served in order. */
  next(): Promise<IteratorResult<R, undefined>> {
    const result = this.#lastRead.then(() => this.#take())
    this.#lastRead = result.then(ignoreResult, ignoreResult)
    return result
  }

  async return(): Promise<IteratorResult<R, undefined>> {
    if (!this.#isEnded) {
      this.#puller ??= openSource(this.#source)
      this.#puller.stop()
    }
    this.#stage.clear()
    this.#end()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async #take(): Promise<IteratorResult<R, undefined>> {
    if (this.#puller === null && !this.#isEnded) {
      this.#puller = openSource(this.#source)
      void this.#read(this.#puller)
    }
    while (!this.#stage.isReady && !this.#isEnded) {
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve
      })
    }
    if (this.#stage.isReady) {
      const value = this.#stage.take()
      this.#wakeSource?.()
      return { done: false, value }
    }
    const failure = this.#failure
    this.#failure = null
    if (failure !== null) throw failure.error
    return { done: true, value: undefined }
  }

  async #read(puller: Puller<T>): Promise<void> {
    try {
      for (let count = 1; ; count += 1) {
        const item = await puller.next()
        if (this.#isEnded) return
        if (item.done === true) break
        this.#stage.push(item.value)
        if (this.#stage.isReady) this.#wakeReader?.()
        // A source that never waits would keep timers and sockets from their turn.
        if (count % READS_PER_TURN === 0) await new Promise(setImmediate)
        while (this.#stage.isFull && !this.#isEnded) {
          await new Promise<void>((resolve) => {
            this.#wakeSource = resolve
          })
        }
      }
      this.#stage.end()
    } catch (error) {
      if (!this.#isEnded) this.#failure = { error }
      this.#stage.end()
      puller.stop()
    }
    this.#end()
  }

  #end(): void {
    this.#isEnded = true
    this.#wakeReader?.()
    this.#wakeSource?.()
  }
}

function ignoreResult(): void {}
