import type { EventInput } from '../wire/event.js'
import type { Frame } from '../wire/frame.js'
import type { Gap } from './gap.js'
import type { LogReader, LogReaderOwner } from './log-reader.js'
import type { LifecycleEvent } from './machine.js'

/** The channel's side of a connection that follows it. None of these throws. */
export interface Follower {
  /** The client has been written to. */
  advanced(): void
  /** The client has been told of a gap. May run code of the user. */
  toldGap(gap: Gap): void
  /** The connection has closed, and follows nothing any more. */
  closed(): void
}

/** A connection as a channel sees it. */
export interface Followable extends LogReaderOwner {
  readonly sessionId: string
  /** The position the client asked to resume from; null when it sent none. */
  readonly lastEventId: string | null
  readonly signal: AbortSignal
  /** Whether the end has begun or has been asked for. */
  readonly isClosing: boolean
  /** Whether its client has not taken the last write, though it had time for it. */
  readonly isBlocked: boolean
  /** Whether it has a log of its own, which gives its events their ids. */
  readonly hasLog: boolean
  /** Who it follows. */
  readonly follower: Follower | null
  /** What reads a log for it, or has read it last. */
  readonly reader: LogReader | null
  /** Reads from a channel's log from now on. Throws ERR_SSE_INVALID_EVENT for a first event with an id of its own. */
  follow(reader: LogReader, follower: Follower): void
  unfollow(): void
  /** Has what is owed written at once, if the transport has room. */
  flushNow(): void
  /** Has what is owed written in this turn. */
  wake(): void
  /** Throws an SSEError for an event that cannot be sent, and for too much of them. Runs code of the user. */
  encodeSnapshot(events: readonly EventInput[]): Frame[]
  /**
   * Answers 204, which tells an EventSource not to reconnect (WHATWG, section 9.2.3), if nothing of the stream has
   * left yet. Then the connection is closed.
   */
  answerNoContent(): boolean
  /**
   * Ends the stream with an event `error` and an event `close`. The error itself is told by `closed` only. Throws when
   * `data` cannot be sent.
   */
  endWithError(error: unknown, data?: unknown): void
  /** Lets the machine know. */
  tell(event: LifecycleEvent): void
  /** Tells what code of the user threw. */
  report(error: unknown, during: string): void
}
