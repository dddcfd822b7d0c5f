import type { EventLog } from '../buffer/event-log.js'
import { Ring } from '../buffer/ring.js'
import type { Clock } from '../clock.js'

/** How far a reader may be behind. */
export interface LagBounds {
  log: EventLog
  maxLagEvents: number
  maxLagBytes: number
  maxLagMs: number
  clock: Clock
}

/** Where the end of the log was at a time. */
interface Mark {
  readonly next: number
  readonly at: number
}

/** The age of events is known to this part of the limit: a mark is kept for each. */
const MARKS_PER_LIMIT = 8

/** The limits in events, bytes and age, as one sequence: a reader that is not there yet is too far behind. */
export class LagLimit {
  readonly #bounds: LagBounds
  readonly #marks = new Ring<Mark>(2 * MARKS_PER_LIMIT + 4)
  #newest: Mark = { next: 0, at: Number.NEGATIVE_INFINITY }
  #lastLook: Mark = this.#newest
  /** Events before it are too old. */
  #tooOld = 0

  constructor(bounds: LagBounds) {
    this.#bounds = bounds
  }

  /** The oldest sequence that is not too far behind. At least that of the oldest event held. */
  floor(): number {
    const { log, maxLagEvents, maxLagBytes, maxLagMs } = this.#bounds
    const { oldest, next } = log
    let floor = Math.max(oldest, next - maxLagEvents)
    if (maxLagBytes < Number.POSITIVE_INFINITY) floor = this.#floorInBytes(floor, next)
    if (maxLagMs < Number.POSITIVE_INFINITY) floor = Math.max(floor, this.#floorInAge(next))
    return floor
  }

  #floorInBytes(from: number, next: number): number {
    const { log, maxLagBytes } = this.#bounds
    let [low, high] = [from, next]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      if (log.bytesFrom(middle) <= maxLagBytes) high = middle
      else low = middle + 1
    }
    return low
  }

  #floorInAge(next: number): number {
    const { clock, maxLagMs } = this.#bounds
    const now = clock.now()
    const look = { next, at: now }
    if (now - this.#newest.at >= maxLagMs / MARKS_PER_LIMIT) {
      // What came behind the last mark, before a pause, is as old as the last look.
      if (this.#lastLook.next > this.#newest.next) this.#marks.push(this.#lastLook)
      this.#marks.push(look)
      this.#newest = look
    }
    this.#lastLook = look
    for (
      let mark = this.#marks.at(0);
      mark !== undefined && mark.at <= now - maxLagMs;
      mark = this.#marks.at(0)
    ) {
      this.#tooOld = mark.next
      this.#marks.shift()
    }
    return this.#tooOld
  }
}
