// A server of streams in a process of its own, with the default settings of the built package.
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { createChannel, createMemoryLog, createSluice } from 'sluice'
import { answerCalls } from './calls.js'

const PADDING = 'x'.repeat(1000)
const BUSY_EVERY_MS = 200
const LISTENS = '0A'

const sluice = createSluice()
const ticks = createChannel({ log: createMemoryLog({ maxEvents: 10_000 }) })
const handlers = new Set()
/** The latest: a soak closes many. */
const closings = []
const reasons = {}
let opened = 0
let published = 0
let publishing = null

function publish() {
  published += 1
  ticks.publish(event(published))
}

const event = (n) => ({ data: { n, padding: PADDING } })

const kinds = {
  /** Nothing but heartbeats. */
  idle() {},

  async busy(sse) {
    for (let n = 1; sse.phase !== 'closed'; n += 1) {
      sse.trySend(event(n))
      await wait(BUSY_EVERY_MS)
    }
  },

  /** Always more than the client takes. */
  async flood(sse) {
    let n = 0
    for await (const permit of sse.demand()) {
      n += 1
      permit.send(event(n))
    }
  },

  /** What is published to all. */
  ticks: (sse) => ticks.subscribe(sse),
}

const server = createServer((req, res) => {
  const { searchParams } = new URL(req.url, 'http://localhost')
  const sse = sluice.open(req, res)
  // One that has reset the connection by now has no address any more.
  const handler = { from: req.socket.remoteAddress?.replace('::ffff:', '') }
  handlers.add(handler)
  opened += 1
  sse.closed.then(({ reason, at, eventsSent }) => {
    handlers.delete(handler)
    closings.push({ key: searchParams.get('key'), reason, at, eventsSent })
    if (closings.length > 1000) closings.shift()
    reasons[reason] = (reasons[reason] ?? 0) + 1
  })
  kinds[searchParams.get('kind')](sse)
})

answerCalls({
  /** On all addresses, as most servers do: over IPv6 too, where there is any. */
  async listen(port) {
    await new Promise((resolve, reject) => server.once('error', reject).listen(port, resolve))
    return server.address().port
  },

  /** Publishes one event every so often; 0: no more. */
  publishEvery(ms) {
    clearInterval(publishing)
    if (ms > 0) publishing = setInterval(publish, ms)
  },

  published: () => published,

  fillLog() {
    while (published < 10_000) publish()
  },

  /** What the process holds, after a collection: bytes, and what keeps the event loop busy. */
  async held() {
    for (let i = 0; i < 3; i += 1) {
      globalThis.gc()
      await wait(10)
    }
    const { heapUsed, external, rss } = process.memoryUsage()
    const connections = await new Promise((resolve) => server.getConnections((_, count) => resolve(count)))
    const resources = process.getActiveResourcesInfo().filter((name) => /TCP|Timeout|Immediate/.test(name))
    return { heapUsed, external, rss, connections, handlers: handlers.size, resources, opened }
  },

  closings: () => closings,

  /** How many closed for each reason. */
  reasons: () => reasons,

  /** What there is of the clients at an address: in the program, and in the kernel. */
  left(address) {
    const open = [...handlers].filter(({ from }) => from === address)
    return { handlers: open.length, kernel: kernelSockets(server.address().port, address) }
  },
})

/** The lines of the kernel's socket table that belong to a port of this machine: state and queues. */
function kernelSockets(port, address) {
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .filter((table) => existsSync(table))
    .flatMap((table) => readFileSync(table, 'utf8').trim().split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, remote, state]) => {
      const isOurs = Number.parseInt(local.split(':')[1], 16) === port && state !== LISTENS
      return isOurs && remote.split(':')[0].endsWith(hexOf(address))
    })
    .map(([, , remote, state, queues]) => `${remote} ${state} ${queues}`)
}

function hexOf(address) {
  return Buffer.from(address.split('.').map(Number)).reverse().toString('hex').toUpperCase()
}
