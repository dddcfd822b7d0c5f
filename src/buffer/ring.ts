/**
 * A double-ended queue of bounded length in one array that is used again and again. It grows by doubling up
 * to its capacity, so that an idle connection pays for nothing. Push, shift and lookup are O(1).
 */
export class Ring<T> {
  readonly capacity: number
  #slots: (T | undefined)[] = []
  #head = 0
  #length = 0

  /** @param capacity The most items held, at least 1; `Infinity` for a ring that something else bounds. */
  constructor(capacity: number) {
    this.capacity = capacity
  }

  get length(): number {
    return this.#length
  }

  /** Adds an item at the end. False, and nothing changes, when the ring is full. */
  push(item: T): boolean {
    if (this.#length === this.capacity) return false
    if (this.#length === this.#slots.length) this.#grow()
    this.#slots[(this.#head + this.#length) & (this.#slots.length - 1)] = item
    this.#length += 1
    return true
  }

  /** Removes and returns the oldest item, or undefined when there is none. */
  shift(): T | undefined {
    if (this.#length === 0) return undefined
    const item = this.#slots[this.#head]
    this.#slots[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#slots.length - 1)
    this.#length -= 1
    return item
  }

  /** The item at a place, 0 being the oldest; undefined outside. */
  at(index: number): T | undefined {
    if (index < 0 || index >= this.#length) return undefined
    return this.#slots[(this.#head + index) & (this.#slots.length - 1)]
  }

  clear(): void {
    this.#slots = []
    this.#head = 0
    this.#length = 0
  }

  #grow(): void {
    const old = this.#slots
    const grown = new Array<T | undefined>(Math.max(4, old.length * 2))
    for (let i = 0; i < this.#length; i += 1) grown[i] = old[(this.#head + i) & (old.length - 1)]
    this.#slots = grown
    this.#head = 0
  }
}
