// One event to many readers at a steady pace: what it costs, and how long it takes.
import { TIMED_TEXT } from '../lib/events.js'
import { decimals, figure } from '../lib/format.js'
import { ratioPerRound } from '../lib/statistics.js'
import { BETTER_SSE, checkReaders, FLOOR, LOOP, NCHAN_IF_INSTALLED, SLUICE, withReaders } from './fan-out.js'

const PEERS = [FLOOR, LOOP, BETTER_SSE, ...NCHAN_IF_INSTALLED]

/** So much of the pace is the pace. */
const PACE_KEPT = 0.98

export const paced = {
  name: 'paced',
  peers: [SLUICE, ...PEERS],
  full: { rounds: 3, clients: 500, everyMs: 5, window: 256, warmUpMs: 2000, forMs: 5000 },
  quick: { rounds: 1, clients: 500, everyMs: 5, window: 256, warmUpMs: 300, forMs: 600 },

  run(peer, size, client) {
    const expected = { textBytes: TIMED_TEXT.length, isTimed: true }
    return withReaders(peer, size, client, expected, async (server) => {
      const warmUp = await server.call('publishPaced', { ...size, forMs: size.warmUpMs })
      await client.call('latencies')
      const { events, cpuMicros, writes, publishingMs, wallMs } = await server.call('publishPaced', size)
      await checkReaders(client, warmUp.events + events)
      const { p50, p99, max } = await client.call('latencies')
      return {
        cpuMicrosPerDelivery: cpuMicros / events / size.clients,
        eventsPerWrite: (events * size.clients) / writes,
        eventsPerSecond: (events / publishingMs) * 1000,
        serverShareOfWall: cpuMicros / 1000 / wallMs,
        p50,
        p99,
        max,
      }
    })
  },

  compare(of, size) {
    // What was not under the load that was asked for says nothing about it.
    const keptPace = (peer) =>
      of(peer, 'eventsPerSecond').every((rate) => rate >= (1000 / size.everyMs) * PACE_KEPT)
    const against = (measured, key, show, peer, atMost) => ({
      measured,
      ours: shown(SLUICE, key, show),
      peer: shown(peer, key, show),
      ratio: ratioPerRound(of(SLUICE, key), of(peer, key)),
      ...(atMost && { target: { atMost } }),
      ...(atMost && !(keptPace(SLUICE) && keptPace(peer)) && { unjudged: 'pace not kept' }),
    })
    const shown = (peer, key, show) =>
      `${peer}: ${figure(of(peer, key), show)} (${figure(of(peer, 'eventsPerWrite'), decimals(1))} events a write)`
    const ms = (value) => `${value.toFixed(1)} ms`
    const seconds = (value) => `${value.toFixed(2)} s`
    const rows = (measured, key, show, atMost) =>
      PEERS.map((peer) => against(measured, key, show, peer, peer === LOOP && atMost))
    return [
      ...rows('CPU seconds per million deliveries', 'cpuMicrosPerDelivery', seconds, 0.82),
      ...rows('p99 of the time to the reader', 'p99', ms, 1),
    ]
  },

  charts: (of) => [
    {
      title: 'paced: CPU seconds of the server per million deliveries',
      bars: bars(of, 'cpuMicrosPerDelivery', decimals(2)),
    },
    { title: 'paced: milliseconds to the reader, 99 of 100', bars: bars(of, 'p99', decimals(1)) },
  ],

  notes(of, size) {
    const rates = [SLUICE, ...PEERS].map(
      (peer) => `${figure(of(peer, 'eventsPerSecond'), decimals(0))} (${peer})`,
    )
    return [
      `paced: ${size.clients} readers, ${1000 / size.everyMs} events a second were asked for, and reached were ` +
        `${rates.join(', ')}. Time to the reader is from the call that publishes to the read in the load client. More than one ` +
        'event a write: a publisher that was late had events close together, or sluice put off a write for up to 2 ms.',
    ]
  },
}

function bars(of, key, show) {
  return paced.peers.map((peer) => ({ label: peer, values: of(peer, key), show, isOurs: peer === SLUICE }))
}
