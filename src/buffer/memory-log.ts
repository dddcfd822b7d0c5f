import { type Clock, systemClock } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { knownOptions, wholeNumber } from '../options.js'
import { withId } from '../wire/encode.js'
import { type Frame, frameSize, toFrame } from '../wire/frame.js'
import { formatEventId } from './event-id.js'
import type { EventLabel, EventLog } from './event-log.js'
import { Ring } from './ring.js'

/** The bounds of a memory log, and its name. */
export interface MemoryLogOptions {
  /** The most events kept; the oldest goes first. Minimum 1, default 1,000. */
  maxEvents?: number | undefined
  /**
   * The most bytes of encoded events kept; the oldest goes first. An event that is larger alone is not kept, and
   * counts as evicted. Minimum 1, default 16 MiB.
   */
  maxBytes?: number | undefined
  /** Milliseconds an event is kept; looked at when the log is used, not by a timer. Default Infinity. */
  maxAgeMs?: number | undefined
  /** Names this history in event ids: 1 to 64 of `A-Z a-z 0-9 . _ -`. Default: random, new at each start. */
  epoch?: string | undefined
  /** Time; a test passes its own. Default: the system's. */
  clock?: Clock | undefined
}

const KNOWN: ReadonlySet<string> = new Set(['maxEvents', 'maxBytes', 'maxAgeMs', 'epoch', 'clock'])
const DEFAULT_MAX_BYTES = 16 * 1024 * 1024

/**
 * An event log in this process's memory. It holds no timer and no handle: drop the reference and it is gone.
 * Its ids mean nothing after a restart, which clients that come back are told by a gap event.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function createMemoryLog(options: MemoryLogOptions = {}): EventLog {
  knownOptions('createMemoryLog', options, KNOWN)
  return new MemoryLog(options)
}

interface Entry {
  frame: Frame
  label: EventLabel | undefined
  bytes: number
  /** Bytes appended to the log before this entry, ever: the size of a range is one subtraction. */
  offset: number
  at: number
}

/** A memory log, which may share a budget of bytes with others. */
export class MemoryLog implements EventLog {
  readonly epoch: string
  readonly maxBytes: number
  readonly #clock: Clock
  readonly #maxAgeMs: number
  readonly #entries: Ring<Entry>
  readonly #listeners = new Set<() => void>()
  #next = 1
  #bytesAppended = 0
  #bytesHeld = 0

  /** Told of bytes that the log holds more, or less; may evict. Null when the log pays for itself. */
  #onBytes: ((log: MemoryLog, bytes: number) => void) | null

  constructor(options: MemoryLogOptions, onBytes: ((log: MemoryLog, bytes: number) => void) | null = null) {
    this.#onBytes = onBytes
    const infinity = true
    this.#entries = new Ring(wholeNumber('maxEvents', options.maxEvents, 1000, { min: 1 }))
    this.maxBytes = wholeNumber('maxBytes', options.maxBytes, DEFAULT_MAX_BYTES, { min: 1, infinity })
    this.#maxAgeMs = wholeNumber('maxAgeMs', options.maxAgeMs, Number.POSITIVE_INFINITY, { min: 1, infinity })
    this.#clock = options.clock ?? systemClock
    this.epoch = checkedEpoch(options.epoch) ?? crypto.randomUUID().slice(0, 8)
  }

  get maxEvents(): number {
    return this.#entries.capacity
  }

  get oldest(): number {
    this.#evictByAge()
    return this.#next - this.#entries.length
  }

  get next(): number {
    return this.#next
  }

  append(block: string, label?: EventLabel): number {
    const sequence = this.#next
    const frame = toFrame(withId(formatEventId(this.epoch, sequence), block))
    const bytes = frameSize(frame)
    this.#evictByAge()
    while (this.#entries.length === this.#entries.capacity || this.#bytesHeld + bytes > this.maxBytes) {
      if (!this.evictOldest()) break
    }
    if (bytes <= this.maxBytes) {
      const at = this.#maxAgeMs === Number.POSITIVE_INFINITY ? 0 : this.#clock.now()
      this.#entries.push({ frame, label, bytes, offset: this.#bytesAppended, at })
      this.#bytesHeld += bytes
    }
    this.#bytesAppended += bytes
    this.#next = sequence + 1
    if (bytes <= this.maxBytes) this.#onBytes?.(this, bytes)
    for (const listener of this.#listeners) listener()
    return sequence
  }

  read(from: number, maxBytes: number, into: Frame[]): number {
    const first = this.#next - this.#entries.length
    let sequence = Math.max(from, first)
    let taken = 0
    while (sequence < this.#next && taken < maxBytes) {
      const entry = this.#entries.at(sequence - first) as Entry
      into.push(entry.frame)
      taken += entry.bytes
      sequence += 1
    }
    return sequence
  }

  bytesFrom(from: number): number {
    const entry = this.#entries.at(from - (this.#next - this.#entries.length))
    return entry === undefined ? 0 : this.#bytesAppended - entry.offset
  }

  labelAt(sequence: number): EventLabel | undefined {
    return this.#entries.at(sequence - (this.#next - this.#entries.length))?.label
  }

  onAppend(listener: () => void): () => void {
    const own = (): void => listener()
    this.#listeners.add(own)
    return () => void this.#listeners.delete(own)
  }

  #evictByAge(): void {
    if (this.#maxAgeMs === Number.POSITIVE_INFINITY || this.#entries.length === 0) return
    const keptSince = this.#clock.now() - this.#maxAgeMs
    for (let oldest = this.#entries.at(0); oldest !== undefined && oldest.at <= keptSince; ) {
      this.evictOldest()
      oldest = this.#entries.at(0)
    }
  }

  /** Gives the oldest event up. False when there is none. */
  evictOldest(): boolean {
    const entry = this.#entries.shift()
    if (entry === undefined) return false
    this.#bytesHeld -= entry.bytes
    this.#onBytes?.(this, -entry.bytes)
    return true
  }

  /** Tells of no more bytes. Returns how many it holds. */
  leaveBudget(): number {
    this.#onBytes = null
    return this.#bytesHeld
  }
}

function checkedEpoch(epoch: string | undefined): string | undefined {
  if (epoch === undefined || (typeof epoch === 'string' && /^[\w.-]{1,64}$/.test(epoch))) return epoch
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option epoch is ${shown(epoch)}; expected 1 to 64 characters of A-Z a-z 0-9 . _ -`,
  )
}
