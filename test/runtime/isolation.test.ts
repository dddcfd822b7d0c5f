import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { createMemoryLog, type EventLog, type SSEHandler } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { turns } from '../support/fake-transport.js'
import {
  answerOf,
  fakeClient,
  overfill,
  stalledClient,
  supervise,
  superviseFakes,
  WIDE,
} from '../support/sluice.js'
import { until } from '../support/until.js'

const nonsense = () => {
  throw new Error('nonsense')
}

/** Takes process warnings, which are expected, from those who print them. */
function takeWarnings(): string[] {
  const taken: string[] = []
  const take = (warning: Error) => void taken.push(warning.message)
  process.on('warning', take)
  onTestFinished(() => void process.off('warning', take))
  return taken
}

describe('what throws on one stream disturbs no other:', () => {
  it('a logger, told once', async () => {
    const warnings = takeWarnings()
    const logger = { debug: nonsense, info: nonsense, warn: nonsense, error: nonsense }
    const { sluice, url } = await supervise({ logger, limits: { maxPerKey: 2 } })
    const clients = [await connect(url), await connect(url)]
    expect((await answerOf(url)).status).toBe(429)
    for (const client of clients) client.leave()
    await until(() => sluice.sessions().length === 0)
    await until(() => warnings.length > 0)
    expect(warnings).toEqual(['Error: nonsense'])
  })

  it('listeners of every kind', async () => {
    takeWarnings()
    const { sluice, url, opened } = await supervise()
    const client = await connect(url)
    const other = await connect(url)
    for (const name of ['phase', 'blocked', 'closed', 'error'] as const) opened[0]?.on(name, nonsense)
    client.leave()
    await until(() => sluice.sessions().length === 1)
    opened[1]?.trySend({ data: 'on' })
    await other.until((events) => events.at(-1)?.data === 'on')
  })

  it('hooks of single requests', async () => {
    const { sluice, url, opened } = await supervise({
      key: ({ headers }) => (headers.bad === 'key' ? nonsense() : 'k'),
      sessionId: ({ headers }) => (headers.bad === 'session' ? nonsense() : undefined),
      authorize: ({ headers }) => (headers.bad === 'authorize' ? nonsense() : 'ann'),
    })
    const healthy = await connect(url)
    for (const bad of ['key', 'session', 'authorize']) {
      expect((await answerOf(url, { headers: { bad } })).status).toBe(500)
    }
    opened[0]?.trySend({ data: 'on' })
    await healthy.until((events) => events.at(-1)?.data === 'on')
    expect(sluice.stats()).toMatchObject({ open: 1, authorizing: 0, refused: { 'hook-failed': 3 } })
  })

  it('a log that cannot be measured refuses nobody, and leaves no entry', async () => {
    takeWarnings()
    const whole = createMemoryLog()
    let isBroken = false
    const log = new Proxy(whole, {
      get(target, name) {
        if (isBroken && name === 'bytesFrom') return nonsense
        const value = Reflect.get(target, name)
        return typeof value === 'function' ? value.bind(target) : value
      },
    }) as EventLog
    const { sluice, clock, open } = superviseFakes()
    const broken = open(fakeClient(), { log })
    await turns()
    isBroken = true
    clock.advance(1000)
    expect(open().sse).not.toBeNull()
    clock.advance(1000)
    expect(sluice.stats().open).toBe(2)
    expect(sluice.health().isReady).toBe(true)
    expect(sluice.sessions()).toHaveLength(2)
    broken.transport.lose()
    expect(sluice.sessions()).toHaveLength(1)
  })

  it('a transport that throws', async () => {
    const { sluice, open } = superviseFakes()
    const bad = fakeClient()
    bad.transport.throwing.set('write', new Error('EPIPE'))
    const [{ sse }, healthy] = [open(bad), open()]
    await turns()
    expect((await sse.closed).reason).toBe('transport-error')
    expect(healthy.sse.phase).toBe('flowing')
    expect(sluice.sessions()).toHaveLength(1)
  })
})

it('a dead socket and a client that does not read cost the others nothing', async () => {
  const { sluice, url, port, opened } = await supervise(WIDE)
  const healthy = await connect(url)
  await stalledClient(port)
  await until(() => opened.length === 2)
  const dead = await connect(url)
  await until(() => opened.length === 3)
  overfill(opened[1] as SSEHandler)
  dead.request.socket?.resetAndDestroy()
  for (let i = 0; i < 100; i += 1) opened[0]?.trySend({ data: `${i}` })
  await healthy.until((events) => events.at(-1)?.data === '99')
  expect(healthy.events).toHaveLength(101)
  await until(() => sluice.sessions().length === 2)
  await until(() => sluice.stats().blocked === 1)
})

it('a stream that is closed from inside a diagnostics subscriber leaves no entry', async () => {
  const { sluice, open } = superviseFakes({ sessionId: () => 's' })
  const closing = (message: unknown) => {
    if ((message as { stage?: string }).stage === 'established') void sluice.shutdown()
  }
  subscribe('sluice:connection:established', closing)
  onTestFinished(() => void unsubscribe('sluice:connection:established', closing))
  open()
  await turns(4)
  expect(sluice.sessions()).toEqual([])
})

it('10,000 streams whose heartbeats fall due in one slot are served by 128 in a turn, and none is left out', async () => {
  const { clock, open } = superviseFakes({
    limits: { maxConnections: 10_000 },
    heartbeat: { intervalMs: 15_000 },
  })
  const clients = Array.from({ length: 10_000 }, () => open())
  await turns(2)
  const written = () => clients.reduce((sum, { transport }) => sum + transport.chunks.length, 0)
  const before = written()
  clock.advance(16_000)
  const perTurn: number[] = []
  for (let last = before; last < before + 10_000 && perTurn.length < 1000; ) {
    await turns(1)
    const now = written()
    perTurn.push(now - last)
    last = now
  }
  expect(written() - before).toBe(10_000)
  expect(Math.max(...perTurn)).toBeLessThanOrEqual(2 * 128)
})

it('after 300 streams have come and gone in every way, nothing is left', async () => {
  const { sluice, clock, open } = superviseFakes({ lifetimeMs: 50_000, sweepMs: 5000 })
  const ends = [
    ({ transport }: ReturnType<typeof open>) => transport.lose(),
    ({ sse }: ReturnType<typeof open>) => void sse.close(),
    ({ sse }: ReturnType<typeof open>) => sse.abort(),
    ({ sse }: ReturnType<typeof open>) => void sse.sendError(new Error('x')),
    () => clock.advance(300),
    () => {},
  ]
  const clients: ReturnType<typeof open>[] = []
  for (let i = 0; i < 300; i += 1) {
    const client = open()
    clients.push(client)
    await turns(1)
    ends[i % ends.length]?.(client)
  }
  clock.advance(60_000)
  await turns(5)
  clock.advance(10_000)
  await turns(5)
  expect(sluice.sessions()).toEqual([])
  expect(sluice.stats()).toMatchObject({ open: 0, opened: 300, authorizing: 0, heldBytes: 0, waiters: 0 })
  const closed = Object.values(sluice.stats().closed).reduce((sum, count) => sum + count, 0)
  expect(closed).toBe(300)
  expect(clients.every(({ transport }) => !transport.isAttached)).toBe(true)
  // The sweep, which asks the kernel, and the wheel stand still once they see that there is nothing.
  await until(() => {
    clock.advance(5000)
    return clock.pending === 0
  })
})
