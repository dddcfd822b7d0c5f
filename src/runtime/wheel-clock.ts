import type { Clock, Timer } from '../clock.js'
import { textOf } from '../errors.js'

/** What waits longer than a slot is called at the end of its slot, together with all the others of it. */
const SLOT_MS = 1000

/**
 * How many are called in one turn of the event loop. Each may write, which costs up to 20 µs: 8,000 heartbeats in one
 * turn would block the loop for 100 ms.
 */
const CALLS_PER_TURN = 128

/** A clock that stands still must not make the wheel spin. */
const MIN_TICK_MS = 10

/** A timer of the wheel, in its slot until it is called or cleared. */
interface Entry {
  readonly callback: () => void
  readonly at: number
  readonly slot: Set<Entry>
  /** Of one that waits less than a slot. */
  readonly own?: Timer
}

/**
 * The time of all connections of a process: one timer turns a wheel of slots of a second, instead of several timers
 * for each connection. A callback comes up to a second late; one that waits less than a slot gets a timer of its own.
 */
export class WheelClock implements Clock {
  readonly #base: Clock
  readonly #slots = new Map<number, Set<Entry>>()
  /** Slots whose time has come, with what is still to be called. */
  #due: Set<Entry>[] = []
  /** Calls in this turn of the event loop. */
  #calls = 0
  #isCalling = false
  #isTurnAwaited = false
  #nextTick: Timer | null = null
  /** The slot up to which all slots are due. */
  #turnedTo = 0
  #expectedAt = 0
  #lagMs = 0

  constructor(base: Clock) {
    this.#base = base
  }

  /** How late the last tick was, in milliseconds: for as long the event loop was busy. 0 when nothing waits. */
  get lagMs(): number {
    return this.#nextTick === null ? 0 : this.#lagMs
  }

  now(): number {
    return this.#base.now()
  }

  setTimeout(callback: () => void, delayMs: number): Timer {
    if (delayMs < SLOT_MS) return this.#setShort(callback, delayMs)
    const at = Math.ceil((this.now() + delayMs) / SLOT_MS)
    let slot = this.#slots.get(at)
    if (slot === undefined) {
      slot = new Set()
      this.#slots.set(at, slot)
    }
    const entry: Entry = { callback, at, slot }
    slot.add(entry)
    if (this.#nextTick === null) {
      this.#turnedTo = Math.floor(this.now() / SLOT_MS)
      this.#scheduleTick()
    }
    return entry
  }

  clearTimeout(timer: Timer): void {
    const entry = timer as Entry
    if (entry.own !== undefined) this.#base.clearTimeout(entry.own)
    this.#remove(entry)
  }

  /** Its own timer brings it, and its turn is that of all: many of them may be due at once, too. */
  #setShort(callback: () => void, delayMs: number): Entry {
    const slot = new Set<Entry>()
    const own = this.#base.setTimeout(() => {
      this.#due.push(slot)
      this.#callDue()
    }, delayMs)
    const entry: Entry = { callback, at: Number.NaN, slot, own }
    slot.add(entry)
    return entry
  }

  #remove(entry: Entry): void {
    entry.slot.delete(entry)
    if (entry.slot.size === 0 && this.#slots.get(entry.at) === entry.slot) this.#slots.delete(entry.at)
  }

  /** Forgets everything that waits in a slot. */
  stop(): void {
    if (this.#nextTick !== null) this.#base.clearTimeout(this.#nextTick)
    this.#nextTick = null
    this.#slots.clear()
    for (const slot of this.#due) slot.clear()
    this.#due = []
  }

  #scheduleTick(): void {
    this.#expectedAt = (this.#turnedTo + 1) * SLOT_MS
    const delayMs = Math.max(MIN_TICK_MS, this.#expectedAt - this.now())
    this.#nextTick = this.#base.setTimeout(() => this.#tick(), delayMs)
  }

  #tick(): void {
    this.#lagMs = Math.max(0, this.now() - this.#expectedAt)
    this.#turnedTo = Math.floor(this.now() / SLOT_MS)
    // A clock that leapt has made many slots due: there are never more of them than timers.
    const reached = [...this.#slots.keys()].filter((at) => at <= this.#turnedTo).sort((a, b) => a - b)
    for (const at of reached) {
      this.#due.push(this.#slots.get(at) as Set<Entry>)
      this.#slots.delete(at)
    }
    this.#nextTick = null
    if (this.#slots.size > 0) this.#scheduleTick()
    this.#callDue()
  }

  #callDue(): void {
    if (this.#isCalling) return
    this.#isCalling = true
    for (let slot = this.#due[0]; slot !== undefined && this.#calls < CALLS_PER_TURN; slot = this.#due[0]) {
      for (const entry of slot) {
        if (this.#calls === CALLS_PER_TURN) break
        this.#calls += 1
        slot.delete(entry)
        try {
          entry.callback()
        } catch (error) {
          process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in a timer' })
        }
      }
      if (slot.size === 0) this.#due.shift()
    }
    this.#isCalling = false
    if (this.#calls > 0) this.#awaitNextTurn()
  }

  #awaitNextTurn(): void {
    if (this.#isTurnAwaited) return
    this.#isTurnAwaited = true
    setImmediate(() => {
      this.#isTurnAwaited = false
      this.#calls = 0
      this.#callDue()
    })
  }
}
