import type { EventLog } from '../buffer/event-log.js'
import type { SharedRead, SharedReads } from '../handler/log-reader.js'
import { Chunk } from '../wire/chunk.js'
import type { Frame } from '../wire/frame.js'
import type { Selection } from './selection.js'

/** Readers that catch up stop at multiples of this, so that they come to share what they read, wherever they began. */
const BLOCK_EVENTS = 512
/** The most reads kept by a channel, 4 MiB or so; beyond it all are freed. */
const MAX_KEPT = 64

interface KeptRead extends SharedRead {
  /** The end of the log that it reached; null when it ends before that, and so says the same for ever. */
  readonly end: number | null
}

/** Reads a log for the connections that get the same of it: joined once for those at the same place. */
export class Reads implements SharedReads {
  readonly #log: EventLog
  readonly #selection: Selection | null
  /** Those who read through it. What only one of them reads is not kept. */
  readers = 0
  readonly #onKept: () => void
  readonly #kept = new Map<number, KeptRead>()

  /** @param onKept Told before a read is kept; may free what is kept. */
  constructor(log: EventLog, selection: Selection | null, onKept: () => void) {
    this.#log = log
    this.#selection = selection
    this.#onKept = onKept
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
    if (this.readers < 2) return read
    if (kept === undefined) this.#onKept()
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
      // Selecting runs code of the user, which may publish: what is evicted for that is met as a gap.
      if (next < this.#log.oldest) break
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
  readonly #ofSome = new Map<string, Reads>()
  #kept = 0

  constructor(log: EventLog) {
    this.#log = log
    this.#ofAll = this.#make(null)
  }

  /** The reads for one more reader. */
  for(selection: Selection | null): Reads {
    const reads = this.#find(selection)
    reads.readers += 1
    return reads
  }

  /** One reader less. */
  letGo(reads: Reads): void {
    reads.readers -= 1
    if (reads.readers > 0) return
    reads.forget()
    if (reads.key !== null && this.#ofSome.get(reads.key) === reads) this.#ofSome.delete(reads.key)
  }

  /** Frees what is kept for sharing. */
  forget(): void {
    if (this.#kept === 0) return
    this.#kept = 0
    this.#ofAll.forget()
    for (const reads of this.#ofSome.values()) reads.forget()
  }

  #find(selection: Selection | null): Reads {
    if (selection === null) return this.#ofAll
    if (selection.key === null) return this.#make(selection)
    const known = this.#ofSome.get(selection.key)
    if (known !== undefined) return known
    const reads = this.#make(selection)
    this.#ofSome.set(selection.key, reads)
    return reads
  }

  #make(selection: Selection | null): Reads {
    return new Reads(this.#log, selection, () => {
      if (this.#kept >= MAX_KEPT) this.forget()
      this.#kept += 1
    })
  }
}
