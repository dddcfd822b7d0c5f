// A channel with readers that never read, and one that does: what they cost in memory, whatever the policy.
import { bytes, figure } from '../lib/format.js'
import { ratioPerRound, spread } from '../lib/statistics.js'
import { until } from '../lib/until.js'
import { BETTER_SSE, checkReaders, LOOP, withReaders } from './fan-out.js'

const MB = 1e6
const EVENT_BYTES = 16 * 1024

/** What each policy leaves of the readers that never read. */
const POLICIES = { 'sluice, gap': 1, 'sluice, close': 0, 'sluice, wait': 0 }
const OURS = Object.keys(POLICIES)

/** Fills the log, which is there whether or not somebody reads. */
const WARM_UP_EVENTS = 1100

export const channelStalled = {
  name: 'channel-stalled',
  peers: [...OURS, LOOP, BETTER_SSE],
  full: { rounds: 3, stalled: 50, offeredBytes: 100 * MB, boundedBytes: 8 * MB, window: 32 },
  quick: { rounds: 1, stalled: 50, offeredBytes: 30 * MB, boundedBytes: 8 * MB, window: 32 },

  run(peer, size, client) {
    const [name, slowConsumer] = peer.split(', ')
    // What does not look at its readers keeps all they are offered.
    const offeredBytes = slowConsumer === undefined ? size.boundedBytes : size.offeredBytes
    const options = { slowConsumer, clients: 1, eventBytes: EVENT_BYTES }
    const pace = { perTurn: 1, window: size.window }
    return withReaders(name, options, client, {}, async (server, port) => {
      const warmUp = await server.call('publish', { ...pace, turns: WARM_UP_EVENTS })
      const before = await server.call('memoryAfterGc')
      await server.call('forgetPeak')
      await client.call('stall', port, size.stalled, '/')
      await until('the stalled readers', async () => {
        return (await server.call('readers')) === size.stalled + 1 || undefined
      })
      const turns = Math.ceil(offeredBytes / EVENT_BYTES)
      const { events, wallMs } = await server.call('publish', { ...pace, turns })
      await checkReaders(client, warmUp.events + events)
      const after = await server.call('memoryAfterGc')
      const peak = await server.call('peakRss')
      const left = (await server.call('readers')) - 1
      const held = await client.call('held')
      if (held.bytesRead > 0) throw new Error(`stalled readers have read ${held.bytesRead} bytes`)
      return {
        rssPerReader: (peak - before.rss) / size.stalled,
        heldPerReader: (heldBytes(after) - heldBytes(before)) / size.stalled,
        fastEventsInOrder: events,
        stalledLeft: left,
        wallMs,
      }
    })
  },

  compare(of, size) {
    const shown = (peer, key) => `${peer}: ${figure(of(peer, key), bytes)}`
    const fastEvents = Math.ceil(size.offeredBytes / EVENT_BYTES)
    return [
      ...OURS.map((peer) => ({
        measured: 'growth of resident memory, per stalled reader',
        ours: shown(peer, 'rssPerReader'),
        value: spread(of(peer, 'rssPerReader')),
        show: bytes,
        target: { below: 2 * MB },
      })),
      ...OURS.map((peer) => ({
        measured: 'events the fast reader got, in order',
        ours: peer,
        value: spread(of(peer, 'fastEventsInOrder')),
        target: { exactly: fastEvents },
      })),
      ...OURS.map((peer) => ({
        measured: 'stalled readers that are still connected',
        ours: peer,
        value: spread(of(peer, 'stalledLeft')),
        target: { exactly: POLICIES[peer] * size.stalled },
      })),
      ...[LOOP, BETTER_SSE].map((peer) => ({
        measured: 'growth of resident memory, per stalled reader',
        ours: shown(OURS[0], 'rssPerReader'),
        peer: `${shown(peer, 'rssPerReader')} of ${bytes(size.boundedBytes)} offered`,
        ratio: ratioPerRound(of(OURS[0], 'rssPerReader'), of(peer, 'rssPerReader')),
      })),
    ]
  },

  charts: (of, size) => [
    {
      title: `channel-stalled: growth of resident memory per stalled reader; the peers were offered only ${bytes(size.boundedBytes)}`,
      bars: channelStalled.peers.map((peer) => ({
        label: peer,
        values: of(peer, 'rssPerReader'),
        show: bytes,
        isOurs: OURS.includes(peer),
      })),
    },
  ],

  notes(of, size) {
    return [
      `channel-stalled: ${size.stalled} readers that never read and one that does, ${bytes(size.offeredBytes)} published in ` +
        'events of 16 KiB with `await channel.send`, behind a warm-up that fills the log. Resident memory is the highest ' +
        `seen. After a collection sluice held ${OURS.map((peer) => `${figure(of(peer, 'heldPerReader'), bytes)} (${peer})`).join(', ')} ` +
        'a reader.',
      `channel-stalled: the peers keep what they are offered, so they are offered only ${bytes(size.boundedBytes)}; the ` +
        'figure grows with it. The loop hands the same string to all, better-sse makes one for each.',
    ]
  },
}

/** What the process holds in objects and buffers. */
function heldBytes({ heapUsed, arrayBuffers }) {
  return heapUsed + arrayBuffers
}
