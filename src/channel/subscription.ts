import { locate } from '../buffer/event-log.js'
import type { Timer } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import type { Followable, Follower } from '../handler/follow.js'
import type { Gap } from '../handler/gap.js'
import { LogReader, type LogReaderOwner } from '../handler/log-reader.js'
import type { EventMap } from '../wire/event.js'
import type { ResolvedChannelOptions } from './options.js'
import type { Reads } from './reads.js'
import { assertSnapshot, type Snapshot, type SnapshotHook } from './snapshot.js'

/** What a subscription tells its channel. None of these throws. */
export interface SubscriptionOwner {
  readonly isEnded: boolean
  /** The reader has moved on. */
  advanced(subscription: Subscription): void
  gapTold(): void
  left(subscription: Subscription): void
}

export interface Hooks {
  onSubscribe: SnapshotHook<EventMap> | undefined
  onGap: SnapshotHook<EventMap> | undefined
}

/** One connection that follows a channel. */
export class Subscription implements Follower, LogReaderOwner {
  /** Its place in the list of its channel. */
  index = -1
  /** Whether it is behind by too much, and that was told. */
  isSlow = false
  readonly connection: Followable
  readonly reader: LogReader
  readonly reads: Reads
  readonly #owner: SubscriptionOwner
  readonly #options: ResolvedChannelOptions
  readonly #hooks: Hooks
  #isOver = false
  #timer: Timer | null = null

  constructor(
    connection: Followable,
    reads: Reads,
    options: ResolvedChannelOptions,
    hooks: Hooks,
    owner: SubscriptionOwner,
  ) {
    this.connection = connection
    this.reads = reads
    this.#options = options
    this.#hooks = hooks
    this.#owner = owner
    const { log, replayStart } = options
    const afterGap = hooks.onGap === undefined ? options.afterGap : 'snapshot'
    const from = connection.reader ?? connection.lastEventId
    this.reader = new LogReader(log, from, { replayStart, afterGap }, this, reads)
    if (from === null && hooks.onSubscribe !== undefined) this.reader.hold()
  }

  /** Begins to read. Throws ERR_SSE_INVALID_EVENT for a first event with an id of its own. */
  start(): void {
    this.connection.follow(this.reader, this)
    const hook = this.#hooks.onSubscribe ?? this.#hooks.onGap
    if (this.reader.isWaiting) {
      if (hook !== undefined) this.#takeSnapshot(hook, null)
      // A subscription before this one waited for a snapshot; this one wants none.
      else this.reader.resumeWith([])
    }
    this.completeIfDone()
  }

  /** Ends the stream if its client has all there will ever be. */
  completeIfDone(): void {
    if (!this.#owner.isEnded || this.#isOver || this.connection.isClosing || !this.reader.isCaughtUp) return
    if (this.connection.answerNoContent()) return
    // Else a client that some events were not for would come back for ever, to ask for them.
    if (this.reader.tellEnd()) this.connection.wake()
    else this.connection.tell({ type: 'closeRequested', reason: 'completed' })
  }

  /** Follows no more. */
  stop(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#clearTimer()
    this.connection.unfollow()
  }

  advanced(): void {
    if (this.#isOver) return
    if (this.#owner.isEnded) this.completeIfDone()
    this.#owner.advanced(this)
  }

  /** Called in the middle of a take. */
  gapMet(gap: Gap): void {
    this.connection.gapMet(gap)
  }

  toldGap(gap: Gap): void {
    this.#owner.gapTold()
    const { onGap } = this.#hooks
    if (gap.continues !== 'snapshot' || onGap === undefined) return
    // This may be in the middle of publish(), whose caller has yet to bring the state up to date.
    queueMicrotask(() => this.#takeSnapshot(onGap, gap))
  }

  closed(): void {
    this.#isOver = true
    this.#clearTimer()
    this.#owner.left(this)
  }

  /** Asks for the state. What is published meanwhile waits in the log. */
  #takeSnapshot(hook: SnapshotHook<EventMap>, gap: Gap | null): void {
    if (this.#isOver || this.connection.isClosing) return
    this.reader.hold()
    try {
      const { signal } = this.connection
      const answer = hook({ id: this.reader.positionId, gap, signal })
      if (answer === null || typeof answer !== 'object' || !('then' in answer)) {
        this.#send(answer)
        return
      }
      const { clock, snapshotTimeoutMs } = this.#options
      this.#timer = clock.setTimeout(
        () => this.#fail(new Error('The snapshot took too long.')),
        snapshotTimeoutMs,
      )
      answer.then(
        (snapshot) => this.#arrived(snapshot),
        (error) => this.#fail(error),
      )
    } catch (error) {
      this.#fail(error)
    }
  }

  #arrived(snapshot: Snapshot<EventMap>): void {
    try {
      this.#send(snapshot)
    } catch (error) {
      this.#fail(error)
    }
  }

  #send(snapshot: Snapshot<EventMap>): void {
    this.#clearTimer()
    if (this.#isOver || this.connection.isClosing) return
    assertSnapshot(snapshot)
    const next = snapshot.id === undefined ? undefined : this.#sequenceBehind(snapshot.id)
    this.reader.resumeWith(this.connection.encodeSnapshot(snapshot.events), next)
    this.connection.wake()
  }

  #sequenceBehind(id: string): number {
    const position = locate(this.#options.log, id)
    if (position.known) return position.next
    throw new SSEError(
      'ERR_SSE_INVALID_EVENT',
      `The snapshot is of the position ${shown(id)}, which is not in the channel's log (${position.cause}); expected the id of the last event that it includes.`,
    )
  }

  /** A client without the state is no good: it gets an error, comes back and tries again. */
  #fail(error: unknown): void {
    this.#clearTimer()
    if (this.#isOver || this.connection.isClosing) return
    this.connection.report(error, 'a snapshot')
    this.connection.endWithError(error)
  }

  #clearTimer(): void {
    if (this.#timer !== null) this.#options.clock.clearTimeout(this.#timer)
    this.#timer = null
  }
}
