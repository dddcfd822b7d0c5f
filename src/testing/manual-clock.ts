import type { Clock, Timer } from 'sluice'

/** A clock that stands still until it is told to advance: the option `clock` of a connection. */
export class ManualClock implements Clock {
  #now = 0
  #timers = new Set<{ at: number; callback: () => void }>()

  /** How many timers wait. 0 once everything is closed, or something was left behind. */
  get pending(): number {
    return this.#timers.size
  }

  now(): number {
    return this.#now
  }

  setTimeout(callback: () => void, delayMs: number): Timer {
    const timer = { at: this.#now + delayMs, callback }
    this.#timers.add(timer)
    return timer
  }

  clearTimeout(timer: Timer): void {
    this.#timers.delete(timer as { at: number; callback: () => void })
  }

  /** Passes time, firing each timer at its moment, those set meanwhile included. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#timers.delete(due)
      this.#now = Math.max(this.#now, due.at)
      due.callback()
    }
    this.#now = end
  }
}
