/** What a registry knows a connection by. */
export interface Registered {
  readonly sessionId: string
  readonly key: string
}

/** The open connections of a process, by session and by key; each in the order in which they came. */
export class Registry<Entry extends Registered> {
  readonly #all = new Set<Entry>()
  readonly #bySession = new Map<string, Set<Entry>>()
  readonly #byKey = new Map<string, Set<Entry>>()

  get size(): number {
    return this.#all.size
  }

  [Symbol.iterator](): IterableIterator<Entry> {
    return this.#all.values()
  }

  add(entry: Entry): void {
    this.#all.add(entry)
    addTo(this.#bySession, entry.sessionId, entry)
    addTo(this.#byKey, entry.key, entry)
  }

  /** Removes this entry, and never another one of the same session. */
  remove(entry: Entry): void {
    if (!this.#all.delete(entry)) return
    removeFrom(this.#bySession, entry.sessionId, entry)
    removeFrom(this.#byKey, entry.key, entry)
  }

  ofSession(sessionId: string): readonly Entry[] {
    return [...(this.#bySession.get(sessionId) ?? [])]
  }

  ofKey(key: string): readonly Entry[] {
    return [...(this.#byKey.get(key) ?? [])]
  }
}

function addTo<Entry>(index: Map<string, Set<Entry>>, name: string, entry: Entry): void {
  const entries = index.get(name)
  if (entries === undefined) index.set(name, new Set([entry]))
  else entries.add(entry)
}

function removeFrom<Entry>(index: Map<string, Set<Entry>>, name: string, entry: Entry): void {
  const entries = index.get(name)
  entries?.delete(entry)
  if (entries?.size === 0) index.delete(name)
}
