import { FrameQueue } from '../buffer/frame-queue.js'
import { SSEError } from '../errors.js'
import type { Chunk } from '../wire/chunk.js'
import { encodeComment, encodeEvent, encodeSettings } from '../wire/encode.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { type Frame, frameSize, toFrame } from '../wire/frame.js'
import { assertNoId, assertNoTopic, checkedSize, logFailed } from './event-checks.js'
import { LogReader, type LogReaderOwner } from './log-reader.js'
import type { ResolvedOptions } from './options.js'
import { redacted } from './redact.js'

/**
 * Everything that is owed to a client, and in which order: a standalone value without I/O or timers.
 *
 * Events are in one of two places. A connection's own wait in a bounded queue, or, when it has a log, in that log
 * only. Those of a channel are in the channel's log. What is in a log is read from a cursor.
 */
export class Outbox<Events extends object = EventMap> {
  readonly #limits: ResolvedOptions
  readonly #owner: LogReaderOwner
  /** Made for the first event: an idle connection has none. */
  #queue: FrameQueue | null = null
  /** Reads the connection's own log, or that of the channel it follows. */
  #reader: LogReader | null = null
  #sessionId = ''
  #paddingBytes = 0
  #head: string | null = null
  #retry: string | null = null
  #comments: string | null = null
  #commentBytes = 0
  #heartbeat: string | null = null
  #tail: string | null = null
  /** Events taken, but for those the reader counts. */
  #eventsTaken = 0
  #eventsWritten = 0
  #replayedTaken = 0
  #replayedWritten = 0

  constructor(limits: ResolvedOptions, owner: LogReaderOwner) {
    this.#limits = limits
    this.#owner = owner
  }

  /** What reads the log, or has read it last. */
  get reader(): LogReader | null {
    return this.#reader
  }

  /** Events that wait, those in a log included. */
  get length(): number {
    return (this.#queue?.length ?? 0) + (this.#reader?.lag ?? 0)
  }

  get bytes(): number {
    return (this.#queue?.bytes ?? 0) + (this.#reader?.lagBytes ?? 0)
  }

  /** Bytes that wait in the queue of this connection, those in a log left out. */
  get queuedBytes(): number {
    return this.#queue?.bytes ?? 0
  }

  get isEmpty(): boolean {
    return !this.#hasMoreThanReader && this.#heartbeat === null && (this.#reader?.isEmpty ?? true)
  }

  /** Whether the first event has not been taken yet. */
  get isUntouched(): boolean {
    return this.#head !== null
  }

  /** Whether events that the client missed while it was away are still to be taken. */
  get isReplaying(): boolean {
    return this.#reader?.isReplaying ?? false
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
    return this.length + this.#allTaken - this.#eventsWritten
  }

  /** The id of the last event handed to the transport, or where the client came in; null without a log. */
  get lastId(): string | null {
    return this.#reader?.lastId ?? null
  }

  /** Composes what a client gets first, and finds its place in the log. Throws for a first event that cannot be sent. */
  open(sessionId: string, lastEventId: string | null, paddingBytes: number): void {
    const { log } = this.#limits
    this.#sessionId = sessionId
    this.#paddingBytes = paddingBytes
    if (log !== null) {
      assertNoId(this.#limits.firstEvent)
      this.#reader = new LogReader(log, lastEventId, this.#limits, this.#owner)
    }
    this.#head = this.#composeHead(this.#reader)
  }

  /** Reads from a channel's log from now on, or from another place in it. Throws for a first event with an id of its own. */
  follow(reader: LogReader): void {
    assertNoId(this.#limits.firstEvent)
    if (this.#head !== null) this.#head = this.#composeHead(reader)
    this.#eventsTaken += this.#reader?.eventsTaken ?? 0
    this.#replayedTaken += this.#reader?.replayedTaken ?? 0
    this.#reader = reader
  }

  hasRoom(reserved: number): boolean {
    const { log, maxEvents, maxBytes } = this.#limits
    if (log === null || this.#reader === null) {
      const queue = this.#queue
      return queue === null
        ? reserved < maxEvents
        : queue.length + reserved < maxEvents && queue.isBelow(maxBytes)
    }
    return this.#reader.lag + reserved < maxEvents && this.#reader.lagBytes < maxBytes
  }

  encode(event: EventInput<Events>): string {
    const { redact } = this.#limits
    const block = this.checked(
      encodeEvent(redact === null ? (event as EventInput) : redacted(event as EventInput, redact)),
    )
    if (this.#reader !== null) assertNoId(event)
    assertNoTopic(event)
    return block
  }

  /** A block, if it is no larger than an event may be. */
  checked(block: string): string {
    return checkedSize(block, this.#limits.maxEventBytes)
  }

  /** Encodes the events of a snapshot, which together may be as large as what waits. */
  encodeSnapshot(events: readonly EventInput[]): Frame[] {
    const { maxBytes } = this.#limits
    const frames = events.map((event) => toFrame(this.encode(event as EventInput<Events>)))
    const bytes = frames.reduce((sum, frame) => sum + frameSize(frame), 0)
    if (bytes <= maxBytes) return frames
    throw new SSEError(
      'ERR_SSE_EVENT_TOO_LARGE',
      `The snapshot is ${bytes} bytes encoded, more than the ${maxBytes} of maxBytes; send less, or raise the limit.`,
    )
  }

  accept(block: string): void {
    const { log } = this.#limits
    if (log === null) {
      this.#queue ??= new FrameQueue(this.#limits.maxEvents)
      this.#queue.push(toFrame(block))
      return
    }
    try {
      log.append(block)
    } catch (cause) {
      throw logFailed(cause)
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
    this.#reader?.seal()
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
    let left = maxBytes
    if (this.#queue !== null) {
      const queued = this.#queue.length
      left -= this.#queue.take(maxBytes, into)
      this.#eventsTaken += queued - this.#queue.length
    }
    // A private event that waits does not keep those of the channel from their turn, nor the other way round.
    this.#reader?.take(Math.max(left, maxBytes / 2), into)
    if (this.#heartbeat !== null && into.length === 0 && this.#reader?.tellPosition(into) !== true) {
      into.push(this.#heartbeat)
    }
    this.#heartbeat = null
    if (this.#tail === null || this.length > 0) return
    into.push(this.#tail)
    this.#tail = null
  }

  /** What is owed as a chunk that other connections may get, too; null when there is more to take, or nothing. */
  takeChunk(maxBytes: number): Chunk | null {
    return this.#reader === null || this.#hasMoreThanReader ? null : this.#reader.takeChunk(maxBytes)
  }

  /** All that was taken so far has been handed to the transport. */
  written(): void {
    this.#eventsWritten = this.#allTaken
    this.#replayedWritten = this.#replayedTaken + (this.#reader?.replayedTaken ?? 0)
    this.#reader?.written()
  }

  /** Forgets what was not taken. */
  clear(): void {
    this.#queue?.clear()
    this.#reader?.clear()
    this.#head = null
    this.#retry = null
    this.#comments = null
    this.#heartbeat = null
    this.#tail = null
  }

  /** Whether anything but events of the log is owed. A heartbeat does not count: anything else takes its place. */
  get #hasMoreThanReader(): boolean {
    return (
      this.#head !== null ||
      this.#retry !== null ||
      this.#comments !== null ||
      this.#tail !== null ||
      (this.#queue?.length ?? 0) > 0
    )
  }

  get #allTaken(): number {
    return this.#eventsTaken + (this.#reader?.eventsTaken ?? 0)
  }

  #composeHead(reader: LogReader | null): string {
    const padding = this.#paddingBytes === 0 ? '' : encodeComment(' '.repeat(this.#paddingBytes))
    return padding + this.#firstBlock(reader?.openingId)
  }

  #firstBlock(position: string | undefined): string {
    const { firstEvent, retryMs } = this.#limits
    if (firstEvent === false) return encodeSettings(retryMs, position)
    const first: EventInput = firstEvent ?? { event: 'connected', data: { sessionId: this.#sessionId } }
    return this.checked(
      encodeEvent({
        ...first,
        retry: first.retry ?? retryMs,
        ...(position !== undefined && { id: position }),
      }),
    )
  }
}
