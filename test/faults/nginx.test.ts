import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { createChannel, createMemoryLog, createSluice } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { range } from '../support/channel.js'
import { connect } from '../support/client.js'
import { until } from '../support/until.js'
import { recordFault } from './faults.js'
import { READ_TIMEOUT_S, startNginx } from './nginx.js'
import { type Program, startProgram } from './process.js'

/** Three beats within nginx's timeout: one may be late. */
const HEARTBEAT_MS = 3000
const QUIET_MS = 2.5 * READ_TIMEOUT_S * 1000
const CLIENTS = 10

interface ClientState {
  last: number
  connections: number
  isConnected: boolean
  gaps: number
  faults: string[]
}

/** A channel behind nginx. The server under it can be stopped and started again. */
async function channelBehindNginx(sluice = createSluice({ heartbeat: { intervalMs: HEARTBEAT_MS } })) {
  const channel = createChannel({ log: createMemoryLog({ maxEvents: 10_000 }) })
  let server: Server
  const start = async (port: number) => {
    server = createServer((req, res) => {
      const sse = sluice.open(req, res)
      if (sse !== null) channel.subscribe(sse)
    }).listen(port, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  }
  const stop = async () => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  const port = await start(0)
  onTestFinished(stop)
  const nginx = await startNginx(port)
  return { channel, sluice, nginx, stop, start: () => start(port) }
}

async function statesOf(clients: Program): Promise<ClientState[]> {
  return clients.call<ClientState[]>('states')
}

async function untilStates(clients: Program, isSo: (state: ClientState) => boolean): Promise<ClientState[]> {
  const deadline = Date.now() + 15_000
  for (;;) {
    const states = await statesOf(clients)
    if (states.every(isSo)) return states
    if (Date.now() > deadline) throw new Error(`Waited 15 s: ${JSON.stringify(states)}`)
    await wait(20)
  }
}

describe('behind nginx', () => {
  it('each event arrives at once: the first before the second is sent', async () => {
    const { nginx, channel, sluice } = await channelBehindNginx()
    const client = await connect(nginx.url)
    expect(client.response.headers.server).toMatch(/nginx/)
    await until(() => sluice.stats().open === 1)
    const timesMs: number[] = []
    for (const n of range(1, 50)) {
      const sentAt = performance.now()
      await channel.publish({ data: n })
      await until(() => client.events.at(-1)?.data === String(n))
      timesMs.push(performance.now() - sentAt)
    }
    recordFault('nginx-buffering', {
      timesMs,
      reasons: [],
      left: 'each event arrives before the next is sent',
    })
  })

  it('a stream without events outlives the read timeout, which ends one without heartbeats', async () => {
    const { nginx, channel, sluice } = await channelBehindNginx()
    const silent = await channelBehindNginx(createSluice({ heartbeat: { format: 'none' } }))
    const [client, doomed] = [await connect(nginx.url), await connect(silent.nginx.url)]
    await until(() => sluice.stats().open === 1)
    await wait(QUIET_MS)
    expect(doomed.closed).toBe(true)
    expect(silent.sluice.stats().open).toBe(0)
    expect(client.closed).toBe(false)
    // Each may be a second late.
    expect(client.comments.length).toBeGreaterThanOrEqual(Math.floor(QUIET_MS / (HEARTBEAT_MS + 1000)))
    await channel.publish({ data: 'after all' })
    await until(() => client.events.at(-1)?.data === 'after all')
    recordFault('nginx-timeout', {
      timesMs: [],
      reasons: [],
      left: `the stream is open after ${QUIET_MS / 1000} s`,
    })
  }, 60_000)

  it.each([
    ['a reload of nginx', 'nginx-reload'],
    ['a restart of the server behind it', 'nginx-upstream'],
  ] as const)(
    '%s loses no event: each client comes back and gets what it missed',
    async (_, fault) => {
      const { nginx, channel, stop, start } = await channelBehindNginx()
      const clients = startProgram('clients')
      onTestFinished(() => clients.kill())
      await Promise.all(range(1, CLIENTS).map((n) => clients.call('open', `${n}`, nginx.url, true)))
      let n = 0
      const publishing = setInterval(() => {
        n += 1
        void channel.publish({ data: { n } })
      }, 10)
      onTestFinished(() => clearInterval(publishing))
      await untilStates(clients, ({ last }) => last > 50)

      const cutAt = performance.now()
      if (fault === 'nginx-reload') await nginx.reload()
      else {
        await stop()
        await wait(1000)
        await start()
      }
      await untilStates(clients, ({ connections }) => connections > 1)
      const backAt = n
      const states = await untilStates(clients, ({ last }) => last >= backAt)
      const timeMs = performance.now() - cutAt
      expect(states.flatMap(({ faults }) => faults)).toEqual([])
      expect(states.filter(({ gaps }) => gaps > 0)).toEqual([])
      recordFault(fault, { timesMs: [timeMs], reasons: [], left: 'every event arrived once, in order' })
    },
    60_000,
  )
})
