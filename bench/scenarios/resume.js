// Many readers that come back at once, far behind, while publishing goes on.
import { sharedText } from '../lib/events.js'
import { bytes, decimals, figure } from '../lib/format.js'
import { ratioPerRound, spread } from '../lib/statistics.js'
import {
  checkReaders,
  FLOOR,
  LOOP,
  NCHAN,
  NCHAN_IF_INSTALLED,
  SLUICE,
  SSE_CHANNEL,
  withReaders,
} from './fan-out.js'

const MB = 1e6
const PEERS = [FLOOR, LOOP, SSE_CHANNEL, ...NCHAN_IF_INSTALLED]

/** Events in each turn while the history is made. */
const PER_TURN = 16

/** Events before the one that readers come back from, and room in the history for what is published meanwhile. */
const EARLIER = 512
const SPARE = 4000

/** How long all may take to catch up, and to get the last events when publishing has stopped. */
const LIMIT_MS = 60_000
const LAST_EVENTS_MS = 5000

/**
 * nchan 1.3.6 now and then sends a reader nothing more when it has caught up, and keeps the connection: seen in one of
 * ten runs, with empty queues at both ends. That is told, and is no reason to measure nothing.
 */
const LEAVES_BEHIND = [NCHAN]

export const resume = {
  name: 'resume',
  peers: [SLUICE, ...PEERS],
  full: { rounds: 3, clients: 200, behind: 10_000, everyMs: 5 },
  quick: { rounds: 1, clients: 100, behind: 2000, everyMs: 5 },

  run(peer, size, client) {
    const history = EARLIER + size.behind + SPARE
    const turns = Math.ceil((EARLIER + size.behind) / PER_TURN)
    const last = turns * PER_TURN - size.behind - 1
    // One reader is there from the start: it learns the id that the others come back with.
    return withReaders(
      peer,
      { ...size, history, clients: 1 },
      client,
      { learn: last },
      async (server, port) => {
        await server.call('publish', { perTurn: PER_TURN, window: 256, turns })
        const { learned } = await client.call('followed')
        const upTo = await server.call('startPacing', size)
        const { wallMs } = await client.call('resume', port, size.clients, {
          from: last + 1,
          lastEventId: learned,
          textBytes: sharedText().length,
          upTo,
          limitMs: LIMIT_MS,
        })
        const published = await server.call('stopPacing')
        const leftBehind = await client.call('until', published, LAST_EVENTS_MS)
        if (leftBehind === 0 || !LEAVES_BEHIND.includes(peer)) await checkReaders(client, published)
        const peakRss = await server.call('peakRss')
        return { wallMs, peakRss, leftBehind, publishedMeanwhile: published - upTo }
      },
    )
  },

  compare(of, size) {
    const ms = (value) => `${value.toFixed(0)} ms`
    const shown = (peer, key, show) => `${peer}: ${figure(of(peer, key), show)}`
    return [
      ...PEERS.map((peer) => ({
        measured: `time until all ${size.clients} have caught up`,
        ours: shown(SLUICE, 'wallMs', ms),
        peer: shown(peer, 'wallMs', ms),
        ratio: ratioPerRound(of(SLUICE, 'wallMs'), of(peer, 'wallMs')),
        ...(peer === FLOOR && { target: { atMost: 1.5 } }),
      })),
      {
        measured: 'readers that never got the last events',
        ours: SLUICE,
        value: spread(of(SLUICE, 'leftBehind')),
        target: { exactly: 0 },
      },
      {
        measured: 'peak of resident memory',
        ours: shown(SLUICE, 'peakRss', bytes),
        value: spread(of(SLUICE, 'peakRss')),
        show: bytes,
        target: { below: 150 * MB },
      },
      ...PEERS.map((peer) => ({
        measured: 'peak of resident memory',
        ours: shown(SLUICE, 'peakRss', bytes),
        peer: shown(peer, 'peakRss', bytes),
        ratio: ratioPerRound(of(SLUICE, 'peakRss'), of(peer, 'peakRss')),
      })),
    ]
  },

  charts: (of, size) => {
    const bars = (key, show) =>
      resume.peers.map((peer) => ({ label: peer, values: of(peer, key), show, isOurs: peer === SLUICE }))
    const seconds = (value) => (value / 1000).toFixed(2)
    return [
      { title: `resume: seconds until all ${size.clients} have caught up`, bars: bars('wallMs', seconds) },
      { title: 'resume: peak of resident memory', bars: bars('peakRss', bytes) },
    ]
  },

  notes(of, size) {
    const leavers = PEERS.filter((peer) => of(peer, 'leftBehind').some((readers) => readers > 0))
    return [
      ...leavers.map(
        (peer) =>
          `resume: ${peer} left readers behind, connected and without the last events: ${of(peer, 'leftBehind').join(', ')} ` +
          `of ${size.clients} in each round.`,
      ),
      `resume: ${size.clients} readers come back at once, ${size.behind} events behind, while an event is published ` +
        `every ${size.everyMs} ms: ${figure(of(SLUICE, 'publishedMeanwhile'), decimals(0))} more (sluice). Peak memory is of the ` +
        "server's whole life; for nchan, of nginx's worker. better-sse, @fastify/sse and hono keep no history.",
    ]
  },
}
