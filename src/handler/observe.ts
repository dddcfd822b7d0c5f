import type { EventLog } from '../buffer/event-log.js'
import type { CloseReason } from '../close-reason.js'
import type { Gap } from './gap.js'
import type { Phase } from './machine.js'
import type { ClosedInfo, SSEHandlerStats } from './sse-handler-events.js'

/** Who supervises a connection. Unlike a listener it cannot be removed by the program. None of these throws. */
export interface ConnectionObserver {
  /** A heartbeat was due: `missed` of them in a row could not be written, 0 when this one was. */
  heartbeat(missed: number): void
  blocked(): void
  gap(gap: Gap): void
  /** The end has begun, and why. */
  closing(reason: CloseReason): void
  /** The connection is being reset. */
  forced(reason: CloseReason): void
  closed(info: ClosedInfo, stats: SSEHandlerStats): void
}

/** A connection as its supervisor sees it. */
export interface Observable {
  readonly phase: Phase
  /** Why it closes; null while it does not. */
  readonly reason: CloseReason | null
  /** Events handed to the transport. */
  readonly eventsSent: number
  /** Bytes of events that are held for this client alone: queued, or handed over and not taken by the system. */
  readonly heldBytes: number
  /** The log it reads from, its own or a channel's; null when it reads none. */
  readonly log: EventLog | null
  observe(observer: ConnectionObserver): void
  /** Takes the place of `drainMs`, until the end has begun. */
  drainWithin(ms: number): void
}
