import { SSEError, shown } from '../errors.js'
import type { Gap } from '../handler/gap.js'
import type { EventInput, EventMap } from '../wire/event.js'

/** What a snapshot hook is told. */
export interface SnapshotRequest {
  /** The id of the last event published so far: where the reader goes on if the hook answers at once. */
  readonly id: string
  /** What the client missed; null for one that comes without a position. */
  readonly gap: Gap | null
  /** Aborts when the connection begins to close. */
  readonly signal: AbortSignal
}

/** The state as of one position of a channel. */
export interface Snapshot<Events extends object = EventMap> {
  /**
   * Sent in order, before what follows. Ids are not for them to have: an event `position` behind them carries it. All
   * together at most `maxBytes` of the connection.
   */
  events: readonly EventInput<Events>[]
  /**
   * The id of the last event that the state includes, for one that was read before or after the hook was called. Default:
   * that of the request, so that of a state which takes time to read some changes may be told a second time.
   */
  id?: string | undefined
}

/** Gives a client the state that later events change. */
export type SnapshotHook<Events extends object = EventMap> = (
  request: SnapshotRequest,
) => Snapshot<Events> | PromiseLike<Snapshot<Events>>

/** Throws for what is no snapshot. */
export function assertSnapshot(snapshot: Snapshot): void {
  const isSnapshot = snapshot !== null && typeof snapshot === 'object' && Array.isArray(snapshot.events)
  if (isSnapshot && (snapshot.id === undefined || typeof snapshot.id === 'string')) return
  throw new SSEError(
    'ERR_SSE_INVALID_EVENT',
    `A snapshot is ${shown(snapshot)}; expected an object such as { events: [...] }, with an id or without.`,
  )
}
