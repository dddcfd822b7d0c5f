// Connections on which nothing happens: what each costs in memory.
import { withServer } from '../lib/actors.js'
import { bytes, figure } from '../lib/format.js'
import { ratioPerRound } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const SLUICE = 'sluice'
const BARE = 'bare ServerResponse'
const BETTER_SSE = 'better-sse session'

export const idle = {
  name: 'idle',
  peers: [SLUICE, BARE, BETTER_SSE],
  full: { rounds: 3, connections: affordable(4000), warmUp: 200 },
  quick: { rounds: 1, connections: 1000, warmUp: 200 },

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
      ours: `${SLUICE}: ${figure(of(SLUICE, key), bytes)}`,
      peer: `${peer}: ${figure(of(peer, key), bytes)}`,
      ratio: ratioPerRound(of(SLUICE, key), of(peer, key)),
      ...(target && { target }),
    })
    return [
      against('heap', 'heapPerConnection', BARE, { atMost: 2.2 }),
      against('heap', 'heapPerConnection', BETTER_SSE, { below: 1 }),
      against('resident memory', 'rssPerConnection', BARE),
      against('resident memory', 'rssPerConnection', BETTER_SSE),
    ]
  },

  notes(_of, size) {
    return [
      `idle: growth from ${size.warmUp} to ${size.warmUp + size.connections} connections, after two collections ` +
        'each time. Every connection has got its head and first bytes; default options.',
    ]
  },
}

/** As many connections as asked for, or as a process may have open: each is a file at both of its ends. */
function affordable(connections) {
  // Node raises the soft limit to the hard one by itself. Windows has none.
  const openFiles = Number(process.report.getReport().userLimits?.open_files.hard ?? Infinity)
  return Number.isNaN(openFiles) ? connections : Math.min(connections, openFiles - 500)
}
