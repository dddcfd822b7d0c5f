import { type Clock, systemClock } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { knownOptions, wholeNumber } from '../options.js'
import { withId } from '../wire/encode.js'
import { type Frame, writeText } from '../wire/frame.js'
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

/** Encoded events, one behind the other. What is written is never changed: whoever reads it may keep it. */
interface Segment {
  readonly bytes: Buffer
  /** Bytes appended to the log before this segment, ever. */
  readonly offset: number
  used: number
}

/** A segment is as large as what is held already, between these: many small logs stay small. */
const MIN_SEGMENT_BYTES = 1024
const MAX_SEGMENT_BYTES = 64 * 1024
/** Text that waits to be written is at most so long. */
const MAX_TAIL_UNITS = 64 * 1024
/** The most bytes of UTF-8 that one UTF-16 unit of a string becomes. */
const MAX_BYTES_PER_UNIT = 3

/**
 * A memory log, which may share a budget of bytes with others. Events are bytes outside the heap, joined already: a long
 * history costs the garbage collector nothing, and reading a range of it is a copy. The latest events are text until
 * somebody reads them: to encode those of a turn together costs a third.
 */
export class MemoryLog implements EventLog {
  readonly epoch: string
  readonly maxBytes: number
  readonly #clock: Clock
  readonly #maxAgeMs: number
  readonly #segments = new Ring<Segment>(Number.POSITIVE_INFINITY)
  /** For each event but those of the tail: the bytes appended to the log before it, ever. The size of a range is one subtraction. */
  readonly #offsets: Ring<number>
  readonly #labels: Ring<EventLabel | undefined>
  /** When each event was appended; null when events have no age. */
  readonly #times: Ring<number> | null
  readonly #listeners = new Set<() => void>()
  /** The latest events, as text. */
  #tail: string[] = []
  #tailUnits = 0
  #next = 1
  /** Bytes appended to the log, ever, but for the tail. */
  #end = 0
  /** Told of bytes that the log holds more, or less; may evict. Null when the log pays for itself. */
  #onBytes: ((log: MemoryLog, bytes: number) => void) | null

  constructor(options: MemoryLogOptions, onBytes: ((log: MemoryLog, bytes: number) => void) | null = null) {
    this.#onBytes = onBytes
    const infinity = true
    const maxEvents = wholeNumber('maxEvents', options.maxEvents, 1000, { min: 1 })
    this.maxBytes = wholeNumber('maxBytes', options.maxBytes, DEFAULT_MAX_BYTES, { min: 1, infinity })
    this.#maxAgeMs = wholeNumber('maxAgeMs', options.maxAgeMs, Number.POSITIVE_INFINITY, { min: 1, infinity })
    this.#offsets = new Ring(maxEvents)
    this.#labels = new Ring(maxEvents)
    this.#times = this.#maxAgeMs === Number.POSITIVE_INFINITY ? null : new Ring(maxEvents)
    this.#clock = options.clock ?? systemClock
    this.epoch = checkedEpoch(options.epoch) ?? crypto.randomUUID().slice(0, 8)
  }

  get maxEvents(): number {
    return this.#offsets.capacity
  }

  get oldest(): number {
    this.#evictByAge()
    return this.#next - this.#length
  }

  get next(): number {
    return this.#next
  }

  append(block: string, label?: EventLabel): number {
    const sequence = this.#next
    this.#evictByAge()
    if (this.#length === this.maxEvents) this.evictOldest()
    const text = withId(formatEventId(this.epoch, sequence), block)
    this.#tail.push(text)
    this.#tailUnits += text.length
    this.#labels.push(label)
    this.#times?.push(this.#clock.now())
    this.#next = sequence + 1
    this.#keepWithinBytes()
    for (const listener of this.#listeners) listener()
    return sequence
  }

  read(from: number, to: number, maxBytes: number, into: Frame[]): number {
    this.#encodeTail()
    const first = this.#next - this.#length
    let sequence = Math.max(from, first)
    let left = maxBytes
    while (sequence < to && left > 0) {
      const start = this.#offsetOf(sequence)
      const segment = this.#segmentAt(start)
      const end = this.#endOfRead(sequence, Math.min(to, this.#next), start + left, segment)
      into.push(segment.bytes.subarray(start - segment.offset, this.#offsetOf(end) - segment.offset))
      left -= this.#offsetOf(end) - start
      sequence = end
    }
    return sequence
  }

  frameAt(sequence: number): Frame {
    this.#encodeTail()
    const start = this.#offsetOf(sequence)
    const { bytes, offset } = this.#segmentAt(start)
    return bytes.subarray(start - offset, this.#offsetOf(sequence + 1) - offset)
  }

  bytesFrom(from: number): number {
    if (from >= this.#next) return 0
    this.#encodeTail()
    return this.#end - this.#offsetOf(from)
  }

  labelAt(sequence: number): EventLabel | undefined {
    return this.#labels.at(sequence - (this.#next - this.#labels.length))
  }

  onAppend(listener: () => void): () => void {
    const own = (): void => listener()
    this.#listeners.add(own)
    return () => void this.#listeners.delete(own)
  }

  /** Gives the oldest event up. False when there is none. */
  evictOldest(): boolean {
    if (this.#offsets.length === 0) this.#encodeTail()
    const offset = this.#offsets.shift()
    if (offset === undefined) return false
    this.#labels.shift()
    this.#times?.shift()
    const held = this.#offsets.at(0) ?? this.#end
    // The last segment is written to still, unless nothing is left in it.
    if (this.#offsets.length === 0) this.#segments.clear()
    while (this.#segments.length > 1 && (this.#segments.at(1) as Segment).offset <= held)
      this.#segments.shift()
    this.#onBytes?.(this, offset - held)
    return true
  }

  /** Tells of no more bytes. Returns how many it holds. */
  leaveBudget(): number {
    this.#encodeTail()
    this.#onBytes = null
    return this.#bytesHeld
  }

  get #length(): number {
    return this.#offsets.length + this.#tail.length
  }

  /** Without those of the tail. */
  get #bytesHeld(): number {
    return this.#end - (this.#offsets.at(0) ?? this.#end)
  }

  #keepWithinBytes(): void {
    const bytesAtMost = this.#bytesHeld + this.#tailUnits * MAX_BYTES_PER_UNIT
    if (this.#onBytes === null && this.#tailUnits < MAX_TAIL_UNITS && bytesAtMost <= this.maxBytes) return
    this.#encodeTail()
    while (this.#bytesHeld > this.maxBytes && this.evictOldest()) {}
  }

  /** Where an event begins; for the sequence that comes next, where it will. The tail must be encoded. */
  #offsetOf(sequence: number): number {
    return this.#offsets.at(sequence - (this.#next - this.#offsets.length)) ?? this.#end
  }

  #encodeTail(): void {
    if (this.#tail.length === 0) return
    const events = this.#tail
    const text = events.join('')
    this.#tail = []
    this.#tailUnits = 0
    const bytes = this.#write(text)
    // ASCII has a byte for each unit, all else has more: then nothing needs to be counted.
    const isAscii = bytes === text.length
    for (const event of events) {
      this.#offsets.push(this.#end)
      this.#end += isAscii ? event.length : Buffer.byteLength(event)
    }
    this.#onBytes?.(this, bytes)
  }

  /** Writes into one segment, and returns how many bytes. */
  #write(text: string): number {
    let segment = this.#segments.at(this.#segments.length - 1)
    const room = segment === undefined ? 0 : segment.bytes.length - segment.used
    if (segment === undefined || text.length * MAX_BYTES_PER_UNIT > room) {
      const bytes = Buffer.byteLength(text)
      if (segment === undefined || bytes > room) segment = this.#addSegment(bytes)
    }
    const written = writeText(segment.bytes, text, segment.used)
    segment.used += written
    return written
  }

  #addSegment(bytes: number): Segment {
    const usual = Math.min(MAX_SEGMENT_BYTES, Math.max(MIN_SEGMENT_BYTES, this.#bytesHeld))
    const segment = { bytes: Buffer.allocUnsafeSlow(Math.max(usual, bytes)), offset: this.#end, used: 0 }
    this.#segments.push(segment)
    return segment
  }

  /** The segment that the byte at an offset is in. */
  #segmentAt(offset: number): Segment {
    let [low, high] = [0, this.#segments.length - 1]
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((this.#segments.at(middle) as Segment).offset <= offset) low = middle
      else high = middle - 1
    }
    return this.#segments.at(low) as Segment
  }

  /** The sequence behind the events of one segment that begin before an offset: one at least. */
  #endOfRead(from: number, to: number, beforeOffset: number, segment: Segment): number {
    const limit = Math.min(beforeOffset, segment.offset + segment.used)
    let [low, high] = [from + 1, to]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      if (this.#offsetOf(middle) < limit) low = middle + 1
      else high = middle
    }
    return low
  }

  #evictByAge(): void {
    if (this.#times === null) return
    const keptSince = this.#clock.now() - this.#maxAgeMs
    for (let at = this.#times.at(0); at !== undefined && at <= keptSince; at = this.#times.at(0)) {
      this.evictOldest()
    }
  }
}

function checkedEpoch(epoch: string | undefined): string | undefined {
  if (epoch === undefined || (typeof epoch === 'string' && /^[\w.-]{1,64}$/.test(epoch))) return epoch
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option epoch is ${shown(epoch)}; expected 1 to 64 characters of A-Z a-z 0-9 . _ -`,
  )
}
