import { CLOSE_REASONS, type CloseReason } from '../close-reason.js'
import type { ClosedInfo, SSEHandlerStats } from '../handler/sse-handler-events.js'
import type { ClientKind } from './client-kind.js'
import type { RefusalCause } from './refusal.js'

/** Upper bounds of the duration histogram, in seconds: from a short answer of a model to the default lifetime. */
const DURATION_BOUNDS_S = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600] as const

/** How long connections were open. */
export interface DurationHistogram {
  /** Upper bound of each bucket in seconds, and how many connections lasted so long or shorter. */
  buckets: { leSeconds: number; count: number }[]
  count: number
  sumSeconds: number
}

/** Counters of a process. They only grow. */
export interface Counters {
  opened: number
  closed: Record<CloseReason, number>
  refused: Partial<Record<RefusalCause, number>>
  openedByClient: Partial<Record<ClientKind, number>>
  eventsSent: number
  bytesSent: number
  eventsReplayed: number
  dropped: number
  gaps: number
  heartbeatsMissed: number
}

/** What is summed over connections, open ones included. */
const SUMMED = ['eventsSent', 'bytesSent', 'eventsReplayed', 'dropped', 'gaps'] as const

/** Counts what has happened to the connections that are closed, and adds those that are open when asked. */
export class Totals {
  #opened = 0
  #missed = 0
  readonly #closed = Object.fromEntries(CLOSE_REASONS.map((reason) => [reason, 0])) as Record<
    CloseReason,
    number
  >
  readonly #refused = new Map<RefusalCause, number>()
  readonly #clients = new Map<ClientKind, number>()
  readonly #sums = { eventsSent: 0, bytesSent: 0, eventsReplayed: 0, dropped: 0, gaps: 0 }
  readonly #durations: number[] = DURATION_BOUNDS_S.map(() => 0)
  #durationCount = 0
  #durationSumS = 0

  opened(client: ClientKind): void {
    this.#opened += 1
    increment(this.#clients, client)
  }

  refused(cause: RefusalCause): void {
    increment(this.#refused, cause)
  }

  heartbeatMissed(): void {
    this.#missed += 1
  }

  closed({ reason, durationMs }: ClosedInfo, stats: SSEHandlerStats): void {
    const seconds = durationMs / 1000
    this.#closed[reason] += 1
    for (const name of SUMMED) this.#sums[name] += stats[name]
    DURATION_BOUNDS_S.forEach((bound, i) => {
      if (seconds <= bound) this.#durations[i] = (this.#durations[i] ?? 0) + 1
    })
    this.#durationCount += 1
    this.#durationSumS += seconds
  }

  counters(open: readonly SSEHandlerStats[]): Counters {
    const sums = { ...this.#sums }
    for (const stats of open) for (const name of SUMMED) sums[name] += stats[name]
    return {
      opened: this.#opened,
      closed: { ...this.#closed },
      refused: Object.fromEntries(this.#refused),
      openedByClient: Object.fromEntries(this.#clients),
      ...sums,
      heartbeatsMissed: this.#missed,
    }
  }

  durations(): DurationHistogram {
    return {
      buckets: DURATION_BOUNDS_S.map((leSeconds, i) => ({ leSeconds, count: this.#durations[i] ?? 0 })),
      count: this.#durationCount,
      sumSeconds: this.#durationSumS,
    }
  }
}

function increment<Name>(counts: Map<Name, number>, name: Name): void {
  counts.set(name, (counts.get(name) ?? 0) + 1)
}
