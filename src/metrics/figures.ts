import type { ClientKind, RefusalCause, SluiceStats } from 'sluice'

/** Where figures come from: a Sluice. */
export interface StatsSource {
  stats(): SluiceStats
}

/** `counter` only grows. `sum` can be added up over processes, `gauge` cannot. */
export type FigureKind = 'counter' | 'sum' | 'gauge'

/** A figure of a Sluice, named as OpenTelemetry names things; the name for Prometheus follows from it. */
export interface Figure {
  readonly name: string
  readonly kind: FigureKind
  /** A unit of UCUM, or what is counted, in braces. */
  readonly unit: string
  readonly help: string
  /** What tells its values apart; null when there is one. */
  readonly label: 'reason' | 'cause' | 'client' | null
  /** Its values; each with what the label says of it, '' when there is none. */
  read(stats: SluiceStats): readonly (readonly [label: string, value: number])[]
}

/** A counter that is there before its first event: else the first is no increase, and `rate` does not see it. */
const NO_REFUSALS: Record<RefusalCause, 0> = {
  'shutting-down': 0,
  'max-connections': 0,
  'max-bytes': 0,
  'max-per-key': 0,
  pipelined: 0,
  origin: 0,
  unauthenticated: 0,
  forbidden: 0,
  'hook-failed': 0,
  'authorize-timeout': 0,
  'session-open': 0,
  'client-left': 0,
  'no-stream': 0,
}

const NO_CLIENTS: Record<ClientKind, 0> = {
  curl: 0,
  n8n: 0,
  openai: 0,
  mcp: 0,
  python: 0,
  go: 0,
  java: 0,
  browser: 0,
  node: 0,
  other: 0,
  unnamed: 0,
}

export const FIGURES: readonly Figure[] = [
  one('sluice.connections.open', 'sum', '{connection}', 'Streams that are open.', (stats) => stats.open),
  one(
    'sluice.connections.blocked',
    'sum',
    '{connection}',
    'Open streams whose client has not taken the last write.',
    (stats) => stats.blocked,
  ),
  one(
    'sluice.connections.authorizing',
    'sum',
    '{connection}',
    'Requests that wait for authorize.',
    (stats) => stats.authorizing,
  ),
  one(
    'sluice.connections.opened',
    'counter',
    '{connection}',
    'Streams that were opened.',
    (stats) => stats.opened,
  ),
  each(
    'sluice.connections.opened_by_client',
    'client',
    'Streams that were opened, by kind of client.',
    (stats) => ({ ...NO_CLIENTS, ...stats.openedByClient }),
  ),
  each(
    'sluice.connections.closed',
    'reason',
    'Streams that were closed, by reason.',
    (stats) => stats.closed,
  ),
  each('sluice.connections.refused', 'cause', 'Requests that got no stream, by cause.', (stats) => ({
    ...NO_REFUSALS,
    ...stats.refused,
  })),
  one(
    'sluice.server.connections.dropped',
    'counter',
    '{connection}',
    'TCP connections that an attached server refused for its own limit.',
    (stats) => stats.droppedByServer,
  ),
  one(
    'sluice.events.sent',
    'counter',
    '{event}',
    'Events written to clients, replayed ones included.',
    (stats) => stats.eventsSent,
  ),
  one('sluice.sent', 'counter', 'By', 'Bytes of streams written to clients.', (stats) => stats.bytesSent),
  one(
    'sluice.events.replayed',
    'counter',
    '{event}',
    'Events that clients had missed while they were away and that were sent to them.',
    (stats) => stats.eventsReplayed,
  ),
  one(
    'sluice.events.dropped',
    'counter',
    '{event}',
    'Events that trySend dropped because the queue was full.',
    (stats) => stats.dropped,
  ),
  one('sluice.gaps', 'counter', '{gap}', 'Gap events sent: losses that were told.', (stats) => stats.gaps),
  one(
    'sluice.heartbeats.missed',
    'counter',
    '{heartbeat}',
    'Heartbeats that could not be written.',
    (stats) => stats.heartbeatsMissed,
  ),
  one(
    'sluice.queue.events',
    'sum',
    '{event}',
    'Events that wait in queues; with a log, how far its readers are behind.',
    (stats) => stats.queuedEvents,
  ),
  one(
    'sluice.queue.size',
    'sum',
    'By',
    'Bytes of events in queues and in what the operating system has not taken.',
    (stats) => stats.queuedBytes,
  ),
  one(
    'sluice.held',
    'sum',
    'By',
    'Bytes of events in queues and in the logs that open streams read: what limits.maxBytes limits.',
    (stats) => stats.heldBytes,
  ),
  one(
    'sluice.waiters',
    'sum',
    '{waiter}',
    'Producers that wait for room in a queue.',
    (stats) => stats.waiters,
  ),
  one(
    'sluice.permits',
    'sum',
    '{permit}',
    'Permits that are neither used, released nor expired.',
    (stats) => stats.permits,
  ),
  one(
    'sluice.loop.lag',
    'gauge',
    's',
    'How late the last tick of the timer wheel was: for as long the event loop was busy.',
    (stats) => stats.loopLagMs / 1000,
  ),
]

/** How long streams were open: a histogram, which each exporter makes in its own way. */
export const DURATION = {
  name: 'sluice.connection.duration',
  unit: 's',
  help: 'How long closed streams were open.',
} as const

/** The name in Prometheus: by the rules by which collectors translate names of OpenTelemetry. */
export function prometheusName({
  name,
  unit,
  kind,
}: {
  name: string
  unit: string
  kind?: FigureKind
}): string {
  const suffix = { By: '_bytes', s: '_seconds' }[unit] ?? ''
  return name.replace(/\./g, '_') + suffix + (kind === 'counter' ? '_total' : '')
}

function one(
  name: string,
  kind: FigureKind,
  unit: string,
  help: string,
  value: (stats: SluiceStats) => number,
): Figure {
  return { name, kind, unit, help, label: null, read: (stats) => [['', value(stats)]] }
}

/** A counter of connections, one for each thing that the label can say. */
function each(
  name: string,
  label: NonNullable<Figure['label']>,
  help: string,
  values: (stats: SluiceStats) => Readonly<Record<string, number>>,
): Figure {
  return {
    name,
    kind: 'counter',
    unit: '{connection}',
    help,
    label,
    read: (stats) => Object.entries(values(stats)),
  }
}
