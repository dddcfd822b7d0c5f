import { Agent, request } from 'node:http'
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { createSluice, type GuardedServer } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { answerOf, overfill, stalledClient, supervise, superviseFakes, WIDE } from '../support/sluice.js'
import { until } from '../support/until.js'

describe('streams that end and are not read', () => {
  it('are no way round maxPerKey: of one key no more of them wait than it may have open', async () => {
    const { sluice, port, url, opened } = await supervise({
      ...WIDE,
      key: ({ headers }) => headers.user as string,
      limits: { maxPerKey: 2, atMaxPerKey: 'close-oldest', maxConnections: 20 },
    })
    const head = 'GET / HTTP/1.1\r\nHost: localhost\r\nUser: mallory\r\n\r\n'
    for (let i = 0; i < 30; i += 1) {
      await stalledClient(port, head)
      await until(() => opened.length === i + 1)
      const sse = opened[i]
      if (sse) overfill(sse)
    }
    expect(opened).not.toContain(null)
    expect(sluice.sessions().length).toBeLessThanOrEqual(4)
    expect((await connect(url, { headers: { user: 'alice' } })).response.statusCode).toBe(200)
  })

  it('are no way round maxConnections: of one session one at most waits', async () => {
    const { sluice, port, opened } = await supervise({ ...WIDE, sessionId: () => 's' })
    for (let i = 0; i < 10; i += 1) {
      await stalledClient(port)
      await until(() => opened.length === i + 1)
      const sse = opened[i]
      if (sse) overfill(sse)
    }
    expect(opened).not.toContain(null)
    expect(sluice.sessions().length).toBeLessThanOrEqual(2)
  })
})

describe('pipelined requests', () => {
  it('take one place: a stream that would wait behind another answer is refused', async () => {
    const { sluice, port, opened } = await supervise()
    const { socket } = await stalledClient(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(100))
    // Node reads no more of them when enough answers wait.
    await until(() => (sluice.stats().refused.pipelined ?? 0) > 10)
    expect(sluice.stats().open).toBe(1)
    socket.destroy()
    // Node reads nothing from the connection any more, so only a write tells that it is gone.
    await until(() => opened[0]?.trySend({ data: 'x' }) === 'closed')
    expect(sluice.stats().open).toBe(0)
  })
})

describe('an OPTIONS request', () => {
  it('gets no stream: 204 and the methods', async () => {
    const { sluice, url, opened } = await supervise()
    const { status, headers } = await answerOf(url, { method: 'OPTIONS' })
    expect({ status, allow: headers.allow }).toEqual({ status: 204, allow: 'GET, HEAD, POST, OPTIONS' })
    expect(opened).toEqual([null])
    expect(sluice.stats()).toMatchObject({ open: 0, opened: 0, refused: { 'no-stream': 1 } })
  })
})

describe('a stopping supervisor', () => {
  it('tells each client that it refuses that the connection ends, so that none asks in vain', async () => {
    const { sluice, url } = await supervise()
    await sluice.shutdown()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    onTestFinished(() => agent.destroy())
    const seen: unknown[] = []
    for (let i = 0; i < 20; i += 1) {
      const outcome = await new Promise((resolve) => {
        request(url, { agent }, (res) => {
          res.resume().on('end', () => resolve([res.statusCode, res.headers.connection]))
        })
          .on('error', resolve)
          .end()
      })
      seen.push(outcome)
    }
    expect(seen).toEqual(seen.map(() => [503, 'close']))
  })

  it('refuses, or ends, a stream that is being opened when a hook stops it', async () => {
    const { sluice, url } = await supervise({
      key: () => {
        void sluice.shutdown({ graceMs: 100 })
        return 'k'
      },
    })
    expect((await answerOf(url)).status).toBe(503)
    expect(sluice.sessions()).toEqual([])
  })

  it('waits no longer than the grace for a client of HTTP/2 that does not end its request', async () => {
    const sluice = createSluice()
    const server = createHttp2Server((req, res) => void sluice.open(req, res))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    session.on('error', () => {})
    onTestFinished(() => session.destroy())
    const stream = session.request({ ':path': '/', ':method': 'POST' }, { endStream: false })
    stream.on('error', () => {}).resume()
    stream.write('a body without an end')
    await new Promise((resolve) => stream.once('response', resolve))
    const isClosed = new Promise((resolve) => server.close(resolve))
    expect(await sluice.shutdown({ graceMs: 300 })).toMatchObject({ streams: 1 })
    await isClosed
  })

  it('closes the idle sessions of an HTTP/2 server that it was given', async () => {
    const sluice = createSluice()
    const server = createHttp2Server((req, res) => void sluice.open(req, res))
    await sluice.attach(server as GuardedServer)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    onTestFinished(() => session.destroy())
    const stream = session.request({ ':path': '/' })
    await new Promise((resolve) => stream.once('response', resolve))
    stream.close()
    await until(() => sluice.sessions().length === 0)
    const isClosed = new Promise((resolve) => server.close(resolve))
    await sluice.shutdown({ graceMs: 300 })
    await isClosed
  })
})

it('loop lag is 0 when nothing waits', () => {
  const { sluice, clock, open } = superviseFakes()
  const { sse } = open()
  clock.advance(1000)
  sse.abort()
  clock.advance(2000)
  expect(sluice.stats().loopLagMs).toBe(0)
})
