import type { Frame } from '../wire/frame.js'
import { parseEventId } from './event-id.js'

/** What the readers of a channel select an event by. */
export interface EventLabel {
  /** The event's name; `message` when it has none. */
  readonly event: string
  /** The event's topic; undefined when it has none. */
  readonly topic: string | undefined
}

/**
 * An ordered, bounded history of encoded events: what a client that reconnects is answered from.
 *
 * Sequences start at 1 and have no holes. A log keeps whole frames, never the objects they were made of. Every
 * method answers at once; a log that lives elsewhere keeps a local copy of what it answers from.
 */
export interface EventLog {
  /** Names this history. Another history, such as the one after a restart, has another epoch. */
  readonly epoch: string
  /** The most events it holds; Infinity when something else bounds it. */
  readonly maxEvents: number
  /** The most bytes it holds; Infinity when something else bounds it. */
  readonly maxBytes: number
  /** The sequence of the oldest event held; equal to `next` when none is. */
  readonly oldest: number
  /** The sequence that the next event will get. */
  readonly next: number
  /**
   * Keeps an event and returns its sequence. `block` is an encoded event without an id: the log puts the id in.
   * The label, which a channel gives, is kept beside it. Whatever this throws is told to the sender as `ERR_SSE_LOG_FAILED`, and the event is not sent.
   */
  append(block: string, label?: EventLabel): number
  /**
   * Adds events to `into`, in order, from the sequence `from` on, until they are `maxBytes` or more or `to` is reached.
   * Each frame added is one whole event or several, and never changes. Returns the sequence after the last event added.
   * `from` is between `oldest` and `to`, which is at most `next`.
   */
  read(from: number, to: number, maxBytes: number, into: Frame[]): number
  /** One event held. `sequence` is between `oldest` and `next` - 1. */
  frameAt(sequence: number): Frame
  /** The size of the events held from the sequence `from` to the end. `from` is between `oldest` and `next`. */
  bytesFrom(from: number): number
  /** The label that an event held was appended with. `sequence` is between `oldest` and `next` - 1. */
  labelAt(sequence: number): EventLabel | undefined
  /** Calls the listener after each append, in the same turn. Returns what stops it. A listener must not throw. */
  onAppend(listener: () => void): () => void
}

/** Where a client's Last-Event-ID stands in a log. */
export type LogPosition =
  | { known: true; next: number }
  | {
      known: false
      /**
       * `unknown`: not an id of ours. `other-epoch`: from another history, such as before a restart.
       * `evicted`: older than what is held. `future`: not given out yet.
       */
      cause: 'unknown' | 'other-epoch' | 'evicted' | 'future'
    }

/** Looks a Last-Event-ID up. O(1), whatever the id. */
export function locate(log: EventLog, lastEventId: string): LogPosition {
  const id = parseEventId(lastEventId)
  if (id === null) return { known: false, cause: 'unknown' }
  if (id.epoch !== log.epoch) return { known: false, cause: 'other-epoch' }
  if (id.sequence >= log.next) return { known: false, cause: 'future' }
  if (id.sequence < log.oldest - 1) return { known: false, cause: 'evicted' }
  return { known: true, next: id.sequence + 1 }
}
