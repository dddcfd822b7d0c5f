import { formatEventId } from '../buffer/event-id.js'
import { type EventLog, locate } from '../buffer/event-log.js'
import type { Chunk } from '../wire/chunk.js'
import { encodeEvent } from '../wire/encode.js'
import type { Frame } from '../wire/frame.js'
import type { Gap } from './gap.js'

/** How positions in a log are answered. */
export interface ReadRules {
  replayStart: 'newest' | 'oldest'
  afterGap: Gap['continues']
}

export interface LogReaderOwner {
  /** A gap is being told to the client. Called in the middle of a take: must not throw, nor run code of the user. */
  gapMet(gap: Gap): void
}

/** What readers that get the same events read through, so that those at the same place share what is read. */
export interface SharedReads {
  /** What is owed from a sequence on, up to about `maxBytes`, before `to` (or so far). Looks at a bounded number of events. */
  read(from: number, maxBytes: number, to?: number): SharedRead
}

export interface SharedRead {
  /** Null when none of the events looked at is for these readers. */
  readonly chunk: Chunk | null
  /** Events in the chunk. */
  readonly events: number
  /** The sequence behind the last event in the chunk. */
  readonly told: number
  /** The sequence behind the last event looked at. */
  readonly next: number
}

/** A client is told its position anew when this part of the log went by that was not for it. */
const PARTS_UNTOLD = 4

/**
 * A place in a log, from which one connection reads: replay and live delivery are the same act. A standalone value
 * without I/O or timers.
 */
export class LogReader {
  eventsTaken = 0
  /** How many of them were in the log before the client came. */
  replayedTaken = 0
  readonly log: EventLog
  readonly #owner: LogReaderOwner
  readonly #rules: ReadRules
  readonly #shared: SharedReads | null
  /** The sequence that the client gets next. */
  #cursor: number
  /** The end of the log as this client sees it: fixed when the connection drains. */
  #end: number | null = null
  /** Events before this sequence are given up, though the log may have them still. */
  #floor = 0
  /** Events before this sequence were in the log when the client came. */
  #replayEnd: number
  #gap: Gap | null = null
  /** Whether the events of the log have to wait for a snapshot. */
  #isHeld = false
  /** Whether nobody may be given anything. */
  #isPaused = false
  #snapshot: readonly Frame[] | null = null
  /** Whether the position is to be told though no event tells it. */
  #mustTell = false
  /** The cursor as the client knows it from the ids it got. */
  #toldCursor: number
  /** The cursor when the last write was made. */
  #writtenCursor: number

  /**
   * @param from Where the client stands: the last id it got, null when it has no position, or the reader that read the
   * same log for it before.
   */
  constructor(
    log: EventLog,
    from: string | null | LogReader,
    rules: ReadRules,
    owner: LogReaderOwner,
    shared: SharedReads | null = null,
  ) {
    this.log = log
    this.#owner = owner
    this.#rules = rules
    this.#shared = shared
    this.#replayEnd = log.next
    this.#cursor = rules.replayStart === 'oldest' ? log.oldest : log.next
    if (typeof from === 'string') {
      const position = locate(log, from)
      if (position.known) this.#cursor = position.next
      else this.#meetGap(from, position.cause)
    }
    this.#toldCursor = this.#cursor
    this.#writtenCursor = this.#cursor
    if (from instanceof LogReader) this.#takeOver(from)
  }

  /** The sequence that the client gets next. */
  get cursor(): number {
    return this.#cursor
  }

  /** Events between the client and the end, whether they are for it or not. */
  get lag(): number {
    if (this.#isPaused) return 0
    return Math.max(0, (this.#end ?? this.log.next) - this.#cursor)
  }

  get lagBytes(): number {
    return this.lag === 0 ? 0 : this.log.bytesFrom(Math.max(this.#cursor, this.log.oldest))
  }

  /** Whether nothing can be taken now. */
  get isEmpty(): boolean {
    if (this.#isPaused) return true
    if (this.#gap !== null || this.#snapshot !== null) return false
    return this.#isHeld || (this.lag === 0 && !this.#mustTell)
  }

  /** Whether events that the client missed while it was away are still to be taken. */
  get isReplaying(): boolean {
    return !this.#isPaused && this.#cursor < this.#replayEnd
  }

  /** Whether nothing of the log can be read before a snapshot is sent. */
  get isWaiting(): boolean {
    return this.#isHeld
  }

  /** Whether the client has all there is. */
  get isCaughtUp(): boolean {
    return this.isEmpty && !this.#isHeld
  }

  /** The id of the position that the reader has come to. */
  get positionId(): string {
    return this.#idBefore(this.#cursor)
  }

  /** The id of the last event handed to the transport, or where the client came in. */
  get lastId(): string {
    return this.#idBefore(this.#writtenCursor)
  }

  /** Where the client comes in, to be told with the first event; undefined when something else will tell. */
  get openingId(): string | undefined {
    return this.#gap !== null || this.#isHeld || this.#snapshot !== null ? undefined : this.positionId
  }

  /** Whether the client is to be given the state before anything else. */
  get needsState(): boolean {
    return this.#isHeld || this.#snapshot !== null
  }

  /** Gives nothing any more, but keeps its place for another reader. */
  pause(): void {
    this.#isPaused = true
  }

  /** Waits for a snapshot of the state as it is now: what is in the log so far is behind it. */
  hold(): void {
    this.#isHeld = true
    this.#cursor = this.log.next
  }

  /** Sends a snapshot, then what the log has from `next` on; by default from where the reader was held. */
  resumeWith(events: readonly Frame[], next = this.#cursor): void {
    this.#isHeld = false
    this.#cursor = next
    this.#snapshot = events
  }

  /** Has the position told if the client knows an older one. False when there is no need. */
  tellEnd(): boolean {
    this.#mustTell = this.#toldCursor !== this.#cursor
    return this.#mustTell
  }

  /** Gives events before a sequence up: a gap when the client has not had them. */
  giveUp(before: number): void {
    this.#floor = before
  }

  /** Reads nothing that is appended from now on. Without its snapshot a client gets nothing of the log at all. */
  seal(): void {
    if (this.#isHeld) this.clear()
    else this.#end ??= this.log.next
  }

  /** Owes nothing any more. */
  clear(): void {
    this.#end = this.#cursor
    this.#gap = null
    this.#snapshot = null
    this.#isHeld = false
    this.#mustTell = false
  }

  /** Moves what is owed to `into`, in order, until the events in it are `maxBytes` or more. */
  take(maxBytes: number, into: Frame[]): void {
    if (this.#isPaused) return
    if (this.#gap !== null) this.#takeGap(this.#asItIsNow(this.#gap), into)
    if (this.#snapshot !== null) this.#takeSnapshot(this.#snapshot, into)
    this.#lookForGap()
    if (this.#gap !== null) this.#takeGap(this.#gap, into)
    if (this.#isHeld) return
    if (this.lag > 0) {
      const chunk = this.#shared === null ? null : this.#takeShared(this.#shared, maxBytes)
      if (chunk !== null) into.push(chunk.bytes)
      else if (this.#shared === null) this.#takeFrames(maxBytes, into)
    }
    if (this.#mustTell || this.#isPositionFarOff()) this.#tellPosition(into)
  }

  /** What is owed as a chunk that others may get, too; null when there is more to say, or nothing. */
  takeChunk(maxBytes: number): Chunk | null {
    if (this.#shared === null || this.#gap !== null || this.#snapshot !== null || this.#mustTell) return null
    if (this.#isHeld || this.lag === 0 || this.#cursor < this.#oldest || this.#isPositionFarOff()) return null
    return this.#takeShared(this.#shared, maxBytes)
  }

  /** Tells the position if the client knows an older one: events that are not for it went by. */
  tellPosition(into: Frame[]): boolean {
    if (this.#isHeld || this.#cursor === this.#toldCursor) return false
    this.#tellPosition(into)
    return true
  }

  /** All that was taken so far has been handed to the transport. */
  written(): void {
    this.#writtenCursor = this.#cursor
  }

  #takeOver(from: LogReader): void {
    this.#replayEnd = from.#replayEnd
    this.#cursor = from.#cursor
    this.#toldCursor = from.#toldCursor
    this.#writtenCursor = from.#writtenCursor
    this.#isHeld = from.needsState
    if (from.#gap !== null) this.#meetGap(from.#gap.asked, from.#gap.cause)
  }

  get #oldest(): number {
    return Math.max(this.#floor, this.log.oldest)
  }

  #idBefore(sequence: number): string {
    return formatEventId(this.log.epoch, sequence - 1)
  }

  #takeFrames(maxBytes: number, into: Frame[]): void {
    const next = this.log.read(this.#cursor, this.#end ?? this.log.next, maxBytes, into)
    this.#count(next - this.#cursor, next)
    this.#toldCursor = next
  }

  #takeShared(shared: SharedReads, maxBytes: number): Chunk | null {
    const { chunk, events, told, next } = shared.read(this.#cursor, maxBytes, this.#end ?? this.log.next)
    // Selecting runs code of the user, which may have handed the place on to another reader.
    if (this.#isPaused) return null
    this.#count(events, next)
    if (chunk !== null) this.#toldCursor = told
    return chunk
  }

  #count(events: number, next: number): void {
    this.eventsTaken += events
    if (this.#cursor < this.#replayEnd) {
      this.replayedTaken += Math.min(events, this.#replayEnd - this.#cursor)
    }
    this.#cursor = next
  }

  /** What follows a gap may have been evicted since it was met: that is one hole, told once. */
  #asItIsNow(gap: Gap): Gap {
    if (gap.continues !== 'snapshot' && this.#cursor < this.#oldest) this.#meetGap(gap.asked, gap.cause)
    return this.#gap ?? gap
  }

  #lookForGap(): void {
    if (this.#isHeld || this.lag === 0 || this.#cursor >= this.#oldest) return
    this.#meetGap(this.#idBefore(this.#cursor), 'evicted')
  }

  /** Notes a gap, to be told when something is taken, and goes on behind it. */
  #meetGap(asked: string, cause: Gap['cause']): void {
    const { afterGap } = this.#rules
    // Read once: events may expire between two looks.
    const { oldest: first, next } = this.log
    const oldest = first === next ? null : formatEventId(this.log.epoch, first)
    this.#gap = { asked: asked.slice(0, 128), oldest, cause, continues: afterGap }
    this.#cursor = afterGap === 'oldest' ? Math.max(first, this.#floor) : next
  }

  /** The gap event carries the position behind the gap: a client that reconnects right after it meets no second one. */
  #takeGap(gap: Gap, into: Frame[]): void {
    this.#gap = null
    const waits = gap.continues === 'snapshot'
    if (waits) this.#isHeld = true
    into.push(encodeEvent({ event: 'gap', data: gap, ...(!waits && { id: this.#idBefore(this.#cursor) }) }))
    if (!waits) this.#toldCursor = this.#cursor
    this.#owner.gapMet(gap)
  }

  /** Only the end of the snapshot carries the position: a client that is cut before it gets the whole of it again. */
  #takeSnapshot(events: readonly Frame[], into: Frame[]): void {
    this.#snapshot = null
    for (const event of events) into.push(event)
    this.#tellPosition(into)
  }

  #isPositionFarOff(): boolean {
    if (this.#cursor === this.#toldCursor) return false
    const { maxEvents, maxBytes, oldest } = this.log
    if (this.#cursor - this.#toldCursor > maxEvents / PARTS_UNTOLD) return true
    return this.log.bytesFrom(Math.max(this.#toldCursor, oldest)) - this.lagBytes > maxBytes / PARTS_UNTOLD
  }

  #tellPosition(into: Frame[]): void {
    into.push(encodeEvent({ event: 'position', id: this.#idBefore(this.#cursor) }))
    this.#toldCursor = this.#cursor
    this.#mustTell = false
  }
}
