import type { IncomingMessage } from 'node:http'
import { createMemoryLog, createSluice } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { serve } from '../support/server.js'
import { answerOf, stalledClient, supervise } from '../support/sluice.js'
import { until } from '../support/until.js'

interface Asked {
  request: IncomingMessage
  signal: AbortSignal
  answer: (value: unknown) => void
  fail: (error: unknown) => void
}

/** A hook that is answered by the test. */
function heldAuthorize() {
  const asked: Asked[] = []
  const authorize = (request: IncomingMessage, { signal }: { signal: AbortSignal }) =>
    new Promise<never>((resolve, reject) => {
      asked.push({ request, signal, answer: resolve as (value: unknown) => void, fail: reject })
    })
  return { asked, authorize }
}

it('is what makes a sluice one that waits', () => {
  expect(createSluice({ authorize: () => true }).waits).toBe(true)
  expect(createSluice().waits).toBe(false)
})

describe.each([
  ['at once', (value: unknown) => value],
  ['later', async (value: unknown) => new Promise((resolve) => setImmediate(resolve, value))],
])('authorize that answers %s', (_, give) => {
  it.each([
    ['ann', 'ann'],
    [true, null],
  ])('with %j admits, and names the principal %j', async (value, principal) => {
    const { sluice, url } = await supervise({ authorize: () => give(value) as true })
    const client = await connect(url)
    expect(client.response.statusCode).toBe(200)
    expect(sluice.sessions()).toMatchObject([{ principal }])
    expect(sluice.stats().authorizing).toBe(0)
  })

  it.each([
    [undefined, 401],
    [null, 401],
    [false, 401],
    [401, 401],
    ['', 401],
    [0, 401],
    [1, 401],
    [200, 401],
    [{}, 401],
    [403, 403],
  ])('with %j refuses: %d', async (value, expected) => {
    const { sluice, url, opened } = await supervise({ authorize: () => give(value) as true })
    const { status, text, headers } = await answerOf(url)
    expect(status).toBe(expected)
    expect(JSON.parse(text)).toMatchObject({
      status,
      cause: status === 401 ? 'unauthenticated' : 'forbidden',
    })
    expect('www-authenticate' in headers).toBe(status === 401)
    expect('retry-after' in headers).toBe(false)
    expect(opened).toEqual([null])
    expect(sluice.stats()).toMatchObject({ open: 0, authorizing: 0, opened: 0 })
  })
})

describe('authorize that fails', () => {
  it.each([
    [
      'throws',
      () => {
        throw new Error('secret of the database')
      },
    ],
    ['rejects', () => Promise.reject(new Error('secret of the database'))],
  ])('%s: 500 without detail, and the logger is told', async (_, authorize) => {
    const errors: { err?: unknown }[] = []
    const tell = (fields: object) => void ('err' in fields && errors.push(fields))
    const logger = { debug: tell, info: tell, warn: tell, error: tell }
    const { sluice, url } = await supervise({ authorize, logger })
    const { status, text } = await answerOf(url)
    expect(status).toBe(500)
    expect(text).not.toContain('secret')
    expect(JSON.parse(text).cause).toBe('hook-failed')
    expect(errors).toHaveLength(1)
    expect(sluice.stats()).toMatchObject({ authorizing: 0, refused: { 'hook-failed': 1 } })
  })
})

describe('authorize that never answers', () => {
  it('is given up after authorizeTimeoutMs: 503, its signal aborted, a late answer ignored', async () => {
    const { asked, authorize } = heldAuthorize()
    const clock = new ManualClock()
    const { sluice, url } = await supervise({ authorize, authorizeTimeoutMs: 3000, clock, sweepMs: Infinity })
    const answer = answerOf(url)
    await until(() => asked.length === 1)
    clock.advance(2999)
    expect(asked[0]?.signal.aborted).toBe(false)
    clock.advance(1)
    const { status, text, headers } = await answer
    expect({ status, cause: JSON.parse(text).cause }).toEqual({ status: 503, cause: 'authorize-timeout' })
    expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(5)
    expect(asked[0]?.signal.aborted).toBe(true)
    asked[0]?.answer(true)
    asked[0]?.fail(new Error('too late'))
    expect(sluice.stats()).toMatchObject({ open: 0, authorizing: 0 })
    expect(clock.pending).toBe(0)
  })

  it('may reject after its time without ending the process', async () => {
    const { asked, authorize } = heldAuthorize()
    const { sluice, url } = await supervise({ authorize, authorizeTimeoutMs: 1 })
    expect((await answerOf(url)).status).toBe(503)
    asked[0]?.fail(new Error('aborted'))
    expect(sluice.stats().refused).toEqual({ 'authorize-timeout': 1 })
  })
})

describe('while authorize decides', () => {
  it('a client that leaves aborts its signal, is counted, and leaves nothing', async () => {
    const { asked, authorize } = heldAuthorize()
    const clock = new ManualClock()
    const { sluice, port, opened } = await supervise({ authorize, clock, sweepMs: Infinity })
    const client = await stalledClient(port)
    await until(() => asked.length === 1)
    client.socket.destroy()
    await until(() => opened.length === 1)
    expect(asked[0]?.signal.aborted).toBe(true)
    asked[0]?.answer('ann')
    await until(() => sluice.stats().authorizing === 0)
    expect(sluice.sessions()).toEqual([])
    expect(sluice.stats().refused).toEqual({ 'client-left': 1 })
    expect(asked[0]?.request.socket.listenerCount('close')).toBeLessThan(10)
    expect(clock.pending).toBe(0)
  })

  it('the first of 20 pipelined requests is asked for, the others are refused: no warning, and none is left when their client leaves', async () => {
    const warnings: Error[] = []
    const take = (warning: Error) => void warnings.push(warning)
    process.on('warning', take)
    const { asked, authorize } = heldAuthorize()
    const { sluice, port } = await supervise({ authorize })
    const client = await stalledClient(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(20))
    await until(() => sluice.stats().refused.pipelined === 19)
    expect(asked).toHaveLength(1)
    client.socket.destroy()
    await until(() => sluice.stats().authorizing === 0)
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', take)
    expect(warnings.map(String)).toEqual([])
    expect(asked.every(({ signal }) => signal.aborted)).toBe(true)
  })

  it('a shutdown begins: 503, and no stream', async () => {
    const { asked, authorize } = heldAuthorize()
    const { sluice, url } = await supervise({ authorize })
    const answer = answerOf(url)
    await until(() => asked.length === 1)
    await sluice.shutdown()
    asked[0]?.answer(true)
    const { status, text } = await answer
    expect({ status, cause: JSON.parse(text).cause }).toEqual({ status: 503, cause: 'shutting-down' })
    expect(sluice.sessions()).toEqual([])
  })

  it('a limit is reached: the limit holds', async () => {
    const { asked, authorize } = heldAuthorize()
    const { sluice, url } = await supervise({ authorize, limits: { maxPerKey: 1 } })
    const answers = [connect(url), connect(url)]
    await until(() => asked.length === 2)
    for (const { answer } of asked) answer('ann')
    const statuses = (await Promise.all(answers)).map(({ response }) => response.statusCode)
    expect(statuses.sort()).toEqual([200, 429])
    expect(sluice.sessions()).toHaveLength(1)
  })

  it('the session of the same client is opened elsewhere: the later answer replaces', async () => {
    const { asked, authorize } = heldAuthorize()
    const { sluice, url } = await supervise({ authorize, sessionId: () => 's' })
    const [first, second] = [connect(url), connect(url)]
    await until(() => asked.length === 2)
    asked[1]?.answer('ann')
    const later = asked[1]?.request.socket.remotePort
    await until(() => sluice.sessions().length === 1)
    asked[0]?.answer('ann')
    const clients = await Promise.all([first, second])
    const ended = clients.find((client) => client.response.socket.localPort === later)
    await until(() => ended?.ended)
    expect(sluice.sessions()).toHaveLength(1)
  })

  it('somebody else starts the response: ERR_SSE_HEADERS_SENT, and the response is left alone', async () => {
    const { asked, authorize } = heldAuthorize()
    const sluice = createSluice({ authorize })
    const errors: unknown[] = []
    const { url } = await serve(async (req, res) => {
      const opening = sluice.open(req, res)
      opening.catch((error) => void errors.push(error))
      res.writeHead(200, { 'Content-Type': 'text/plain' })
      res.write('mine, ')
      await opening.catch(() => {})
      res.end('all of it')
    })
    const answer = answerOf(url)
    await until(() => asked.length === 1)
    asked[0]?.answer(true)
    expect((await answer).text).toBe('mine, all of it')
    expect(errors).toMatchObject([{ code: 'ERR_SSE_HEADERS_SENT' }])
    expect(sluice.sessions()).toEqual([])
  })
})

it('misuse rejects when authorize is set, and never throws', async () => {
  const sluice = createSluice({ authorize: () => 'ann' })
  const errors: unknown[] = []
  const { url } = await serve((req, res) => {
    const isSent = req.url === '/sent'
    if (isSent) res.writeHead(200).write('x')
    sluice
      .open(req, res, isSent ? {} : { log: 'none' as never })
      .catch((error) => void errors.push(error))
      .finally(() => res.end())
  })
  await answerOf(`${url}sent`)
  await answerOf(`${url}log`)
  expect(errors).toMatchObject([{ code: 'ERR_SSE_HEADERS_SENT' }, { code: 'ERR_SSE_INVALID_OPTION' }])
  expect(sluice.stats()).toMatchObject({ open: 0, authorizing: 0 })
})

it("a principal's history is not read by another one, nor by nobody: 403", async () => {
  const log = createMemoryLog()
  const { sluice, url } = await supervise(
    { authorize: ({ headers }) => (headers.user === undefined ? true : (headers.user as string)) },
    () => ({ log }),
  )
  const ann = await connect(url, { headers: { user: 'ann' } })
  ann.leave()
  await until(() => sluice.sessions().length === 0)
  log.append('data: for ann\n\n')
  for (const headers of [{ user: 'bob' }, {}]) {
    const { status, text } = await answerOf(url, {
      headers: { ...headers, 'last-event-id': `${log.epoch}-0` },
    })
    expect(status).toBe(403)
    expect(text).not.toContain('for ann')
  }
  const again = await connect(url, { headers: { user: 'ann', 'last-event-id': `${log.epoch}-0` } })
  await again.until((events) => events.some(({ data }) => data === 'for ann'))
})

it('a request that is refused does not make a history its own', async () => {
  const log = createMemoryLog()
  const { url } = await supervise(
    { authorize: ({ headers }) => headers.user as string, limits: { maxPerKey: 1 } },
    ({ url: path }) => (path === '/log' ? { log } : {}),
  )
  await connect(url, { headers: { user: 'mallory' } })
  expect((await answerOf(`${url}log`, { headers: { user: 'mallory' } })).status).toBe(429)
  expect((await connect(`${url}log`, { headers: { user: 'ann' } })).response.statusCode).toBe(200)
})
