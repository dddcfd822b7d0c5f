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

/** The age of events is known to this part of the limit: a mark is kept for each. */
const MARKS_PER_LIMIT = 8

/** The limits in events, bytes and age, as one sequence: a reader that is not there yet is too far behind. */
export class LagLimit {
  readonly #bounds: LagBounds
  /** Where the end of the log was when: for the limit in age. */
  readonly #marks = new Ring<{ next: number; at: number }>(MARKS_PER_LIMIT + 2)
  #newest = Number.NEGATIVE_INFINITY
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
    for (
      let mark = this.#marks.at(0);
      mark !== undefined && mark.at <= now - maxLagMs;
      mark = this.#marks.at(0)
    ) {
      this.#tooOld = mark.next
      this.#marks.shift()
    }
    if (now - this.#newest >= maxLagMs / MARKS_PER_LIMIT) {
      this.#marks.push({ next, at: now })
      this.#newest = now
    }
    return this.#tooOld
  }
}
