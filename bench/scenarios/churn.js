// Connections that come and go, by themselves and following a channel: what they leave behind.
import { withServer } from '../lib/actors.js'
import { bytes, decimals, figure } from '../lib/format.js'
import { spread } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const BARE = 'bare ServerResponse'

export const churn = churning({
  name: 'churn',
  ours: 'sluice',
  connections: 10_000,
  use: 'Each has used its signal, sent an event and left a permit unused.',
})

export const channelChurn = churning({
  name: 'channel-churn',
  ours: 'sluice channel',
  connections: 2000,
  use: 'Each has used its signal and followed a channel, to which an event was sent when it came.',
})

function churning({ name, ours, connections, use }) {
  return {
    name,
    peers: [ours, BARE],
    full: { rounds: 1, connections, warmUp: 2000, batch: 200 },
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
          readersLeft: after.used.kept,
          producersEnded: after.used.producersEnded,
          signalsAborted: after.used.signalsAborted,
        }
      })
    },

    compare(of, size) {
      const opened = size.warmUp + size.connections
      const count = (measured, values, target) => ({
        measured,
        ours: `${ours}: ${figure(values, String)}`,
        value: spread(values),
        target: { exactly: target },
      })
      const grown = (peer) =>
        `${peer}: ${figure(of(peer, 'heapBefore'), bytes)} → ${figure(of(peer, 'heapAfter'), bytes)}`
      return [
        {
          measured: 'heap after all have left / before they came',
          ours: grown(ours),
          peer: grown(BARE),
          value: spread(of(ours, 'heapRatio')),
          show: decimals(3),
          target: { atMost: 1.05 },
        },
        count('handles left', of(ours, 'handlesLeft'), 0),
        count('connections left', of(ours, 'connectionsLeft'), 0),
        count('connections still kept', of(ours, 'readersLeft'), 0),
        count('producers told of the end', of(ours, 'producersEnded'), opened),
        count('signals aborted', of(ours, 'signalsAborted'), opened),
      ]
    },

    notes(_of, size) {
      return [
        `${name}: ${size.connections} connections in batches of ${size.batch}, after ${size.warmUp} that are not ` +
          `counted; every other batch leaves by RST. ${use}`,
      ]
    },
  }
}

/** How many handles of any kind there are more or fewer. */
function difference(before, after) {
  const kinds = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...kinds].reduce((sum, kind) => sum + Math.abs((after[kind] ?? 0) - (before[kind] ?? 0)), 0)
}
