import type { CloseReason } from '../close-reason.js'
import type { Gap } from './gap.js'
import type { Phase } from './machine.js'

/** How a connection ended. */
export interface ClosedInfo {
  sessionId: string
  /** The one reason: the first cause. */
  reason: CloseReason
  /** When, in milliseconds since the epoch. */
  at: number
  /** How long the connection was open, in milliseconds. */
  durationMs: number
  /** Events handed to the transport. Whether the client got the last of them only its Last-Event-ID can tell. */
  eventsSent: number
  /** Bytes of the body handed to the transport. */
  bytesSent: number
  /** Events that were accepted and not handed to the transport. With a log they are in the log still. */
  eventsUnsent: number
  /** The error behind the reason, when there is one. It is never sent to the client. */
  error?: unknown
}

/** What a connection is like at one moment. */
export interface SSEHandlerStats {
  sessionId: string
  phase: Phase
  /** When the connection opened, in milliseconds since the epoch. */
  openedAt: number
  durationMs: number
  /** Events handed to the transport, replayed ones included. */
  eventsSent: number
  /** Bytes of the body handed to the transport. */
  bytesSent: number
  /** Events that the client missed while it was away and that were handed to the transport. */
  eventsReplayed: number
  /** Events accepted and not handed to the transport: those queued, and those gathered for the write that is due. */
  unsentEvents: number
  /** Events in the queue, at most `maxEvents` without a log. With a log: how far the client is behind. */
  queuedEvents: number
  queuedBytes: number
  /** Permits that are neither used, released nor expired. */
  permits: number
  /** Callers that wait in `requestSend` and `send`. */
  waiters: number
  /** Events that `trySend` dropped. */
  dropped: number
  /** Gap events sent. */
  gaps: number
  /** Heartbeats in a row that could not be written, up to now. */
  heartbeatsMissed: number
  /** The id of the last event handed to the transport; null without a log. */
  lastId: string | null
}

/** What `sse.on` listens to. A listener that throws disturbs nothing; its error is told to `error`. */
export interface SSEHandlerEvents {
  /** The connection entered another phase. */
  phase: (phase: Phase, previous: Phase) => void
  /** The client has not taken the last write. Told once per crossing. */
  blocked: () => void
  /** The client takes events again. */
  unblocked: () => void
  /** The client is being told that it missed events which cannot be replayed. */
  gap: (gap: Gap) => void
  /** A heartbeat was due: `missed` of them in a row could not be written, 0 when this one was. */
  heartbeat: (info: { missed: number }) => void
  /** `trySend` dropped an event: the first since one was accepted. `dropped` counts them all. */
  dropped: (info: { dropped: number }) => void
  /** The connection is closed. Told once, last. Listeners are removed afterwards. */
  closed: (info: ClosedInfo) => void
  /** Something of the user's threw, such as a listener. Without a listener here it becomes a process warning. */
  error: (error: unknown, during: string) => void
}
