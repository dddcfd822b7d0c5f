import type { EventLog } from '../buffer/event-log.js'
import type { SharedRead, SharedReads } from '../handler/log-reader.js'
import { Chunk } from '../wire/chunk.js'
import type { Frame } from '../wire/frame.js'
import type { Selection } from './selection.js'

/** Readers that catch up stop at multiples of this, so that they come to share what they read, wherever they began. */
const BLOCK_EVENTS = 512
/** The most reads kept: 4 MiB or so. The oldest goes first. */
const MAX_KEPT = 64

interface KeptRead extends SharedRead {
  /** The end of the log that it reached; null when it ends before that, and so says the same for ever. */
  readonly end: number | null
}

/** Reads a log for the connections that get the same of it: joined once for those at the same place. */
export class Reads implements SharedReads {
  readonly #log: EventLog
  readonly #selection: Selection | null
  readonly #isShared: boolean
  readonly #kept = new Map<number, KeptRead>()

  constructor(log: EventLog, selection: Selection | null) {
    this.#log = log
    this.#selection = selection
    this.#isShared = selection === null || selection.key !== null
  }

  /** Names the selection; null for one of a single reader, and for none. */
  get key(): string | null {
    return this.#selection?.key ?? null
  }

  read(from: number, maxBytes: number, to = this.#log.next): SharedRead {
    if (to < this.#log.next) return this.#readLog(from, to, maxBytes)
    const kept = this.#kept.get(from)
    if (kept !== undefined && (kept.end === null || kept.end === this.#log.next)) return kept
    const read = this.#readLog(from, to, maxBytes)
    if (!this.#isShared) return read
    this.#kept.delete(from)
    if (this.#kept.size >= MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value as number)
    this.#kept.set(from, read)
    return read
  }

  /** Frees what is kept: nobody is behind. */
  forget(): void {
    this.#kept.clear()
  }

  #readLog(from: number, end: number, maxBytes: number): KeptRead {
    const block = (Math.floor(from / BLOCK_EVENTS) + 1) * BLOCK_EVENTS
    const to = end - from > BLOCK_EVENTS ? block : end
    if (this.#selection !== null) return this.#select(this.#selection, from, to, end, maxBytes)
    const frames: Frame[] = []
    const next = this.#log.read(from, to, maxBytes, frames)
    return {
      chunk: new Chunk(frames),
      events: next - from,
      told: next,
      next,
      end: next === end ? end : null,
    }
  }

  #select(selection: Selection, from: number, to: number, end: number, maxBytes: number): KeptRead {
    const frames: Frame[] = []
    let told = from
    let next = from
    for (let bytes = 0; next < to && bytes < maxBytes; next += 1) {
      const frame = this.#log.frameAt(next)
      if (!selection.selects(this.#log, next, frame)) continue
      frames.push(frame)
      bytes += frame.length
      told = next + 1
    }
    return {
      chunk: frames.length === 0 ? null : new Chunk(frames),
      events: frames.length,
      told,
      next,
      end: next === end ? end : null,
    }
  }
}

/** The reads of a channel: one for those that select nothing, and one for each selection that somebody has. */
export class ReadsBySelection {
  readonly #log: EventLog
  readonly #ofAll: Reads
  readonly #ofSome = new Map<string, { reads: Reads; readers: number }>()

  constructor(log: EventLog) {
    this.#log = log
    this.#ofAll = new Reads(log, null)
  }

  /** The reads for one more reader. */
  for(selection: Selection | null): Reads {
    if (selection === null) return this.#ofAll
    if (selection.key === null) return new Reads(this.#log, selection)
    let shared = this.#ofSome.get(selection.key)
    if (shared === undefined) {
      shared = { reads: new Reads(this.#log, selection), readers: 0 }
      this.#ofSome.set(selection.key, shared)
    }
    shared.readers += 1
    return shared.reads
  }

  /** One reader less. */
  letGo({ key }: Reads): void {
    const shared = key === null ? undefined : this.#ofSome.get(key)
    if (key === null || shared === undefined) return
    shared.readers -= 1
    if (shared.readers === 0) this.#ofSome.delete(key)
  }

  /** Frees what is kept for sharing. */
  forget(): void {
    this.#ofAll.forget()
    for (const { reads } of this.#ofSome.values()) reads.forget()
  }
}
