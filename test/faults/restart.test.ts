import { setTimeout as wait } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { recordFault } from './faults.js'
import { type Program, startProgram } from './process.js'

const CLIENTS = 2000
const LIMIT_MS = 40_000

interface Summary {
  connected: number
  connections: number
  gaps: number
  /** Clients that have got an event since they came, or since they were told of a gap. */
  flowing: number
  faults: string[]
}

async function untilSummary(clients: Program, isSo: (summary: Summary) => boolean): Promise<Summary> {
  const deadline = Date.now() + LIMIT_MS
  for (;;) {
    const summary = await clients.call<Summary>('summary')
    if (isSo(summary)) return summary
    if (Date.now() > deadline) throw new Error(`After ${LIMIT_MS / 1000} s: ${JSON.stringify(summary)}`)
    await wait(50)
  }
}

async function startServer(port: number): Promise<{ server: Program; port: number }> {
  const server = startProgram('server')
  onTestFinished(() => server.kill())
  const listening = await server.call<number>('listen', port)
  await server.call('publishEvery', 500)
  return { server, port: listening }
}

it('2,000 clients come back after the server was killed, are told of what is lost, and go on', async () => {
  const first = await startServer(0)
  const clients = startProgram('clients')
  onTestFinished(() => clients.kill())
  await clients.call('openMany', CLIENTS, `http://127.0.0.1:${first.port}/?kind=ticks`)
  await untilSummary(clients, ({ connected, flowing }) => connected === CLIENTS && flowing === CLIENTS)

  await first.server.kill()
  await untilSummary(clients, ({ connected }) => connected === 0)
  const second = await startServer(first.port)
  const backAt = performance.now()
  const all = await untilSummary(clients, ({ connected }) => connected === CLIENTS)
  const timeMs = performance.now() - backAt
  expect(all.connections).toBeGreaterThanOrEqual(2 * CLIENTS)
  const flowing = await untilSummary(clients, ({ gaps, flowing }) => gaps >= CLIENTS && flowing === CLIENTS)
  expect(flowing).toMatchObject({ gaps: CLIENTS, faults: [] })
  const { handlers } = await second.server.call<{ handlers: number }>('left', '127.0.0.1')
  expect(handlers).toBe(CLIENTS)
  recordFault('restart', { timesMs: [timeMs], reasons: [], left: 'all are back; each is told of one gap' })
}, 120_000)
