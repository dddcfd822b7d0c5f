/** At most one value: the latest. */
export class Latest<T> {
  #value: { item: T } | null = null

  get isSet(): boolean {
    return this.#value !== null
  }

  set(item: T): void {
    this.#value = { item }
  }

  /** Only while one is set. */
  take(): T {
    const { item } = this.#value as { item: T }
    this.#value = null
    return item
  }

  clear(): void {
    this.#value = null
  }
}
