import type { Timer } from '../clock.js'
import { textOf } from '../errors.js'
import { type Flushable, scheduleFlush } from '../handler/flush.js'
import { LagLimit } from './lag-limit.js'
import type { ResolvedChannelOptions } from './options.js'
import type { Subscription, SubscriptionOwner } from './subscription.js'

/** A flush lets the rest of the program have its turn after so long, looking at the time every so many readers. */
const MAX_FLUSH_MS = 8
const READERS_PER_LOOK = 64

/** The most bytes of UTF-8 that one UTF-16 unit of a string becomes. */
const MAX_BYTES_PER_UNIT = 3

/** What an audience tells its channel. None of these throws. */
export interface AudienceOwner {
  /** Whether a publisher waits, for readers or for its turn. */
  isAnybodyWaiting(): boolean
  /** Every reader was written what it is owed, as far as it had room. */
  flushed(): void
  /** Readers that publishers wait for have moved on, or left. */
  roomMade(): void
  /** A reader has fallen behind by too much. */
  fellBehind(subscription: Subscription): void
  left(subscription: Subscription): void
  /** Nobody is behind: what is kept for sharing can be freed. */
  allCaughtUp(): void
}

/** The readers of a channel: when they are written to, and what happens to those that are too slow. */
export class Audience implements Flushable, SubscriptionOwner {
  isEnded = false
  slow = 0
  gaps = 0
  closedSlow = 0
  readonly #options: ResolvedChannelOptions
  readonly #owner: AudienceOwner
  readonly #lagLimit: LagLimit
  readonly #readers: Subscription[] = []
  #isScheduled = false
  #flushTimer: Timer | null = null
  #lastFlushAt = Number.NEGATIVE_INFINITY
  /** The reader that the flush goes on with; -1 between two flushes. */
  #nextReader = -1
  /** The end of the log when the flush began. */
  #flushEnd = 0
  #isAnyBehind = false
  /** No reader is behind this sequence, unless one has come since. */
  #slowest = 0
  /** How far the slowest is behind in bytes: counting exactly for each event would cost much of what the event costs. */
  #bytesBehindAtMost = Infinity
  /** Whether readers have moved since the slowest was looked for. */
  #haveMoved = true
  #isTellingRoom = false
  #waitTimer: Timer | null = null

  constructor(options: ResolvedChannelOptions, owner: AudienceOwner) {
    this.#options = options
    this.#owner = owner
    this.#lagLimit = new LagLimit(options)
  }

  get size(): number {
    return this.#readers.length
  }

  get maxLagEvents(): number {
    return this.#readers.reduce((most, { reader }) => Math.max(most, reader.lag), 0)
  }

  has(subscription: Subscription): boolean {
    return this.#readers[subscription.index] === subscription
  }

  enter(subscription: Subscription): void {
    subscription.index = this.#readers.length
    this.#readers.push(subscription)
    this.#slowest = Math.min(this.#slowest, subscription.reader.cursor)
    this.#bytesBehindAtMost = Infinity
    this.#haveMoved = true
  }

  leave(subscription: Subscription): void {
    if (!this.has(subscription)) return
    const last = this.#readers.pop() as Subscription
    if (last !== subscription) {
      this.#readers[subscription.index] = last
      last.index = subscription.index
    }
    subscription.index = -1
    this.#owner.left(subscription)
    this.#tellRoom()
  }

  /** Ends the streams of those who have all, now and from now on. */
  end(): void {
    this.isEnded = true
    this.setAwaited(false)
    for (const subscription of [...this.#readers]) subscription.completeIfDone()
  }

  /**
   * Has everybody written to: in this turn after a pause, else at the end of the flush interval. `isUrgent`: in this turn
   * in any case.
   */
  schedule(isUrgent = false): void {
    if (this.#isScheduled) {
      if (!isUrgent || this.#flushTimer === null) return
      this.#options.clock.clearTimeout(this.#flushTimer)
      this.#flushTimer = null
      scheduleFlush(this)
      return
    }
    this.#isScheduled = true
    const { clock, flushIntervalMs } = this.#options
    const waitMs = flushIntervalMs === 0 ? 0 : this.#lastFlushAt + flushIntervalMs - clock.now()
    if (isUrgent || waitMs <= 0) {
      scheduleFlush(this)
      return
    }
    this.#flushTimer = clock.setTimeout(() => {
      this.#flushTimer = null
      this.flush()
    }, Math.ceil(waitMs))
  }

  /** Writes in the middle of a burst, as far as there is time: else it would overrun readers that keep up. */
  relieve(): void {
    if (this.#nextReader !== -1) return
    const { clock } = this.#options
    const startedAt = clock.now()
    for (let index = this.#readers.length - 1; index >= 0; index -= 1) {
      const subscription = this.#readers[index]
      // Text of other alphabets takes up to three bytes a unit, and so as many writes.
      for (let write = 0; write < MAX_BYTES_PER_UNIT && subscription !== undefined; write += 1) {
        subscription.connection.flushNow()
        if (subscription.reader.lag === 0) break
      }
      if (index % READERS_PER_LOOK === 1 && clock.now() - startedAt > MAX_FLUSH_MS) return
    }
  }

  flush(): void {
    const isDone = this.#safely(() => this.#flushSome())
    if (isDone) return
    this.#isScheduled = false
    this.#nextReader = -1
    this.#safely(() => this.#owner.flushed())
  }

  /** Does what asks the log, which may be the user's and throw. False when it did. */
  #safely(act: () => void): boolean {
    try {
      act()
      return true
    } catch (error) {
      process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in the log of a channel' })
      return false
    }
  }

  #flushSome(): void {
    const { clock, log } = this.#options
    if (this.#nextReader === -1) {
      this.#nextReader = this.#readers.length - 1
      this.#flushEnd = log.next
      this.#isAnyBehind = false
    }
    const startedAt = clock.now()
    const floor = this.#lagLimit.floor()
    for (; this.#nextReader >= 0; this.#nextReader -= 1) {
      // A reader that leaves has the last one take its place, which has been written to.
      const subscription = this.#readers[this.#nextReader]
      if (subscription !== undefined) this.#flushOne(subscription, floor)
      if (this.#nextReader % READERS_PER_LOOK === 1 && clock.now() - startedAt > MAX_FLUSH_MS) {
        this.#nextReader -= 1
        scheduleFlush(this)
        return
      }
    }
    this.#lastFlushAt = clock.now()
    this.#isScheduled = false
    if (log.next !== this.#flushEnd) this.schedule()
    else if (!this.#isAnyBehind) this.#owner.allCaughtUp()
    this.#owner.flushed()
  }

  /** Counts what was published; Infinity for what others appended to the log. */
  noteAppended(units: number): void {
    this.#bytesBehindAtMost += units * MAX_BYTES_PER_UNIT
  }

  /** Whether one more event, beside the `reserved` ones, leaves every reader within the limit. */
  isWithinLimit(reserved: number): boolean {
    if (this.#options.slowConsumer !== 'wait' || this.#readers.length === 0) return true
    if (!this.#isNear(reserved) && this.#haveMoved) {
      this.#haveMoved = false
      this.#slowest = this.#readers.reduce(
        (least, subscription) =>
          isWaitedFor(subscription) ? Math.min(least, subscription.reader.cursor) : least,
        Infinity,
      )
      this.#bytesBehindAtMost = Infinity
    }
    return this.#isNear(reserved)
  }

  /** Says whether publishers wait for readers: those have to move on before `maxWaitMs` is over. */
  setAwaited(isAwaited: boolean): void {
    const { clock, maxWaitMs } = this.#options
    if (isAwaited) {
      this.#waitTimer ??= clock.setTimeout(() => this.#safely(() => this.#closeThoseAwaited()), maxWaitMs)
    } else if (this.#waitTimer !== null) {
      clock.clearTimeout(this.#waitTimer)
      this.#waitTimer = null
    }
  }

  advanced(subscription: Subscription): void {
    if (subscription.isSlow && subscription.reader.isCaughtUp) subscription.isSlow = false
    this.#tellRoom()
  }

  gapTold(): void {
    this.gaps += 1
  }

  left(subscription: Subscription): void {
    this.leave(subscription)
  }

  #flushOne(subscription: Subscription, floor: number): void {
    const { reader, connection } = subscription
    // One that is closing has its own time, and is to get what was published before.
    if (connection.isClosing) {
      connection.flushNow()
      return
    }
    if (reader.cursor < floor && this.#isLost(subscription)) this.#fellBehind(subscription, floor)
    connection.flushNow()
    // One whose transport has had no time yet to take what a burst of this turn brought is not slow.
    if (reader.cursor < floor && connection.isBlocked) this.#fellBehind(subscription, floor)
    if (reader.lag > 0) this.#isAnyBehind = true
  }

  /** Whether a reader cannot get what it has not had. */
  #isLost({ reader }: Subscription): boolean {
    return reader.cursor < this.#options.log.oldest
  }

  #fellBehind(subscription: Subscription, floor: number): void {
    const { reader, connection } = subscription
    const { log, slowConsumer } = this.#options
    // One that catches up takes its time, as long as the log has what it missed. One that waits for a snapshot needs none.
    if (reader.isWaiting || (reader.isReplaying && reader.cursor >= log.oldest)) return
    this.#tellSlow(subscription)
    if (slowConsumer === 'gap') reader.giveUp(floor)
    if (slowConsumer === 'close') this.#close(connection)
  }

  #tellSlow(subscription: Subscription): void {
    if (subscription.isSlow) return
    subscription.isSlow = true
    this.slow += 1
    this.#owner.fellBehind(subscription)
  }

  #close(connection: Subscription['connection']): void {
    this.closedSlow += 1
    connection.tell({ type: 'evicted', reason: 'slow-consumer' })
  }

  #isNear(reserved: number): boolean {
    const { log, maxLagEvents, maxLagBytes } = this.#options
    if (log.next - this.#slowest + reserved >= maxLagEvents) return false
    if (this.#bytesBehindAtMost < maxLagBytes) return true
    this.#bytesBehindAtMost = log.bytesFrom(Math.min(log.next, Math.max(this.#slowest, log.oldest)))
    return this.#bytesBehindAtMost < maxLagBytes
  }

  /** Tells of room once a turn, however many readers have moved. */
  #tellRoom(): void {
    this.#haveMoved = true
    if (this.#isTellingRoom || this.#options.slowConsumer !== 'wait') return
    this.#isTellingRoom = true
    setImmediate(() => {
      this.#isTellingRoom = false
      this.#safely(() => this.#owner.roomMade())
    })
  }

  #closeThoseAwaited(): void {
    this.#waitTimer = null
    if (!this.#owner.isAnybodyWaiting()) return
    const { maxLagEvents, maxLagBytes } = this.#options
    for (const subscription of [...this.#readers]) {
      const { lag, lagBytes } = subscription.reader
      if (!isWaitedFor(subscription) || (lag < maxLagEvents && lagBytes < maxLagBytes)) continue
      this.#tellSlow(subscription)
      this.#close(subscription.connection)
    }
    this.#owner.roomMade()
  }
}

/** Not one that is closing, nor one that waits for its snapshot and has its own time for that. */
function isWaitedFor({ reader, connection }: Subscription): boolean {
  return !connection.isClosing && !reader.isWaiting
}
