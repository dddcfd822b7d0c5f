// Clients that connect and never read, and one that reads beside them: what they cost in memory.
import { withServer } from '../lib/actors.js'
import { SMALL_TEXT } from '../lib/events.js'
import { bytes, figure } from '../lib/format.js'
import { ratioPerRound, spread } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const SLUICE = 'sluice'
const SLUICE_SMALL = 'sluice, events of 1 KiB'
const LOOP = 'res.write + await drain'
const IGNORED = 'res.write, result ignored'
const BETTER_SSE = 'better-sse push'
const MB = 1e6

/** After so many looks without a byte more, nothing moves any more. */
const QUIET_LOOKS = 10

export const stalled = {
  name: 'stalled',
  peers: [SLUICE, SLUICE_SMALL, LOOP, IGNORED, BETTER_SSE],
  full: { rounds: 3, clients: 50, offeredBytes: 200 * MB, boundedBytes: 8 * MB, fastEvents: 20_000 },
  quick: { rounds: 1, clients: 50, offeredBytes: 200 * MB, boundedBytes: 8 * MB, fastEvents: 20_000 },

  run(peer, size, client) {
    // What does not wait keeps all it is offered: it would need 10 GB.
    const isBounded = peer === IGNORED || peer === BETTER_SSE
    const offer = {
      fastEvents: size.fastEvents,
      offeredBytes: isBounded ? size.boundedBytes : size.offeredBytes,
      eventBytes: peer === SLUICE_SMALL ? 1024 : 16 * 1024,
    }
    return withServer('stalled', peer === SLUICE_SMALL ? SLUICE : peer, offer, async (server, port) => {
      await client.call('read', port, '/warm-up')
      const before = await server.call('memoryAfterGc')
      await client.call('stall', port, size.clients)
      const reading = client.call('read', port, '/fast')
      const { state, peakRss } = await standstill(server, size.clients)
      await server.call('release')
      await reading
      const wrong = await client.call('check', { events: size.fastEvents, text: SMALL_TEXT })
      if (wrong !== null) throw new Error(`the fast client: ${wrong}`)
      const after = await server.call('memory')
      const stateAfter = await server.call('state')
      const afterGc = await server.call('memoryAfterGc')
      const held = await client.call('held')
      if (held.bytesRead > 0) throw new Error(`stalled clients have read ${held.bytesRead} bytes`)
      await client.call('leave')
      return {
        rssPerClient: (Math.max(peakRss, after.rss) - before.rss) / size.clients,
        rssPerClientAtTheEnd: (after.rss - before.rss) / size.clients,
        heldPerClient: (heldBytes(afterGc) - heldBytes(before)) / size.clients,
        fastEventsInOrder: size.fastEvents,
        waiting: Math.min(state.waiting, stateAfter.waiting),
        closed: stateAfter.closed,
        takenPerClient: state.offeredBytes / size.clients,
      }
    })
  },

  compare(of, size) {
    const sluices = [SLUICE, SLUICE_SMALL]
    const shown = (peer, key) => `${peer}: ${figure(of(peer, key), bytes)}`
    const growth = (measured, key, peer, target) => ({
      measured: `${measured}, per stalled client`,
      ours: shown(peer, key),
      value: spread(of(peer, key)),
      show: bytes,
      ...(target && { target }),
    })
    const against = (peer, offered) => ({
      measured: 'growth of resident memory, per stalled client',
      ours: shown(SLUICE, 'rssPerClient'),
      peer: `${shown(peer, 'rssPerClient')} of ${bytes(offered)} offered`,
      ratio: ratioPerRound(of(SLUICE, 'rssPerClient'), of(peer, 'rssPerClient')),
    })
    const everyone = (measured, key, count) => {
      const value = spread(sluices.flatMap((peer) => of(peer, key)))
      return { measured, ours: `${SLUICE}: ${value.min} of ${count}`, value, target: { exactly: count } }
    }
    return [
      ...sluices.map((peer) => growth('growth of resident memory', 'rssPerClient', peer, { below: 2 * MB })),
      ...sluices.map((peer) => growth('held after a collection', 'heldPerClient', peer)),
      everyone('producers that wait at the end', 'waiting', size.clients),
      everyone('events the fast client got, in order', 'fastEventsInOrder', size.fastEvents),
      against(LOOP, size.offeredBytes),
      against(IGNORED, size.boundedBytes),
      against(BETTER_SSE, size.boundedBytes),
    ]
  },

  charts: (of, size) => [
    {
      title: `stalled: growth of resident memory per client; those that do not wait were offered only ${bytes(size.boundedBytes)}`,
      bars: stalled.peers.map((peer) => ({
        label: peer,
        values: of(peer, 'rssPerClient'),
        show: bytes,
        isOurs: peer.startsWith(SLUICE),
      })),
    },
  ],

  notes(of, size) {
    return [
      `stalled: ${size.clients} clients, ${bytes(size.offeredBytes)} offered to each in events of 16 KiB if not said otherwise, of which ` +
        `sluice's producers got rid of ${figure(of(SLUICE, 'takenPerClient'), bytes)} a client (the kernel's buffers ` +
        'take most of it, and are in no process) before they waited. Resident memory is the highest seen, with what ' +
        'the collector has not freed yet; held is heap and buffers after a collection.',
      `stalled: the peers that do not wait keep what they are offered, so they are offered only ` +
        `${bytes(size.boundedBytes)} a client; the figure grows with it.`,
    ]
  },
}

/** What the process holds in objects and buffers. */
function heldBytes({ heapUsed, arrayBuffers }) {
  return heapUsed + arrayBuffers
}

/** Waits until every producer waits or has offered all, and nothing has moved for a while. */
async function standstill(server, clients) {
  let peakRss = 0
  let last = -1
  let quietLooks = 0
  const state = await until(
    'the producers to stand still',
    async () => {
      const { rss } = await server.call('memory')
      const seen = await server.call('state')
      peakRss = Math.max(peakRss, rss)
      const settled = seen.producers === clients && seen.waiting + seen.done >= clients
      quietLooks = settled && seen.offeredBytes === last ? quietLooks + 1 : 0
      last = seen.offeredBytes
      return quietLooks === QUIET_LOOKS ? seen : undefined
    },
    { everyMs: 50 },
  )
  return { state, peakRss }
}
