import type { RequestOptions } from 'node:http'
import { connect as connectSocket } from 'node:net'
import {
  createMemoryLog,
  createSluice,
  type OpenOptions,
  type Sluice,
  type SluiceOptions,
  type SSEHandler,
} from 'sluice'
import { onTestFinished } from 'vitest'
import type { NodeRequest } from '../../src/transport/node.js'
import { connect, type TestClient } from './client.js'
import { serve, type TestServer } from './server.js'
import { until } from './until.js'

/** A Sluice behind a real server, with what is needed to make its figures move. */
export interface LiveSluice extends TestServer {
  sluice: Sluice
  /** The newest handler. */
  readonly sse: SSEHandler
  /** What the streams that are opened from here on are given. */
  openOptions: OpenOptions
  client(options?: RequestOptions): Promise<TestClient>
}

export async function liveSluice(options: SluiceOptions<NodeRequest> = {}): Promise<LiveSluice> {
  // The handler below takes what `open` gives with a hook and without.
  const sluice = createSluice({
    firstEvent: false,
    ...(options as SluiceOptions<NodeRequest> & { authorize?: undefined }),
  })
  const handlers: (SSEHandler | null)[] = []
  const server = await serve(async (req, res) => {
    handlers.push(await sluice.open(req, res, live.openOptions))
  })
  const live: LiveSluice = {
    ...server,
    sluice,
    openOptions: {},
    get sse() {
      return handlers.at(-1) as SSEHandler
    },
    async client(options) {
      const before = handlers.length
      const client = await connect(server.url, options)
      await until(() => handlers.length > before, 'the handler is there')
      return client
    },
  }
  onTestFinished(async () => void (await sluice.shutdown({ graceMs: 0 })))
  return live
}

/** Something that happens to a Sluice, and the figure that shows it. */
export interface Move {
  /** The figure in Prometheus and in OpenTelemetry. */
  names: [prometheus: string, openTelemetry: string]
  label?: string
  when: string
  options?: SluiceOptions<NodeRequest>
  play(live: LiveSluice): Promise<unknown>
  becomes: number | 'more than 0'
}

/** Each figure of a Sluice, and what moves it. */
export const MOVES: Move[] = [
  {
    names: ['sluice_connections_open', 'sluice.connections.open'],
    when: 'two clients come and one leaves',
    async play({ sluice, client }) {
      await client()
      const second = await client()
      second.leave()
      await until(() => sluice.stats().open === 1)
    },
    becomes: 1,
  },
  {
    names: ['sluice_connections_opened_total', 'sluice.connections.opened'],
    when: 'two clients come and one leaves',
    async play({ sluice, client }) {
      await client()
      const second = await client()
      second.leave()
      await until(() => sluice.stats().open === 1)
    },
    becomes: 2,
  },
  {
    names: ['sluice_connections_opened_by_client_total', 'sluice.connections.opened_by_client'],
    label: 'curl',
    when: 'curl comes',
    play: ({ client }) => client({ headers: { 'user-agent': 'curl/8.5.0' } }),
    becomes: 1,
  },
  {
    names: ['sluice_connections_closed_total', 'sluice.connections.closed'],
    label: 'client-closed',
    when: 'a client leaves',
    async play(live) {
      const client = await live.client()
      client.leave()
      await live.sse.closed
    },
    becomes: 1,
  },
  {
    names: ['sluice_connections_closed_total', 'sluice.connections.closed'],
    label: 'completed',
    when: 'the program completes a stream',
    async play(live) {
      await live.client()
      await live.sse.close({ reason: 'completed' })
      await live.sse.closed
    },
    becomes: 1,
  },
  {
    names: ['sluice_connections_closed_total', 'sluice.connections.closed'],
    label: 'shutdown',
    when: 'the process stops',
    async play(live) {
      await live.client()
      await live.sluice.shutdown()
    },
    becomes: 1,
  },
  {
    names: ['sluice_connections_refused_total', 'sluice.connections.refused'],
    label: 'max-connections',
    when: 'one client too many comes',
    options: { limits: { maxConnections: 1 } },
    async play({ client }) {
      await client()
      await client()
    },
    becomes: 1,
  },
  {
    names: ['sluice_connections_authorizing', 'sluice.connections.authorizing'],
    when: 'a client waits for authorize',
    options: { authorize: () => new Promise<never>(() => {}) },
    async play({ sluice, client }) {
      client().catch(() => {})
      await until(() => sluice.stats().authorizing === 1)
    },
    becomes: 1,
  },
  {
    names: ['sluice_server_connections_dropped_total', 'sluice.server.connections.dropped'],
    when: 'the server is full',
    async play({ sluice, server, port, client }) {
      server.maxConnections = 1
      await sluice.attach(server)
      await client()
      const socket = connectSocket(port, '127.0.0.1').on('error', () => {})
      onTestFinished(() => void socket.destroy())
      await until(() => sluice.stats().droppedByServer === 1)
    },
    becomes: 1,
  },
  {
    names: ['sluice_events_sent_total', 'sluice.events.sent'],
    when: 'three events are sent',
    play: sendThree,
    becomes: 3,
  },
  {
    names: ['sluice_sent_bytes_total', 'sluice.sent'],
    when: 'three events are sent',
    play: sendThree,
    // The delay and three times `data: 1`, each with its empty line.
    becomes: 'retry: 2000\n\n'.length + 3 * 'data: 1\n\n'.length,
  },
  {
    names: ['sluice_events_replayed_total', 'sluice.events.replayed'],
    when: 'a client comes back three events later',
    play: (live) => comeBack(live, 100),
    becomes: 3,
  },
  {
    names: ['sluice_gaps_total', 'sluice.gaps'],
    when: 'a client comes back and its place is gone',
    play: (live) => comeBack(live, 1),
    becomes: 1,
  },
  {
    names: ['sluice_events_dropped_total', 'sluice.events.dropped'],
    when: 'trySend finds no room',
    options: { maxEvents: 4 },
    play: fillUp,
    becomes: 1,
  },
  {
    names: ['sluice_queue_events', 'sluice.queue.events'],
    when: 'a client does not read',
    options: { maxEvents: 4 },
    play: fillUp,
    becomes: 4,
  },
  {
    names: ['sluice_queue_size_bytes', 'sluice.queue.size'],
    when: 'a client does not read',
    options: { maxEvents: 4 },
    play: fillUp,
    becomes: 'more than 0',
  },
  {
    names: ['sluice_connections_blocked', 'sluice.connections.blocked'],
    when: 'a client does not read',
    options: { maxEvents: 4 },
    play: fillUp,
    becomes: 1,
  },
  {
    names: ['sluice_held_bytes', 'sluice.held'],
    when: 'a log is held for a client',
    async play(live) {
      live.openOptions = { log: createMemoryLog() }
      await live.client()
      await live.sse.send({ data: 'x'.repeat(1000) })
      await until(() => live.sluice.stats().heldBytes > 1000)
    },
    becomes: 'more than 0',
  },
  {
    names: ['sluice_waiters', 'sluice.waiters'],
    when: 'a producer waits for room',
    options: { maxEvents: 4 },
    async play(live) {
      await fillUp(live)
      live.sse.send({ data: 1 }).catch(() => {})
      await until(() => live.sluice.stats().waiters === 1)
    },
    becomes: 1,
  },
  {
    names: ['sluice_permits', 'sluice.permits'],
    when: 'a permit is given',
    async play(live) {
      await live.client()
      live.sse.tryRequestSend()
    },
    becomes: 1,
  },
  {
    names: ['sluice_heartbeats_missed_total', 'sluice.heartbeats.missed'],
    when: 'a client does not read',
    options: { maxEvents: 4, heartbeat: { intervalMs: 10, maxMissed: 1_000_000 } },
    async play(live) {
      await fillUp(live)
      await until(() => live.sluice.stats().heartbeatsMissed > 0)
    },
    becomes: 'more than 0',
  },
  {
    names: ['sluice_loop_lag_seconds', 'sluice.loop.lag'],
    when: 'the event loop is busy',
    async play({ sluice, client }) {
      await client()
      const busyUntil = performance.now() + 1200
      while (performance.now() < busyUntil);
      await until(() => sluice.stats().loopLagMs > 0)
    },
    becomes: 'more than 0',
  },
]

async function sendThree(live: LiveSluice): Promise<void> {
  const client = await live.client()
  for (let i = 0; i < 3; i += 1) await live.sse.send({ data: 1 })
  await client.until((events) => events.length === 3)
}

/** A client gets an event, leaves, and comes back when three more are in the log, which keeps `maxEvents`. */
export async function comeBack(live: LiveSluice, maxEvents: number): Promise<void> {
  const log = createMemoryLog({ maxEvents })
  live.openOptions = { log }
  const first = await live.client()
  await live.sse.send({ data: 0 })
  await first.until((events) => events.length === 1)
  first.leave()
  await live.sse.closed
  const another = await live.client()
  for (let i = 1; i <= 3; i += 1) {
    await live.sse.send({ data: i })
    await another.until((events) => events.length === i)
  }
  await live.sse.close()
  const again = await live.client({ headers: { 'last-event-id': first.lastEventId } })
  await again.until((events) => events.at(-1)?.data === '3')
}

/** A client stops reading, and gets events until the socket and the queue are full and one is dropped. */
export async function fillUp(live: LiveSluice): Promise<void> {
  const client = await live.client()
  client.pause()
  const { sse } = live
  const data = 'x'.repeat(200_000)
  await until(() => {
    if (sse.phase !== 'blocked') sse.trySend({ data })
    return sse.phase === 'blocked'
  }, 'the client is blocked')
  await until(() => sse.trySend({ data }) === 'dropped', 'the queue is full')
}
