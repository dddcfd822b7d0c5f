// The server: a process of its own for each peer and round, driven by calls.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { cpuMicroseconds, forgetPeak, peakRss } from '../lib/operating-system.js'
import { answerCalls } from '../lib/processes.js'

const SCENARIOS = {
  connection: () => import('./connection.js'),
  stalled: () => import('./stalled.js'),
  heartbeats: () => import('./heartbeats.js'),
  idle: () => import('./idle.js'),
  churn: () => import('./churn.js'),
  'fan-out': () => import('./fan-out.js'),
}

const [scenario, peer, size] = process.argv.slice(2)
const { createPeer } = await SCENARIOS[scenario]()
const { handle, state, release, answers } = await createPeer(peer, JSON.parse(size))
const server = createServer(handle)

answerCalls({
  async listen() {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return server.address().port
  },

  cpuMicroseconds,

  /** Memory as it is. */
  memory: () => process.memoryUsage(),

  /** Memory when what can be freed is freed. Objects with finalisers need a turn between two collections. */
  async memoryAfterGc() {
    globalThis.gc()
    await nextTurn()
    globalThis.gc()
    return process.memoryUsage()
  },

  peakRss,
  forgetPeak,

  connections: () =>
    new Promise((resolve, reject) => {
      server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
    }),

  /** Open handles by kind. */
  handles() {
    const counts = {}
    for (const kind of process.getActiveResourcesInfo().sort()) counts[kind] = (counts[kind] ?? 0) + 1
    return counts
  },

  state: () => state(),

  release: () => release(),

  // What only this scenario answers, or answers in its own way.
  ...answers,
})
