import { formatEventId } from '../buffer/event-id.js'
import { type EventLog, type LogPosition, locate } from '../buffer/event-log.js'
import { FrameQueue } from '../buffer/frame-queue.js'
import { SSEError } from '../errors.js'
import { encodeComment, encodeEvent, encodeSettings } from '../wire/encode.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { type Frame, toFrame } from '../wire/frame.js'
import type { ResolvedOptions } from './options.js'

/** A range of events that a client asked for and cannot get. */
export interface Gap {
  /** The position asked for, cut to 128 characters. */
  asked: string
  /** The oldest id held; null when the log is empty. */
  oldest: string | null
  /** `unknown`: no id of this log. `other-epoch`: another history. `evicted`: too old. `future`: not given out yet. */
  cause: 'unknown' | 'other-epoch' | 'evicted' | 'future'
  /** What follows. */
  continues: 'oldest' | 'newest' | 'close'
}

export interface OutboxOwner {
  /** A gap is being told to the client. Called in the middle of `take`: must not throw, nor run code of the user. */
  gapMet(gap: Gap): void
}

/**
 * Everything that is owed to a client, and in which order: a standalone value without I/O or timers.
 *
 * Events are in one of two places. Without a log they wait in a bounded queue. With a log they are in the log
 * only, and a cursor says how far the client has got, so replay and live delivery are the same act.
 */
export class Outbox<Events extends object = EventMap> {
  readonly #limits: ResolvedOptions
  /** Null without a log, and until the client's place in it is found. */
  #log: EventLog | null = null
  /** Made for the first event: an idle connection has none. */
  #queue: FrameQueue | null = null
  readonly #owner: OutboxOwner
  /** The sequence in the log that the client gets next. */
  #cursor = 0
  /** The end of the log as this client sees it: fixed when the connection drains. */
  #end: number | null = null
  /** Events before this sequence were in the log when the client came. */
  #replayEnd = 0
  #head: string | null = null
  #gap: Gap | null = null
  #retry: string | null = null
  #comments: string | null = null
  #commentBytes = 0
  #heartbeat: string | null = null
  #tail: string | null = null
  #eventsTaken = 0
  #eventsWritten = 0
  #replayedTaken = 0
  #replayedWritten = 0
  /** The cursor when the last write was made. */
  #writtenCursor = 0

  constructor(limits: ResolvedOptions, owner: OutboxOwner) {
    this.#limits = limits
    this.#owner = owner
  }

  /** Events that wait, those in the log included. */
  get length(): number {
    return (this.#queue?.length ?? 0) + this.#lag
  }

  get bytes(): number {
    return (this.#queue?.bytes ?? 0) + this.#lagBytes
  }

  get isEmpty(): boolean {
    return (
      this.length === 0 &&
      this.#head === null &&
      this.#gap === null &&
      this.#retry === null &&
      this.#comments === null &&
      this.#heartbeat === null &&
      this.#tail === null
    )
  }

  /** Whether events that the client missed while it was away are still to be taken. */
  get isReplaying(): boolean {
    return this.#cursor < this.#replayEnd
  }

  /** Events handed to the transport. */
  get eventsWritten(): number {
    return this.#eventsWritten
  }

  /** How many of them were in the log before the client came. */
  get eventsReplayed(): number {
    return this.#replayedWritten
  }

  /** Events that were accepted and not handed to the transport. */
  get eventsUnwritten(): number {
    return this.length + this.#eventsTaken - this.#eventsWritten
  }

  /** The id of the last event handed to the transport, or where the client came in; null without a log. */
  get lastId(): string | null {
    return this.#log === null ? null : formatEventId(this.#log.epoch, this.#writtenCursor - 1)
  }

  get #takenId(): string | null {
    return this.#log === null ? null : formatEventId(this.#log.epoch, this.#cursor - 1)
  }

  get #lag(): number {
    return this.#log === null ? 0 : Math.max(0, (this.#end ?? this.#log.next) - this.#cursor)
  }

  get #lagBytes(): number {
    if (this.#log === null || this.#lag === 0) return 0
    return this.#log.bytesFrom(Math.max(this.#cursor, this.#log.oldest))
  }

  /** Composes what a client gets first, and finds its place in the log. Throws for a first event that cannot be sent. */
  open(sessionId: string, lastEventId: string | null, paddingBytes: number): void {
    if (this.#limits.log !== null) this.#enter(this.#limits.log, lastEventId)
    this.#writtenCursor = this.#cursor
    const position = this.#gap === null ? (this.lastId ?? undefined) : undefined
    const padding = paddingBytes === 0 ? '' : encodeComment(' '.repeat(paddingBytes))
    this.#head = padding + this.#firstBlock(sessionId, position)
  }

  hasRoom(reserved: number): boolean {
    const { maxEvents, maxBytes } = this.#limits
    if (this.length + reserved >= maxEvents) return false
    return this.#log === null ? (this.#queue?.isBelow(maxBytes) ?? true) : this.#lagBytes < maxBytes
  }

  encode(event: EventInput<Events>): string {
    const block = this.checked(encodeEvent(event as EventInput))
    if (this.#log !== null && event.id !== undefined) throw idGivenTwice()
    return block
  }

  /** A block, if it is no larger than an event may be. */
  checked(block: string): string {
    const { maxEventBytes } = this.#limits
    // A UTF-16 unit is at most three bytes of UTF-8: most blocks need no counting.
    if (block.length * 3 > maxEventBytes && Buffer.byteLength(block) > maxEventBytes) {
      throw new SSEError(
        'ERR_SSE_EVENT_TOO_LARGE',
        `The event is ${Buffer.byteLength(block)} bytes encoded, more than the ${maxEventBytes} of maxEventBytes; send less, split it, or raise the limit.`,
      )
    }
    return block
  }

  accept(block: string): void {
    if (this.#log === null) {
      this.#queue ??= new FrameQueue(this.#limits.maxEvents)
      this.#queue.push(toFrame(block))
      return
    }
    try {
      this.#log.append(block)
    } catch (cause) {
      throw new SSEError(
        'ERR_SSE_LOG_FAILED',
        'The event log could not keep the event, so it was not sent; see the cause, and send again when the log works.',
        { cause },
      )
    }
  }

  /** Takes comments up to `maxEventBytes` in all; false, and nothing changes, above. They are not kept in the log. */
  addComment(block: string): boolean {
    const bytes = Buffer.byteLength(block)
    if (this.#commentBytes + bytes > this.#limits.maxEventBytes) return false
    this.#comments = (this.#comments ?? '') + block
    this.#commentBytes += bytes
    return true
  }

  /** Replaces a delay that has not been taken yet: only the latest counts. */
  setRetry(retryMs: number): void {
    this.#retry = encodeSettings(retryMs)
  }

  setHeartbeat(block: string): void {
    this.#heartbeat = block
  }

  /** Lets nothing more in, but the last words, which come after everything else. */
  seal(): void {
    if (this.#log !== null) this.#end = this.#log.next
    this.#heartbeat = null
  }

  setTail(tail: string): void {
    this.#tail = tail
  }

  /** Moves what is owed to `into`, in order, until the events in it are `maxBytes` or more. */
  take(maxBytes: number, into: Frame[]): void {
    if (this.#head !== null) into.push(this.#head)
    if (this.#retry !== null) into.push(this.#retry)
    if (this.#comments !== null) into.push(this.#comments)
    this.#head = null
    this.#retry = null
    this.#comments = null
    this.#commentBytes = 0
    if (this.#gap !== null) this.#takeGap(this.#gap, into)
    if (this.#queue !== null) {
      const queued = this.#queue.length
      this.#queue.take(maxBytes, into)
      this.#eventsTaken += queued - this.#queue.length
    }
    if (this.#log !== null && this.#lag > 0) this.#takeFromLog(this.#log, maxBytes, into)
    if (this.#heartbeat !== null && into.length === 0) into.push(this.#heartbeat)
    this.#heartbeat = null
    if (this.#tail === null || this.length > 0) return
    into.push(this.#tail)
    this.#tail = null
  }

  /** All that was taken so far has been handed to the transport. */
  written(): void {
    this.#eventsWritten = this.#eventsTaken
    this.#replayedWritten = this.#replayedTaken
    this.#writtenCursor = this.#cursor
  }

  /** Forgets what was not taken. */
  clear(): void {
    this.#queue?.clear()
    this.#end = this.#cursor
    this.#head = null
    this.#gap = null
    this.#retry = null
    this.#comments = null
    this.#heartbeat = null
    this.#tail = null
  }

  #enter(log: EventLog, lastEventId: string | null): void {
    this.#log = log
    this.#replayEnd = log.next
    if (lastEventId === null) {
      this.#cursor = this.#limits.replayStart === 'oldest' ? log.oldest : log.next
      return
    }
    const position = locate(log, lastEventId)
    if (position.known) this.#cursor = position.next
    else this.#meetGap(log, lastEventId, position.cause)
  }

  /** Notes a gap, to be told when something is taken, and goes on behind it. */
  #meetGap(log: EventLog, asked: string, cause: (LogPosition & { known: false })['cause']): void {
    const { afterGap } = this.#limits
    // Read once: events may expire between two looks.
    const { oldest: first, next } = log
    const oldest = first === next ? null : formatEventId(log.epoch, first)
    this.#gap = { asked: asked.slice(0, 128), oldest, cause, continues: afterGap }
    this.#cursor = afterGap === 'oldest' ? first : next
  }

  /** The gap event carries the position behind the gap: a client that reconnects right after it meets no second one. */
  #takeGap(gap: Gap, into: Frame[]): void {
    this.#gap = null
    into.push(encodeEvent({ event: 'gap', data: gap, id: this.#takenId ?? '' }))
    this.#owner.gapMet(gap)
  }

  #takeFromLog(log: EventLog, maxBytes: number, into: Frame[]): void {
    if (this.#cursor < log.oldest) {
      this.#meetGap(log, this.#takenId ?? '', 'evicted')
      if (this.#gap !== null) this.#takeGap(this.#gap, into)
    }
    if (this.#lag === 0) return
    let next = log.read(this.#cursor, maxBytes, into)
    if (this.#end !== null && next > this.#end) {
      into.length -= next - this.#end
      next = this.#end
    }
    this.#eventsTaken += next - this.#cursor
    this.#replayedTaken += Math.max(0, Math.min(next, this.#replayEnd) - this.#cursor)
    this.#cursor = next
  }

  #firstBlock(sessionId: string, position: string | undefined): string {
    const { firstEvent, retryMs } = this.#limits
    if (firstEvent === false) return encodeSettings(retryMs, position)
    if (this.#log !== null && firstEvent?.id !== undefined) throw idGivenTwice()
    const first: EventInput = firstEvent ?? { event: 'connected', data: { sessionId } }
    return this.checked(
      encodeEvent({ retry: retryMs, ...first, ...(position !== undefined && { id: position }) }),
    )
  }
}

function idGivenTwice(): SSEError {
  return new SSEError(
    'ERR_SSE_INVALID_EVENT',
    'The event has an id, but the connection has a log, which gives the ids; leave the id out, or the log.',
  )
}
