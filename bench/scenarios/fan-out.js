// One event to many readers, as fast as the slowest of them takes it: what a delivery costs the server. Measured twice:
// - with a window, so that the publisher runs ahead. A peer that gathers over turns then puts as many events into a write
//   as the window lets it, and the window decides how good it looks;
// - a turn at a time: nothing is published until all readers have the turn before. Nobody can gather more than a turn,
//   so all make the same number of writes of the same size. This is what compares the work itself.
import { withServer } from '../lib/actors.js'
import { sharedText } from '../lib/events.js'
import { decimals, figure } from '../lib/format.js'
import { ratioPerRound } from '../lib/statistics.js'
import { until } from '../lib/until.js'
import { isNchanInstalled } from '../peers/nchan.js'

export const SLUICE = 'sluice'
const SLUICE_AT_ONCE = 'sluice, flushIntervalMs: 0'
export const FLOOR = 'floor'
export const LOOP = 'res.write loop'
export const BETTER_SSE = 'better-sse'
export const SSE_CHANNEL = 'sse-channel'
export const NCHAN = 'nchan'
export const NCHAN_IF_INSTALLED = isNchanInstalled() ? [NCHAN] : []

const OTHERS = [LOOP, BETTER_SSE, '@fastify/sse', 'hono', SSE_CHANNEL, ...NCHAN_IF_INSTALLED]

export const burst = fanOut({
  name: 'burst',
  ours: [SLUICE, SLUICE_AT_ONCE],
  perTurn: 16,
  targets: [
    { ours: [SLUICE, SLUICE_AT_ONCE], peer: FLOOR, atMost: 1.2 },
    { peer: BETTER_SSE, atMost: 0.1 },
    { peer: LOOP, atMost: 0.25 },
  ],
})

export const single = fanOut({
  name: 'single',
  ours: [SLUICE, SLUICE_AT_ONCE],
  perTurn: 1,
  targets: [
    { peer: NCHAN, atMost: 1 / 3, byGathering: true },
    { ours: [SLUICE_AT_ONCE], peer: FLOOR, atMost: 1.15 },
  ],
})

/** So many readers, all of which follow. */
export async function withReaders(peer, size, client, expected, use) {
  return withServer('fan-out', peer, size, async (server, port) => {
    await client.call('reportTo', await server.call('listenForProgress'))
    try {
      await client.call('follow', port, size.clients, {
        textBytes: sharedText(size.eventBytes).length,
        ...expected,
      })
      await until(`${size.clients} readers`, async () => {
        return (await server.call('readers')) === size.clients || undefined
      })
      return await use(server, port)
    } finally {
      await client.call('leave')
    }
  })
}

/** Fails unless each reader has got each of so many events once, in order. */
export async function checkReaders(client, events) {
  const state = await client.call('followed')
  const { wrong, fewest, most } = state
  if (wrong !== null) throw new Error(wrong)
  if (fewest !== events || most !== events) {
    throw new Error(`each reader was to get ${events} events; they got ${fewest} to ${most}`)
  }
  return state
}

const AHEAD = ['cpuMicrosPerDelivery', 'eventsPerWrite']
const TURN_BY_TURN = ['turnByTurnCpuMicrosPerDelivery', 'turnByTurnEventsPerWrite']

/** Publishes as `size` says, behind what is published already. */
async function phase(server, client, size, publishedBefore) {
  const before = await checkReaders(client, publishedBefore)
  const { events, cpuMicros, writes, wallMs } = await server.call('publish', size)
  const published = publishedBefore + events
  const after = await checkReaders(client, published)
  const deliveries = events * size.clients
  return {
    published,
    cpuMicrosPerDelivery: cpuMicros / deliveries,
    deliveries,
    deliveriesPerSecond: (deliveries / wallMs) * 1000,
    bytesPerDelivery: (after.bytes - before.bytes) / deliveries,
    eventsPerWrite: deliveries / writes,
    eventsPerRead: deliveries / (after.reads - before.reads),
    serverShareOfWall: cpuMicros / 1000 / wallMs,
    clientShareOfWall: (after.cpuMicros - before.cpuMicros) / 1000 / wallMs,
  }
}

function renamed(figures) {
  return Object.fromEntries(
    Object.entries(figures).map(([key, value]) => [
      `turnByTurn${key[0].toUpperCase()}${key.slice(1)}`,
      value,
    ]),
  )
}

function fanOut({ name, ours, perTurn, targets }) {
  return {
    name,
    peers: [...ours, FLOOR, ...OTHERS],
    full: { rounds: 3, clients: 500, perTurn, window: 256, turns: 16, warmUpMs: 1000, forMs: 1500 },
    quick: { rounds: 1, clients: 500, perTurn, window: 256, turns: 4, warmUpMs: 200, forMs: 300 },

    run(peer, size, client) {
      return withReaders(peer, size, client, {}, async (server) => {
        const warmUp = await server.call('publish', { ...size, forMs: size.warmUpMs })
        const ahead = await phase(server, client, size, warmUp.events)
        const turnByTurn = await phase(server, client, { ...size, window: perTurn }, ahead.published)
        return { ...ahead, ...renamed(turnByTurn) }
      })
    },

    compare(of) {
      const shown = (peer, [cpu, perWrite]) =>
        `${peer}: ${figure(of(peer, cpu), decimals(2))} s (${figure(of(peer, perWrite), decimals(1))} events a write)`
      const rows = (measured, keys, isJudged) =>
        ours.flatMap((mine) =>
          [FLOOR, ...OTHERS].map((peer) => {
            const target = targets.find(
              (one) => (one.ours ?? [SLUICE]).includes(mine) && one.peer === peer && isJudged(one),
            )
            return {
              measured,
              ours: shown(mine, keys),
              peer: shown(peer, keys),
              ratio: ratioPerRound(of(mine, keys[0]), of(peer, keys[0])),
              ...(target && { target: { atMost: target.atMost } }),
            }
          }),
        )
      return [
        ...rows('CPU seconds per million deliveries', AHEAD, () => true),
        ...rows('the same, a turn at a time', TURN_BY_TURN, (target) => !target.byGathering),
      ]
    },

    charts: (of, size) =>
      [
        [`publisher up to ${size.window} events ahead`, AHEAD],
        ['a turn at a time', TURN_BY_TURN],
      ].map(([how, [key, perWrite]]) => ({
        title: `${name}: CPU seconds of the server per million deliveries, ${how}`,
        bars: [...ours, FLOOR, ...OTHERS].map((peer) => ({
          label: peer,
          values: of(peer, key),
          show: decimals(2),
          aside: `${figure(of(peer, perWrite), decimals(0))} events a write`,
          isOurs: ours.includes(peer),
        })),
      })),

    notes(of, size) {
      const per = (peer, key, show) => `${figure(of(peer, key), show)} (${peer})`
      const shares = (key) =>
        [SLUICE, FLOOR, LOOP]
          .map((peer) => per(peer, key, (share) => `${(share * 100).toFixed(0)} %`))
          .join(', ')
      return [
        `${name}: ${size.clients} readers, ${perTurn} ${perTurn === 1 ? 'event' : 'events'} in each turn of the event ` +
          `loop; the publisher is at most ${size.window} events ahead of the slowest reader. CPU is user + system of ` +
          "the server's process. Of the wall time the server computed " +
          `${shares('serverShareOfWall')}, the load client ${shares('clientShareOfWall')}.`,
        `${name}: sluice gathers over turns, for up to 2 ms, as much as the window allows; with flushIntervalMs: 0 what was ` +
          'published while the write before was under way. That is what the events a write are, and with another ' +
          'window its figures are others; a turn at a time they are not. An event took ' +
          `${[SLUICE, FLOOR].map((peer) => per(peer, 'bytesPerDelivery', decimals(0))).join(', ')} bytes.`,
        ...(NCHAN_IF_INSTALLED.length > 0 ? [] : [`${name}: nchan is not installed, and left out.`]),
      ]
    },
  }
}
