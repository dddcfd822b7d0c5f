import { once } from 'node:events'
import { Agent } from 'node:http'
import { connect as connectSocket } from 'node:net'
import { createMemoryLog, createSluice, type SSEHandler } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { track, turns } from '../support/fake-transport.js'
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

const retryOf = (text: string) => Number([...text.matchAll(/^retry: (\d+)$/gm)].at(-1)?.[1])

describe('shutdown', () => {
  it('ends each stream: what was accepted, then when to come back, then the end', async () => {
    const log = createMemoryLog()
    const { sluice, url, opened } = await supervise({}, ({ url: path }) => (path === '/log' ? { log } : {}))
    const clients = [await connect(url), await connect(`${url}log`)]
    for (const sse of opened) for (let i = 0; i < 10; i += 1) sse?.trySend({ data: `${i}` })
    const report = await sluice.shutdown({ reconnectWithinMs: 50 })
    await until(() => clients.every(({ ended }) => ended))
    for (const { events, text } of clients) {
      expect(events.slice(1).map(({ data }) => data)).toEqual(Array.from({ length: 10 }, (_, i) => `${i}`))
      expect(retryOf(text)).toBeGreaterThanOrEqual(1)
      expect(retryOf(text)).toBeLessThanOrEqual(50)
    }
    expect(report).toMatchObject({ streams: 2, reset: 0 })
    expect((await opened[0]?.closed)?.reason).toBe('shutdown')
    expect(sluice.sessions()).toEqual([])
  })

  it('refuses from then on: 503, told by health() at once', async () => {
    const { sluice, url } = await supervise()
    const stopped = sluice.shutdown()
    expect(sluice.health()).toMatchObject({ status: 'stopping', isReady: false })
    const { status, text, headers } = await answerOf(url)
    expect({ status, cause: JSON.parse(text).cause }).toEqual({ status: 503, cause: 'shutting-down' })
    expect(Number(headers['retry-after'])).toBeGreaterThan(0)
    expect(await stopped).toMatchObject({ streams: 0, reset: 0 })
  })

  it('spreads the clients: 500 streams are told to come back at different moments, and all end', async () => {
    const { sluice, url, server } = await supervise()
    const clients = await Promise.all(Array.from({ length: 500 }, () => connect(url)))
    const closed = once(server, 'close')
    const report = await sluice.shutdown({ reconnectWithinMs: 10_000 })
    server.close()
    await closed
    await until(() => clients.every(({ ended }) => ended))
    const delays = clients.map(({ text }) => retryOf(text))
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(1)
    expect(Math.max(...delays)).toBeLessThanOrEqual(10_000)
    const perSecond = Array.from(
      { length: 10 },
      (_, s) => delays.filter((ms) => Math.floor((ms - 1) / 1000) === s).length,
    )
    // 50 each on the average, with a deviation of 7.
    expect(Math.max(...perSecond)).toBeLessThan(100)
    expect(Math.min(...perSecond)).toBeGreaterThan(10)
    expect(report).toMatchObject({ streams: 500, reset: 0 })
  })

  it('closes at most 128 streams in a turn of the event loop', async () => {
    const { sluice, open } = superviseFakes()
    const streams = Array.from({ length: 500 }, () => open().sse)
    await turns()
    const closing = () => streams.filter(({ phase }) => phase !== 'flowing').length
    const stopped = sluice.shutdown()
    const perTurn: number[] = [closing()]
    while (closing() < 500) {
      const before = closing()
      await turns(1)
      perTurn.push(closing() - before)
    }
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(128)
    expect(await stopped).toMatchObject({ streams: 500 })
  })

  it('resets at graceMs what has not ended, not before and not later, whatever drainMs says', async () => {
    for (const drainMs of [100, 60_000]) {
      const { sluice, clock, open } = superviseFakes({ drainMs, writeStallMs: 600_000 })
      const slow = fakeClient()
      slow.transport.takesAtOnce = false
      const { sse } = open(slow)
      const healthy = open()
      await turns()
      sse.trySend({ data: 'x' })
      const stopped = track(sluice.shutdown({ graceMs: 10_000 }))
      await turns(3)
      expect(healthy.sse.phase).toBe('closed')
      clock.advance(9_999)
      await turns()
      expect({ drainMs, phase: sse.phase, stopped: stopped.state }).toEqual({
        drainMs,
        phase: 'draining',
        stopped: 'pending',
      })
      clock.advance(1)
      await turns()
      expect(slow.transport.calls).toContain('reset')
      expect(stopped).toMatchObject({
        state: 'fulfilled',
        value: { streams: 2, reset: 1, durationMs: 10_000 },
      })
    }
  })

  it('gives a slow client its time: what it takes within graceMs is no reset', async () => {
    const { sluice, clock, open } = superviseFakes({ drainMs: 100 })
    const slow = fakeClient()
    slow.transport.takesAtOnce = false
    const { sse } = open(slow)
    await turns()
    sse.trySend({ data: 'the last one' })
    const stopped = sluice.shutdown({ graceMs: 10_000 })
    for (let i = 0; i < 8; i += 1) {
      clock.advance(1000)
      slow.transport.take()
      slow.transport.finish()
      await turns()
    }
    expect(await stopped).toMatchObject({ streams: 1, reset: 0 })
    expect(slow.transport.text).toContain('data: the last one')
    expect((await sse.closed).reason).toBe('shutdown')
  })

  it('resets a client that reads nothing, over a real socket, and the server closes', async () => {
    const { sluice, port, server, opened } = await supervise(WIDE)
    const stalled = await stalledClient(port)
    await until(() => opened.length === 1)
    overfill(opened[0] as SSEHandler)
    await until(() => opened[0]?.phase === 'blocked')
    const closed = once(server, 'close')
    const startedAt = performance.now()
    const report = await sluice.shutdown({ graceMs: 200 })
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(199)
    expect(report).toMatchObject({ streams: 1, reset: 1 })
    server.close()
    await closed
    stalled.socket.resume()
    await until(() => stalled.closed)
  })

  it('with graceMs 0 is over at once, whatever the clients do', async () => {
    const { sluice, port, opened } = await supervise(WIDE)
    await stalledClient(port)
    await until(() => opened.length === 1)
    overfill(opened[0] as SSEHandler)
    await until(() => opened[0]?.phase === 'blocked')
    expect(await sluice.shutdown({ graceMs: 0 })).toMatchObject({ streams: 1, reset: 1 })
    expect(sluice.sessions()).toEqual([])
  })

  it('called twice does the same once, and resolves alike', async () => {
    const { sluice, url } = await supervise()
    const client = await connect(url)
    const [first, second] = await Promise.all([sluice.shutdown(), sluice.shutdown({ graceMs: 0 })])
    expect(second).toEqual(first)
    expect(await sluice.shutdown()).toEqual(first)
    await until(() => client.ended)
    expect(client.text.match(/^retry:/gm)).toHaveLength(2)
  })

  it.each([
    { graceMs: -1 },
    { graceMs: 1.5 },
    { graceMs: Infinity },
    { reconnectWithinMs: 0 },
    { nonsense: 1 },
    null,
  ])('rejects options that are none, and goes on: %j', async (options) => {
    const { sluice, open } = superviseFakes()
    const { sse } = open()
    await expect(sluice.shutdown(options as never)).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_OPTION' })
    expect({ phase: sse.phase, status: sluice.health().status }).toEqual({ phase: 'flowing', status: 'ok' })
    expect(open().sse).not.toBeNull()
  })

  it('leaves a stream the reason it was closing for', async () => {
    const { sluice, open, clock } = superviseFakes()
    const slow = fakeClient()
    slow.transport.takesAtOnce = false
    const { sse } = open(slow)
    await turns()
    void sse.close({ reason: 'completed' })
    const stopped = sluice.shutdown({ graceMs: 1000 })
    await turns()
    clock.advance(1000)
    expect(await stopped).toMatchObject({ streams: 1 })
    expect((await sse.closed).reason).toBe('completed')
  })
})

describe('server.close()', () => {
  it.each(['before', 'after'])(
    'called %s shutdown returns, with keep-alive connections of clients and without',
    async (order) => {
      const { sluice, url, server } = await supervise()
      const agent = new Agent({ keepAlive: true })
      onTestFinished(() => agent.destroy())
      const clients = await Promise.all([connect(url, { agent }), connect(url, { agent }), connect(url)])
      const startedAt = performance.now()
      const closed = once(server, 'close')
      if (order === 'before') server.close()
      await sluice.shutdown()
      if (order === 'after') server.close()
      await closed
      // Node would keep the connections for 5 s.
      expect(performance.now() - startedAt).toBeLessThan(3000)
      await until(() => clients.every(({ ended }) => ended))
    },
  )

  it('returns though requests wait for authorize: they are refused at once, and their signal aborts', async () => {
    const signals: AbortSignal[] = []
    const { sluice, port, server } = await supervise({
      authorize: (_, { signal }) => {
        signals.push(signal)
        return new Promise<never>(() => {})
      },
    })
    const socket = connectSocket(port, '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    let text = ''
    socket.on('data', (part) => {
      text += String(part)
    })
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await until(() => signals.length === 1)
    const startedAt = performance.now()
    const closed = once(server, 'close')
    server.close()
    await sluice.shutdown()
    await closed
    expect(performance.now() - startedAt).toBeLessThan(3000)
    await until(() => text.includes('shutting-down'))
    expect(text).toContain('HTTP/1.1 503')
    expect(signals[0]?.aborted).toBe(true)
    expect(sluice.stats().authorizing).toBe(0)
  })
})

it('after a shutdown there is no timer, no stream, and no listener on the sockets', async () => {
  const { sluice, clock, open } = superviseFakes({ sweepMs: 1000 })
  const streams = Array.from({ length: 50 }, () => open())
  await turns()
  await sluice.shutdown()
  expect(sluice.sessions()).toEqual([])
  expect(clock.pending).toBe(0)
  expect(streams.every(({ transport }) => !transport.isAttached)).toBe(true)
  expect(streams.every(({ calls }) => calls.join() === 'hangUp')).toBe(true)
})

it('a shutdown ends the streams of its own supervisor only', async () => {
  const [one, other] = [createSluice(), createSluice()]
  const mine = fakeClient()
  const theirs = fakeClient()
  one.admit(mine.exchange, {} as never)
  const sse = other.admit(theirs.exchange, {} as never)
  await one.shutdown()
  expect(sse?.phase).toBe('flowing')
  await other.shutdown()
})
