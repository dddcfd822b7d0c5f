import type { Clock, Timer } from '../clock.js'
import { Chunk } from '../wire/chunk.js'
import type { Frame } from '../wire/frame.js'
import { type Flushable, scheduleFlush } from './flush.js'
import type { Transport } from './transport.js'

/**
 * The most bytes of events in one write, give or take one event: enough to make the cost of a system call
 * small, and all that a slow reader's socket holds of ours.
 */
const MAX_WRITE_BYTES = 64 * 1024

/** Stands for an empty array in connections that write nothing. Never changed. */
const NO_FRAMES: Frame[] = []

/** What the pump takes from. */
export interface Source {
  readonly isEmpty: boolean
  take(maxBytes: number, into: Frame[]): void
  /** All that is owed now as a chunk that other connections get, too; null when it is not such a chunk. */
  takeChunk(maxBytes: number): Chunk | null
  /** All that was taken so far has been handed to the transport. */
  written(): void
}

/** What the pump tells its connection. None of these throws. */
export interface PumpOwner {
  /** What was taken was handed to the transport, so slots are free. */
  wrote(): void
  /** All is written and taken. */
  emptied(): void
  blocked(): void
  unblocked(): void
  stalled(): void
  failed(error: unknown): void
}

/**
 * Moves what is owed to the transport: the only caller of `transport.write`. At most one write is outstanding,
 * so a reader that stops costs one chunk besides the queue.
 */
export class Pump implements Flushable {
  readonly #source: Source
  readonly #transport: Transport
  readonly #owner: PumpOwner
  readonly #clock: Clock
  readonly #writeStallMs: number
  #isScheduled = false
  #isStopped = false
  /** Whether the transport holds bytes that the operating system has not taken. */
  #isWaiting = false
  #isBlocked = false
  /** Whether a write is going on, which may run code of the user that has others written. */
  #isWriting = false
  /** Frames taken from the source for the next write. */
  #frames: Frame[] = NO_FRAMES
  #stallTimer: Timer | null = null
  #bytesWritten = 0
  #lastWriteAt: number

  constructor(source: Source, transport: Transport, owner: PumpOwner, clock: Clock, writeStallMs: number) {
    this.#source = source
    this.#transport = transport
    this.#owner = owner
    this.#clock = clock
    this.#writeStallMs = writeStallMs
    this.#lastWriteAt = clock.now()
  }

  /** Whether the peer has not taken the last write. */
  get isWaiting(): boolean {
    return this.#isWaiting
  }

  /** Whether it had not taken it, either, a turn later. */
  get isBlocked(): boolean {
    return this.#isBlocked
  }

  get bytesWritten(): number {
    return this.#bytesWritten
  }

  /** When the last write was, by the clock; when the pump was made, before the first. */
  get lastWriteAt(): number {
    return this.#lastWriteAt
  }

  /** Has what is owed written in this turn's check phase; costs next to nothing when that is due already. */
  wake(): void {
    if (this.#isScheduled || this.#isStopped || this.#isWaiting) return
    this.#isScheduled = true
    scheduleFlush(this)
  }

  /** Has what is owed written at once, for who flushes many connections in one go. */
  flushNow(): void {
    if (!this.#isWaiting && !this.#isWriting) this.flush()
  }

  /**
   * Takes what is owed ahead of the write that is due in this turn anyway, so that a producer who found the queue
   * full can go on: a burst leaves in few large writes. Only while the transport waits for nothing, and no more
   * than one write holds.
   */
  gather(): void {
    if (this.#isScheduled && !this.#isWaiting) this.#take()
  }

  flush(): void {
    this.#isScheduled = false
    if (this.#isStopped) return
    try {
      this.#isWriting = true
      if (this.#isWaiting) this.#block()
      else this.#write()
    } catch (error) {
      this.#owner.failed(error)
    } finally {
      this.#isWriting = false
    }
  }

  /** The transport's word that the operating system has taken the last chunk. */
  roomMade(): void {
    this.#isWaiting = false
    if (this.#isStopped) return
    if (this.#isBlocked) {
      this.#isBlocked = false
      this.#clearStallTimer()
      this.#owner.unblocked()
    }
    this.wake()
  }

  /** Writes nothing any more. */
  stop(): void {
    this.#isStopped = true
    this.#frames = NO_FRAMES
    this.#clearStallTimer()
  }

  #write(): void {
    const chunk = this.#nextChunk()
    // Taking may run code of the user, which may have ended the connection.
    if (this.#isStopped) return
    if (chunk !== null) {
      this.#lastWriteAt = this.#clock.now()
      this.#isWaiting = !this.#transport.write(chunk)
      if (this.#isStopped) return
      this.#bytesWritten += chunk.byteLength
    }
    this.#source.written()
    this.#owner.wrote()
    if (this.#isScheduled || this.#isStopped) return
    if (!this.#isWaiting && this.#source.isEmpty) {
      this.#owner.emptied()
      return
    }
    // Comes back for the rest, or to look whether the transport still waits: within a turn even a healthy peer's
    // socket may hold bytes.
    this.#isScheduled = true
    scheduleFlush(this)
  }

  /** Null when nothing of what was looked at is for this client. */
  #nextChunk(): Chunk | null {
    const shared = this.#frames.length === 0 ? this.#source.takeChunk(MAX_WRITE_BYTES) : null
    if (shared !== null) return shared
    if (!this.#source.isEmpty) this.#take()
    const frames = this.#frames
    this.#frames = NO_FRAMES
    return frames.length === 0 ? null : new Chunk(frames)
  }

  #take(): void {
    if (this.#frames === NO_FRAMES) this.#frames = []
    let units = 0
    for (const frame of this.#frames) units += frame.length
    if (units < MAX_WRITE_BYTES) this.#source.take(MAX_WRITE_BYTES - units, this.#frames)
  }

  #block(): void {
    if (this.#isBlocked) return
    this.#isBlocked = true
    this.#watchForStall(this.#transport.pendingBytes)
    this.#owner.blocked()
  }

  /**
   * A peer is not stalled while the system takes some bytes for it, nor when it has none to take. The system takes none
   * while a slow peer works off what its own buffer holds: up to some MB.
   */
  #watchForStall(pendingBytes: number): void {
    this.#stallTimer = this.#clock.setTimeout(() => {
      const pendingNow = this.#transport.pendingBytes
      if (pendingNow < pendingBytes || pendingNow === 0) this.#watchForStall(pendingNow)
      else this.#owner.stalled()
    }, this.#writeStallMs)
  }

  #clearStallTimer(): void {
    if (this.#stallTimer !== null) this.#clock.clearTimeout(this.#stallTimer)
    this.#stallTimer = null
  }
}
