// Connections on which nothing happens, by themselves and following a channel: what each costs in memory.
import { withServer } from '../lib/actors.js'
import { affordable } from '../lib/affordable.js'
import { bytes, figure } from '../lib/format.js'
import { ratioPerRound } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const BARE = 'bare ServerResponse'

export const idle = idleConnections({
  name: 'idle',
  ours: 'sluice',
  betterSse: 'better-sse session',
  connections: 4000,
  targets: { heap: { bare: { atMost: 2.2 }, betterSse: { below: 1 } } },
})

export const channelIdle = idleConnections({
  name: 'channel-idle',
  ours: 'sluice channel',
  betterSse: 'better-sse channel',
  connections: 5000,
  targets: { heap: { betterSse: { below: 1 } }, rss: { betterSse: { below: 1 } } },
})

function idleConnections({ name, ours, betterSse, connections, targets }) {
  return {
    name,
    peers: [ours, BARE, betterSse],
    full: { rounds: 3, connections: affordable(connections), wanted: connections, warmUp: 200 },
    quick: { rounds: 1, connections: affordable(1000), wanted: 1000, warmUp: 200 },

    run(peer, size, client) {
      return withServer('idle', peer, size, async (server, port) => {
        const memoryWith = async (count) => {
          await until(`${count} connections`, async () => {
            const { kept } = await server.call('state')
            return kept === count || undefined
          })
          return server.call('memoryAfterGc')
        }
        await client.call('open', port, size.warmUp)
        const before = await memoryWith(size.warmUp)
        await client.call('open', port, size.connections)
        const after = await memoryWith(size.warmUp + size.connections)
        const { open } = await client.call('held')
        if (open !== size.warmUp + size.connections) throw new Error(`only ${open} connections stayed open`)
        await client.call('leave')
        return {
          heapPerConnection: (after.heapUsed - before.heapUsed) / size.connections,
          rssPerConnection: (after.rss - before.rss) / size.connections,
        }
      })
    },

    compare(of) {
      const against = (measured, key, peer, target) => ({
        measured: `${measured} per connection`,
        ours: `${ours}: ${figure(of(ours, key), bytes)}`,
        peer: `${peer}: ${figure(of(peer, key), bytes)}`,
        ratio: ratioPerRound(of(ours, key), of(peer, key)),
        ...(target && { target }),
      })
      return [
        against('heap', 'heapPerConnection', BARE, targets.heap.bare),
        against('heap', 'heapPerConnection', betterSse, targets.heap.betterSse),
        against('resident memory', 'rssPerConnection', BARE, targets.rss?.bare),
        against('resident memory', 'rssPerConnection', betterSse, targets.rss?.betterSse),
      ]
    },

    charts: (of) => [
      {
        title: `${name}: heap per connection`,
        bars: [ours, BARE, betterSse].map((peer) => ({
          label: peer,
          values: of(peer, 'heapPerConnection'),
          show: bytes,
          isOurs: peer === ours,
        })),
      },
    ],

    notes(_of, size) {
      return [
        `${name}: growth from ${size.warmUp} to ${size.warmUp + size.connections} connections, after two collections ` +
          'each time. Every connection has got its head and first bytes; default options.',
        ...(size.connections < size.wanted
          ? [
              `${name}: ${size.wanted} connections were wanted; a process may not open so many files here (ulimit -n).`,
            ]
          : []),
      ]
    },
  }
}
