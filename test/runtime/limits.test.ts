import { Agent, type IncomingMessage } from 'node:http'
import { createMemoryLog } from 'sluice'
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

const problem = (cause: string, status: number) => ({
  type: 'about:blank',
  title: expect.any(String),
  detail: expect.any(String),
  status,
  cause,
})

const as = (user: string) => ({ headers: { user } })

describe('maxConnections', () => {
  it('refuses one more with 503, until one has left', async () => {
    const { sluice, url, opened } = await supervise({ limits: { maxConnections: 2 } })
    const first = await connect(url)
    await connect(url)
    const { status, headers, text } = await answerOf(url)
    expect({ status, body: JSON.parse(text) }).toEqual({ status: 503, body: problem('max-connections', 503) })
    expect(headers['content-type']).toBe('application/problem+json')
    expect(opened[2]).toBeNull()
    expect(sluice.health()).toMatchObject({ status: 'overloaded', isReady: false, open: 2 })
    first.leave()
    await until(() => sluice.sessions().length === 1)
    expect((await connect(url)).response.statusCode).toBe(200)
  })

  it('counts those that are being authorized', async () => {
    let allow = () => {}
    const allowed = new Promise<boolean>((resolve) => {
      allow = () => resolve(true)
    })
    const { sluice, url } = await supervise({ limits: { maxConnections: 2 }, authorize: () => allowed })
    const clients = [connect(url), connect(url)]
    await until(() => sluice.stats().authorizing === 2)
    expect((await answerOf(url)).status).toBe(503)
    expect(sluice.health().isReady).toBe(false)
    allow()
    await Promise.all(clients)
    expect(sluice.stats()).toMatchObject({ authorizing: 0, open: 2, refused: { 'max-connections': 1 } })
  })

  it('is not used up by those that were refused, whatever for', async () => {
    const { sluice, url } = await supervise({
      limits: { maxConnections: 1 },
      authorize: ({ headers }) => headers.user as string,
    })
    for (let i = 0; i < 20; i += 1) expect((await answerOf(url)).status).toBe(401)
    expect((await answerOf(url, { method: 'HEAD', ...as('a') })).status).toBe(200)
    expect((await answerOf(url, { headers: { accept: 'text/html', user: 'a' } })).status).toBe(406)
    expect((await connect(url, as('a'))).response.statusCode).toBe(200)
    expect(sluice.stats()).toMatchObject({ open: 1, authorizing: 0, opened: 1 })
    expect(sluice.stats().refused).toEqual({ unauthenticated: 20, 'no-stream': 2 })
  })
})

describe('a client that is back at the limit', () => {
  const session = (name: string) => ({ headers: { session: name } })
  const bySession = ({ headers }: IncomingMessage) => headers.session as string | undefined

  it('takes its own session over: it takes the place of nobody', async () => {
    const { sluice, url } = await supervise({ limits: { maxConnections: 2 }, sessionId: bySession })
    const [old] = [await connect(url, session('a')), await connect(url, session('b'))]
    expect((await connect(url, session('a'))).response.statusCode).toBe(200)
    await until(() => old?.ended)
    expect((await answerOf(url, session('c'))).status).toBe(503)
    expect(sluice.sessions()).toHaveLength(2)
  })

  it('is one at a time: the same session asked for 20 times at once is no way round the limit', async () => {
    let isHeld = false
    const { sluice, url } = await supervise({
      limits: { maxConnections: 2 },
      sessionId: bySession,
      authorize: () => (isHeld ? new Promise<true>(() => {}) : true),
    })
    await connect(url, session('a'))
    await connect(url, session('b'))
    isHeld = true
    const answers = Array.from({ length: 20 }, () => answerOf(url, session('a')))
    for (const answer of answers) answer.catch(() => {})
    const refused = Promise.all(answers.slice(1).map((answer) => Promise.race([answer, answers[0]])))
    await until(() => sluice.stats().authorizing > 0)
    await until(() => (sluice.stats().refused['max-connections'] ?? 0) + sluice.stats().authorizing === 20)
    expect(sluice.stats().authorizing).toBeLessThanOrEqual(2)
    await sluice.shutdown()
    await refused
  })

  it('is no way round the limit for one that never reads, either', async () => {
    const { sluice, port, opened } = await supervise({
      limits: { maxConnections: 2 },
      sessionId: bySession,
      ...WIDE,
    })
    for (let i = 0; i < 10; i += 1) {
      await stalledClient(port, 'GET / HTTP/1.1\r\nHost: localhost\r\nSession: a\r\n\r\n')
      await until(() => opened.length === i + 1)
      const sse = opened.at(-1)
      if (sse) overfill(sse)
    }
    expect(sluice.sessions().length).toBeLessThanOrEqual(4)
  })
})

describe('Retry-After', () => {
  it('is retryAfterMs to twice that, and not the same for all', async () => {
    const { url } = await supervise({ limits: { maxConnections: 1, retryAfterMs: 100_000 } })
    await connect(url)
    const answers = await Promise.all(Array.from({ length: 20 }, () => answerOf(url)))
    const delays = answers.map(({ headers }) => Number(headers['retry-after']))
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(100)
    expect(Math.max(...delays)).toBeLessThanOrEqual(200)
    expect(new Set(delays).size).toBeGreaterThan(1)
  })
})

describe('maxPerKey', () => {
  const byUser = {
    limits: { maxPerKey: 2 },
    authorize: ({ headers }: IncomingMessage) => headers.user as string,
  }

  it('counts by principal: one more gets 429, another principal gets a stream', async () => {
    const { sluice, url } = await supervise(byUser)
    await connect(url, as('ann'))
    await connect(url, as('ann'))
    const { status, headers, text } = await answerOf(url, as('ann'))
    expect({ status, body: JSON.parse(text) }).toEqual({ status: 429, body: problem('max-per-key', 429) })
    expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(5)
    expect((await connect(url, as('bob'))).response.statusCode).toBe(200)
    expect(sluice.sessions().map(({ key }) => key)).toEqual(['ann', 'ann', 'bob'])
  })

  it('counts by address when there is no principal', async () => {
    const { sluice, url } = await supervise({ limits: { maxPerKey: 1 } })
    await connect(url)
    expect((await answerOf(url)).status).toBe(429)
    expect(sluice.sessions()[0]).toMatchObject({ key: '127.0.0.1', address: '127.0.0.1', principal: null })
  })

  it('counts by what key says', async () => {
    const { sluice, url } = await supervise({
      limits: { maxPerKey: 1 },
      key: ({ headers }) => `tenant ${headers.user}`,
    })
    await connect(url, as('a'))
    expect((await answerOf(url, as('a'))).status).toBe(429)
    await connect(url, as('b'))
    expect(sluice.sessions().map(({ key }) => key)).toEqual(['tenant a', 'tenant b'])
  })

  it('has room again when one of the key has left', async () => {
    const { sluice, url } = await supervise({ limits: { maxPerKey: 1 } })
    for (let i = 0; i < 5; i += 1) {
      const client = await connect(url)
      expect(client.response.statusCode).toBe(200)
      client.leave()
      await until(() => sluice.sessions().length === 0)
    }
  })

  it('with close-oldest ends the oldest of the key, as replaced, and no other', async () => {
    const { sluice, url, opened } = await supervise({
      ...byUser,
      limits: { maxPerKey: 2, atMaxPerKey: 'close-oldest' },
    })
    const oldest = await connect(url, as('ann'))
    const bob = await connect(url, as('bob'))
    const second = await connect(url, as('ann'))
    const third = await connect(url, as('ann'))
    await until(() => oldest.ended)
    expect((await opened[0]?.closed)?.reason).toBe('replaced')
    expect([bob, second, third].map(({ closed }) => closed)).toEqual([false, false, false])
    expect(sluice.sessions().map(({ key }) => key)).toEqual(['bob', 'ann', 'ann'])
  })

  it('with close-oldest is held in a storm of 100 streams of one key', async () => {
    const { sluice, url } = await supervise({ limits: { maxPerKey: 3, atMaxPerKey: 'close-oldest' } })
    const clients = await Promise.all(Array.from({ length: 100 }, () => connect(url)))
    await until(() => clients.filter(({ ended }) => !ended).length === 3)
    await until(() => sluice.sessions().length === 3)
    expect(sluice.stats().closed.replaced).toBe(97)
  })

  it('does not count the stream that the new one replaces', async () => {
    const { url } = await supervise({ limits: { maxPerKey: 1 }, sessionId: () => 'mine' })
    const old = await connect(url)
    expect((await connect(url)).response.statusCode).toBe(200)
    await until(() => old.ended)
  })
})

describe('maxBytes', () => {
  it('counts what is queued for clients that do not read', async () => {
    const { sluice, url, port, opened } = await supervise({ limits: { maxBytes: 3_000_000 }, ...WIDE })
    const client = await stalledClient(port)
    await until(() => opened.length === 1)
    overfill(opened[0] as never)
    await until(() => sluice.stats().heldBytes > 3_000_000)
    const { status, text } = await answerOf(url)
    expect({ status, body: JSON.parse(text) }).toEqual({ status: 503, body: problem('max-bytes', 503) })
    expect(sluice.health()).toMatchObject({ status: 'overloaded', maxBytes: 3_000_000 })
    client.socket.destroy()
    await until(() => sluice.health().isReady)
    expect((await connect(url)).response.statusCode).toBe(200)
  })

  it('counts a log once, whatever the number of streams that read it, and only while one does', async () => {
    const { sluice, open, clock } = superviseFakes({ limits: { maxBytes: 10_000 } })
    const log = createMemoryLog()
    for (let i = 0; i < 8; i += 1) log.append(`data: ${'x'.repeat(1000)}\n\n`)
    const streams = [open(fakeClient(), { log }), open(fakeClient(), { log }), open(fakeClient(), { log })]
    clock.advance(250)
    const { heldBytes } = sluice.stats()
    expect(heldBytes).toBeGreaterThan(8000)
    expect(heldBytes).toBeLessThan(10_000)
    log.append(`data: ${'x'.repeat(2000)}\n\n`)
    clock.advance(250)
    expect(open().sse).toBeNull()
    for (const { transport } of streams) transport.lose()
    clock.advance(250)
    expect(sluice.stats().heldBytes).toBe(0)
    expect(open().sse).not.toBeNull()
  })
})

describe('a refusal', () => {
  it('leaves a keep-alive connection usable, for a POST whose body nobody reads, too', async () => {
    const { sluice, url } = await supervise({
      limits: { maxConnections: 1 },
      authorize: ({ headers }) => headers.user === 'a',
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    onTestFinished(() => agent.destroy())
    let ports = new Set<unknown>()
    for (let i = 0; i < 10; i += 1) {
      const body = 'x'.repeat(i % 2 === 0 ? 0 : 500_000)
      const { status } = await answerOf(url, { agent, method: 'POST', body })
      expect(status).toBe(401)
      ports = new Set([
        ...ports,
        ...Object.values(agent.freeSockets).flatMap((all) => all?.map((s) => s.localPort)),
      ])
    }
    expect(ports.size).toBe(1)
    const client = await connect(url, { agent, ...as('a') })
    expect(client.response.statusCode).toBe(200)
    expect(sluice.stats().open).toBe(1)
  })

  it('leaves no listener on the connection, of pipelined requests either', async () => {
    const { server, port } = await supervise({ authorize: () => false })
    const counts: number[] = []
    server.on('request', (req) => counts.push(req.socket.listenerCount('close')))
    const client = await stalledClient(port, '')
    client.socket.resume()
    for (let i = 0; i < 10; i += 1) {
      client.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(10))
      await until(() => counts.length === (i + 1) * 10)
      await turns()
    }
    // The first of each ten comes when all those before it are answered.
    const atRest = counts.filter((_, i) => i % 10 === 0)
    expect(new Set(atRest).size).toBe(1)
  })
})
