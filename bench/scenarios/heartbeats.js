// Heartbeats of many connections that are all due at once: how long they keep the event loop from anything else.
import { setTimeout as wait } from 'node:timers/promises'
import { withServer } from '../lib/actors.js'
import { affordable } from '../lib/affordable.js'
import { decimals, figure } from '../lib/format.js'
import { spread } from '../lib/statistics.js'
import { until } from '../lib/until.js'

const OURS = 'sluice'
const ONE_TIMER = 'one timer, res.write to all'

/** What sending to all at once leaves to be done is done by then. */
const SETTLE_MS = 1000

export const heartbeats = {
  name: 'heartbeats',
  peers: [OURS, ONE_TIMER],
  full: { rounds: 3, connections: affordable(10_000), intervalMs: 4000, beatsEach: 3 },
  quick: { rounds: 1, connections: affordable(2000), intervalMs: 2000, beatsEach: 2 },

  run(peer, size, client) {
    return withServer('heartbeats', peer, size, async (server, port) => {
      await client.call('open', port, size.connections)
      await until(`${size.connections} connections`, async () => {
        const { kept } = await server.call('state')
        return kept === size.connections || undefined
      })
      await server.call('sendToAll')
      await wait(SETTLE_MS)
      await server.call('watchLoop')
      const { beats } = await server.call('state')
      await until('their heartbeats', async () => {
        const state = await server.call('state')
        return state.beats - beats >= size.beatsEach * size.connections || undefined
      })
      const longestBlockMs = await server.call('longestBlockMs')
      await client.call('leave')
      return { longestBlockMs }
    })
  },

  compare: (of) => [
    {
      measured: 'longest block of the event loop',
      ours: `${OURS}: ${figure(of(OURS, 'longestBlockMs'), decimals(1))} ms`,
      peer: `${ONE_TIMER}: ${figure(of(ONE_TIMER, 'longestBlockMs'), decimals(1))} ms`,
      value: spread(of(OURS, 'longestBlockMs')),
      show: (value) => `${decimals(1)(value)} ms`,
      target: { below: 10 },
    },
  ],

  charts: (of) => [
    {
      title: 'heartbeats: longest block of the event loop',
      bars: [OURS, ONE_TIMER].map((peer) => ({
        label: peer,
        values: of(peer, 'longestBlockMs'),
        show: (value) => `${decimals(1)(value)} ms`,
        isOurs: peer === OURS,
      })),
    },
  ],

  notes: (_of, size) => [
    `heartbeats: ${size.connections} connections, all written to at the same moment, and nothing but heartbeats every ` +
      `${size.intervalMs / 1000} s afterwards, ${size.beatsEach} of each. The monitor of the event loop looks every ms.`,
  ],
}
