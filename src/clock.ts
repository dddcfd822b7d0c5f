/** A pending timer of a {@link Clock}. Opaque: only that clock's `clearTimeout` reads it. */
export type Timer = unknown

/** Time as sluice reads it. A test passes its own to decide when time passes. */
export interface Clock {
  /** Milliseconds since some fixed moment. Never jumps: only differences count. */
  now(): number
  /** Calls `callback` once after `delayMs`. The timer must not keep the process alive. */
  setTimeout(callback: () => void, delayMs: number): Timer
  /** Takes a pending timer back; one that has fired or was cleared is no error. */
  clearTimeout(timer: Timer): void
}

/** The process's own time. The globals are looked up at each call, so that patched ones are honoured. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout(callback, delayMs) {
    const timer: NodeJS.Timeout | number = setTimeout(callback, delayMs)
    // A number where timers are those of the web.
    if (typeof timer === 'object') timer.unref()
    return timer
  },
  clearTimeout: (timer) => clearTimeout(timer as NodeJS.Timeout),
}
