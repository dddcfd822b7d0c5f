// Connections that come and go: what they leave behind.
import { withServer } from '../lib/actors.js'
import { bytes, decimals, figure } from '../lib/format.js'
import { spread } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const SLUICE = 'sluice'
const BARE = 'bare ServerResponse'

export const churn = {
  name: 'churn',
  peers: [SLUICE, BARE],
  full: { rounds: 1, connections: 10_000, warmUp: 2000, batch: 200 },
  quick: { rounds: 1, connections: 2000, warmUp: 2000, batch: 200 },

  run(peer, size, client) {
    return withServer('churn', peer, size, async (server, port) => {
      const stateAfter = async (connections) => {
        await client.call('churn', port, connections, size.batch)
        await until('the last connection to close', async () => {
          const { kept } = await server.call('state')
          return (kept === 0 && (await server.call('connections')) === 0) || undefined
        })
        const { heapUsed } = await server.call('memoryAfterGc')
        return { heapUsed, handles: await server.call('handles'), used: await server.call('state') }
      }
      const before = await stateAfter(size.warmUp)
      const after = await stateAfter(size.connections)
      return {
        heapBefore: before.heapUsed,
        heapAfter: after.heapUsed,
        heapRatio: after.heapUsed / before.heapUsed,
        handlesBefore: before.handles,
        handlesAfter: after.handles,
        handlesLeft: difference(before.handles, after.handles),
        connectionsLeft: await server.call('connections'),
        producersEnded: after.used.producersEnded,
        signalsAborted: after.used.signalsAborted,
      }
    })
  },

  compare(of, size) {
    const opened = size.warmUp + size.connections
    const count = (measured, values, target) => ({
      measured,
      ours: `${SLUICE}: ${figure(values, String)}`,
      value: spread(values),
      target: { exactly: target },
    })
    const grown = (peer) =>
      `${peer}: ${figure(of(peer, 'heapBefore'), bytes)} → ${figure(of(peer, 'heapAfter'), bytes)}`
    return [
      {
        measured: 'heap after all have left / before they came',
        ours: grown(SLUICE),
        peer: grown(BARE),
        value: spread(of(SLUICE, 'heapRatio')),
        show: decimals(3),
        target: { atMost: 1.05 },
      },
      count('handles left', of(SLUICE, 'handlesLeft'), 0),
      count('connections left', of(SLUICE, 'connectionsLeft'), 0),
      count('producers told of the end', of(SLUICE, 'producersEnded'), opened),
      count('signals aborted', of(SLUICE, 'signalsAborted'), opened),
    ]
  },

  notes(_of, size) {
    return [
      `churn: ${size.connections} connections in batches of ${size.batch}, after ${size.warmUp} that are not ` +
        'counted; every other batch leaves by RST. Each has used its signal, sent an event and left a permit unused.',
    ]
  },
}

/** How many handles of any kind there are more or fewer. */
function difference(before, after) {
  const kinds = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...kinds].reduce((sum, kind) => sum + Math.abs((after[kind] ?? 0) - (before[kind] ?? 0)), 0)
}
