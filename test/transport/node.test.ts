import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { existsSync } from 'node:fs'
import {
  Agent,
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from 'node:http'
import { connect as connectSocket, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type ClosedInfo,
  createMemoryLog,
  createSSEHandler,
  type SSEHandler,
  type SSEHandlerOptions,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { sendUntilFull, track, turns, untilStuck } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const BARE: SSEHandlerOptions = { firstEvent: false, heartbeat: { format: 'none' } }

interface Exchange {
  sse: SSEHandler
  req: IncomingMessage
  res: ServerResponse
  /** Who listened to the socket before. */
  before: Record<string, number>
}

/** A server that makes a stream of every request, and keeps them. */
async function streams(options: SSEHandlerOptions = BARE, prepare: (res: ServerResponse) => void = () => {}) {
  const exchanges: Exchange[] = []
  const { url, port } = await serve((req, res) => {
    prepare(res)
    const before = counts(req.socket)
    exchanges.push({ req, res, before, sse: createSSEHandler(req, res, options) })
  })
  const nth = async (index: number) => {
    await until(() => exchanges.length > index)
    return exchanges[index] as Exchange
  }
  return { url, port, exchanges, nth }
}

/** A client that writes what it is told to and keeps the bytes that come back. */
async function rawClient(port: number, text = '') {
  const socket: Socket = connectSocket(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  const seen = { text: '', bytes: 0, ended: false, errors: [] as (Error & { code?: string })[] }
  socket.on('data', (part: Buffer) => {
    seen.bytes += part.length
    if (seen.text.length < 100_000) seen.text += part.toString('latin1')
  })
  socket.on('end', () => {
    seen.ended = true
  })
  socket.on('error', (error) => seen.errors.push(error))
  await once(socket, 'connect')
  socket.write(text)
  return { socket, seen }
}

const get = (path: string, ...lines: string[]) =>
  `${[`GET ${path} HTTP/1.1`, 'Host: localhost', ...lines].join('\r\n')}\r\n\r\n`

/** One request through an agent; resolves with the whole of its answer. */
async function exchange(url: string, options: RequestOptions, body?: string | Buffer) {
  const outgoing = request(url, { agent: false, ...options })
  onTestFinished(() => void outgoing.destroy())
  outgoing.end(body)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const part of response.setEncoding('utf8')) text += part
  return { status: response.statusCode, headers: response.headers, text }
}

function counts(emitter: NodeJS.EventEmitter): Record<string, number> {
  return Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]))
}

describe('the head', () => {
  it('is that of a stream which no proxy buffers, and goes out before the first event', async () => {
    const { url } = await streams()
    const { response } = await connect(url)
    expect(response.statusCode).toBe(200)
    expect(response.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'transfer-encoding': 'chunked',
    })
  })

  it('keeps headers that were set before, but for those that a stream cannot have', async () => {
    const { url } = await streams(BARE, (res) => {
      res.statusCode = 418
      res.setHeader('Access-Control-Allow-Origin', '*')
      res.setHeader('Set-Cookie', ['a=1', 'b=2'])
      res.setHeader('Content-Length', '5')
      res.setHeader('Content-Encoding', 'gzip')
      res.setHeader('ETag', '"x"')
      res.setHeader('Content-Type', 'application/json')
    })
    const { response } = await connect(url)
    expect(response.statusCode).toBe(200)
    expect(response.headers).toMatchObject({
      'access-control-allow-origin': '*',
      'set-cookie': ['a=1', 'b=2'],
      'content-type': 'text/event-stream',
    })
    for (const name of ['content-length', 'content-encoding', 'etag']) {
      expect(response.headers).not.toHaveProperty(name)
    }
  })
})

describe('a request that gets no stream', () => {
  it.each(['writeHead', 'flushHeaders', 'write', 'end'] as const)(
    'is one whose response has started with %s: ERR_SSE_HEADERS_SENT, and the response is left alone',
    async (start) => {
      const thrown: unknown[] = []
      const { url } = await serve((req, res) => {
        res.statusCode = 202
        if (start === 'writeHead') res.writeHead(202)
        if (start === 'flushHeaders') res.flushHeaders()
        if (start === 'write') res.write('as ')
        if (start === 'end') res.end('as before')
        try {
          createSSEHandler(req, res)
        } catch (error) {
          thrown.push(error)
        }
        if (start !== 'end') res.end(start === 'write' ? 'before' : 'as before')
      })
      const { status, text } = await exchange(url, {})
      expect([status, text]).toEqual([202, 'as before'])
      expect(thrown).toEqual([expect.objectContaining({ name: 'SSEError', code: 'ERR_SSE_HEADERS_SENT' })])
    },
  )

  it.each([
    ['nothing', undefined],
    ['an empty object', {}],
  ])(
    'is %s in place of a request: ERR_SSE_INVALID_OPTION, and the response is left alone',
    async (_, req) => {
      const thrown: unknown[] = []
      const { url } = await serve((_, res) => {
        try {
          createSSEHandler(req as never, res)
        } catch (error) {
          thrown.push(error)
        }
        res.end('as before')
      })
      const { text } = await exchange(url, {})
      expect(text).toBe('as before')
      expect(thrown).toEqual([expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' })])
    },
  )

  it('is HEAD: it gets the head, and the handler is closed as refused', async () => {
    const { url, nth } = await streams()
    const { status, headers, text } = await exchange(url, { method: 'HEAD' })
    expect([status, text]).toEqual([200, ''])
    expect(headers).toMatchObject({ 'content-type': 'text/event-stream' })
    const { sse } = await nth(0)
    expect(sse.phase).toBe('closed')
    await expect(sse.closed).resolves.toMatchObject({ reason: 'refused', bytesSent: 0 })
    expect(sse.trySend({ data: 'late' })).toBe('closed')
  })

  it('is one whose Accept header refuses event streams: 406, and the handler is closed as refused', async () => {
    const { url, nth } = await streams()
    const answer = await exchange(url, { headers: { accept: 'application/json' } })
    expect(answer.status).toBe(406)
    expect(answer.headers['content-type']).toBe('application/problem+json')
    expect(JSON.parse(answer.text)).toMatchObject({ status: 406, title: 'Not Acceptable' })
    const { sse, req, res, before } = await nth(0)
    await expect(sse.closed).resolves.toMatchObject({ reason: 'refused' })
    await expect(sse.send({ data: 'late' })).rejects.toMatchObject({ reason: 'refused' })
    expect(counts(res).close).toBeUndefined()
    expect(counts(req.socket).close ?? 0).toBeLessThanOrEqual(before.close ?? 0)
  })

  it('is one whose client has left while the caller was busy: closed at once as client-closed', async () => {
    const made: SSEHandler[] = []
    const { port } = await serve(async (req, res) => {
      await once(req.socket, 'close')
      made.push(createSSEHandler(req, res))
    })
    const { socket } = await rawClient(port, get('/'))
    await turns(5)
    socket.destroy()
    await until(() => made.length === 1)
    expect(made[0]?.phase).toBe('closed')
    await expect(made[0]?.closed).resolves.toMatchObject({ reason: 'client-closed', bytesSent: 0 })
    expect(made[0]?.tryRequestSend()).toBeNull()
  })

  const requests = {
    'a HEAD request': (port: number) => rawClient(port, get('/').replace('GET', 'HEAD')),
    'an Accept header that refuses': (port: number) => rawClient(port, get('/', 'Accept: text/html')),
    'a client that has left': async (port: number) => {
      const { socket } = await rawClient(port, get('/'))
      await turns(5)
      socket.destroy()
    },
  }

  it.each(Object.keys(requests) as (keyof typeof requests)[])(
    'tells so by closed, once, to whoever listens as soon as the handler is there, and keeps no listener: %s',
    async (why) => {
      const told: ClosedInfo[] = []
      const made: (Exchange & { toldBefore: number })[] = []
      const { port } = await serve(async (req, res) => {
        if (why === 'a client that has left') await once(req.socket, 'close')
        const before = counts(req.socket)
        const sse = createSSEHandler(req, res, BARE)
        sse.on('closed', (info) => told.push(info))
        sse.on('phase', () => {})
        made.push({ sse, req, res, before, toldBefore: told.length })
      })
      await requests[why](port)
      await until(() => told.length > 0)
      const [{ sse, req, res, before, toldBefore }] = made as [(typeof made)[number]]
      await turns(3)
      expect(toldBefore).toBe(0)
      expect(told).toEqual([await sse.closed])
      expect(told[0]?.reason).toBe(why === 'a client that has left' ? 'client-closed' : 'refused')
      expect(sse.eventNames()).toEqual([])
      expect(counts(res).close).toBeUndefined()
      expect(counts(req.socket).close ?? 0).toBeLessThanOrEqual(before.close ?? 0)
    },
  )
})

describe('a POST', () => {
  it('streams, and its body that nobody reads is thrown away, so that no request timeout ends the stream', async () => {
    const { url, nth } = await streams()
    const client = await connect(url, { method: 'POST', body: 'x'.repeat(3_000_000) })
    const { sse, req } = await nth(0)
    await until(() => req.readableEnded)
    expect(req.complete).toBe(true)
    await sse.send({ data: 'answer' })
    await client.until(({ length }) => length === 1)
    expect(sse.phase).toBe('flowing')
  })

  it('whose body the program reads is left to it', async () => {
    const bodies: string[] = []
    const { url } = await serve((req, res) => {
      let body = ''
      req.setEncoding('utf8').on('data', (part: string) => {
        body += part
      })
      const sse = createSSEHandler(req, res, BARE)
      req.on('end', () => {
        bodies.push(body)
        sse.trySend({ data: body.length })
      })
    })
    const body = 'y'.repeat(1_000_000)
    const client = await connect(url, { method: 'POST', body })
    await client.until(({ length }) => length === 1)
    expect([client.events[0]?.data, bodies[0] === body]).toEqual(['1000000', true])
  })
})

describe('a client that leaves', () => {
  it("is seen during the caller's async work before the first send", async () => {
    const outcomes: unknown[] = []
    let isWorking = false
    const { port } = await serve(async (req, res) => {
      const sse = createSSEHandler(req, res)
      isWorking = true
      const { reason } = await sse.closed
      outcomes.push(reason, sse.trySend({ data: 'a' }))
      outcomes.push(await sse.send({ data: 'a' }).catch(({ code }) => code))
    })
    const { socket } = await rawClient(port, get('/'))
    await until(() => isWorking)
    socket.destroy()
    await until(() => outcomes.length === 3)
    expect(outcomes).toEqual(['client-closed', 'closed', 'ERR_SSE_CLOSED'])
  })

  it.each(['destroy', 'resetAndDestroy', 'end'] as const)(
    'by %s is seen while nothing is sent',
    async (how) => {
      const { port, nth } = await streams()
      const { socket } = await rawClient(port, get('/'))
      const { sse } = await nth(0)
      await until(() => sse.stats().bytesSent > 0)
      socket[how]()
      await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    },
  )

  it('ends the wait of a producer that it kept waiting', async () => {
    const { url, nth } = await streams({ ...BARE, maxEvents: 4 })
    const client = await connect(url)
    client.pause()
    const { sse } = await nth(0)
    const large = { data: 'x'.repeat(200_000) }
    const producer = (async () => {
      for (;;) await sse.send(large)
    })()
    const ended = track(producer)
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
    client.leave()
    await until(() => ended.state !== 'pending')
    expect(ended.error).toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'client-closed' })
  })

  it('is seen by the second of two pipelined requests, whose response has no socket yet', async () => {
    const { port, nth } = await streams()
    const { socket } = await rawClient(port, get('/1') + get('/2'))
    const [first, second] = [await nth(0), await nth(1)]
    expect([second.req.url, second.res.socket]).toEqual(['/2', null])
    expect(second.sse.trySend({ data: 'never written' })).toBe('queued')
    socket.destroy()
    await expect(first.sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    await expect(second.sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    expect(counts(second.res).close).toBeUndefined()
  })

  it('is not taken for stalled while it waits behind another response, nor is the other one cut', async () => {
    const clock = new ManualClock()
    const { port, nth } = await streams({ ...BARE, clock, writeStallMs: 30_000 })
    const { seen } = await rawClient(port, get('/1') + get('/2'))
    const [first, second] = [await nth(0), await nth(1)]
    for (let i = 0; i < 7; i += 1) {
      first.sse.trySend({ event: `first${i}` })
      second.sse.trySend({ event: `second${i}` })
      await until(() => seen.text.includes(`first${i}`))
      clock.advance(6000)
    }
    expect(first.sse.phase).toBe('flowing')
    expect(second.sse.phase).not.toBe('closed')
  })

  it('lets a pipelined request have its stream when the one before it ends', async () => {
    const { port, nth } = await streams()
    const { seen } = await rawClient(port, get('/1') + get('/2'))
    const [first, second] = [await nth(0), await nth(1)]
    for (let i = 0; i < 10; i += 1) {
      first.sse.trySend({ event: `first${i}` })
      second.sse.trySend({ event: `second${i}` })
      await turns()
    }
    expect(seen.text).not.toContain('second')
    await first.sse.close()
    await until(() => seen.text.includes('second9'))
    const order = [...seen.text.matchAll(/event: (\w+)/g)].map(([, name]) => name)
    const all = (name: string) => Array.from({ length: 10 }, (_, i) => `${name}${i}`)
    expect(order).toEqual([...all('first'), ...all('second')])
    expect(second.sse.phase).toBe('flowing')
    await second.sse.close()
    await until(() => seen.text.endsWith('\r\n0\r\n\r\n'))
    expect(seen.text.match(/^HTTP\/1\.1 200/gm)).toHaveLength(2)
  })

  it('is seen by each of 20 pipelined requests, in a process that is warned of no leak', async () => {
    const warnings: unknown[] = []
    const onWarning = (warning: unknown) => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const { port, exchanges, nth } = await streams()
    const { socket } = await rawClient(port, Array.from({ length: 20 }, (_, i) => get(`/${i}`)).join(''))
    const { req, before } = await nth(0)
    await nth(19)
    await turns()
    expect(exchanges.slice(1).every(({ res }) => res.socket === null)).toBe(true)
    socket.destroy()
    const reasons = await Promise.all(exchanges.map(async ({ sse }) => (await sse.closed).reason))
    expect(reasons).toEqual(Array(20).fill('client-closed'))
    expect(counts(req.socket).close ?? 0).toBeLessThanOrEqual(before.close ?? 0)
    expect(warnings).toEqual([])
  })
})

describe('a response that waits behind another one', () => {
  it('counts as output at once, so that Node stops reading requests which a client pipelines without end', async () => {
    const { port, exchanges } = await streams()
    const one = get('/')
    const { seen } = await rawClient(port, one.repeat((512 * 1024) / one.length))
    await until(() => seen.text.includes('retry'))
    await turns(5)
    // Node parses all of what it has read, 64 KiB at a time, before it looks at what is to be sent.
    expect(exchanges.length * one.length).toBeLessThan(2 * 64 * 1024)
  })
})

describe('a response that somebody else has ended', () => {
  it.each(['untouched', 'replaced'] as const)(
    'closes at the next write, which raises no error, though it waits behind another one (write is %s)',
    async (how) => {
      const errors: Error[] = []
      const made: SSEHandler[] = []
      const { port } = await serve((req, res) => {
        const write = res.write
        if (how === 'replaced') {
          res.write = ((...args: unknown[]) => Reflect.apply(write, res, args)) as typeof write
        }
        res.on('error', (error) => errors.push(error))
        const sse = createSSEHandler(req, res, BARE)
        if (made.push(sse) === 2) res.end()
        sse.trySend({ data: req.url })
      })
      const { seen } = await rawClient(port, get('/first') + get('/second'))
      await until(() => made.length === 2)
      const [first, second] = made as [SSEHandler, SSEHandler]
      await expect(second.closed).resolves.toMatchObject({ reason: 'transport-closed', eventsUnsent: 1 })
      expect(first.phase).toBe('flowing')
      await first.close()
      await until(() => seen.text.match(/^HTTP\/1\.1 200/gm)?.length === 2)
      expect([seen.text.includes('/first'), seen.text.includes('/second')]).toEqual([true, false])
      expect(errors).toEqual([])
    },
  )
})

describe('abort()', () => {
  it('resets the connection, so that nothing is left in the kernel', async () => {
    const { port, nth } = await streams()
    const { seen } = await rawClient(port, get('/'))
    const { sse, req } = await nth(0)
    await until(() => seen.text.includes('retry'))
    sse.abort()
    await until(() => seen.errors.length > 0)
    expect(seen.errors[0]?.code).toBe('ECONNRESET')
    expect([seen.ended, req.socket.destroyed]).toEqual([false, true])
  })

  it('closes a Unix domain socket, which cannot be reset', async () => {
    const path = join(tmpdir(), `sluice-${randomUUID()}.sock`)
    const made: SSEHandler[] = []
    const server = createServer((req, res) => void made.push(createSSEHandler(req, res, BARE)))
    server.listen(path)
    await once(server, 'listening')
    const socket = connectSocket(path)
    onTestFinished(async () => {
      socket.destroy()
      server.close()
      await once(server, 'close')
      expect(existsSync(path)).toBe(false)
    })
    let text = ''
    socket.on('data', (part) => {
      text += part
    })
    socket.write(get('/'))
    await until(() => text.includes('retry'))
    made[0]?.trySend({ data: 'over a Unix socket' })
    await until(() => text.includes('over a Unix socket'))
    made[0]?.abort()
    await once(socket, 'close')
    await expect(made[0]?.closed).resolves.toMatchObject({ reason: 'aborted' })
  })
})

describe('middleware that replaced res.write', () => {
  it('still works and sees every byte', async () => {
    let bytes = 0
    const { url, nth } = await streams(BARE, (res) => {
      const write = res.write
      res.write = function counting(this: ServerResponse, ...args: unknown[]) {
        bytes += (args[0] as Uint8Array).byteLength
        return Reflect.apply(write, this, args)
      } as typeof res.write
    })
    const client = await connect(url)
    const { sse } = await nth(0)
    for (let i = 0; i < 200; i += 1) {
      await sse.send({ data: `é${i}` })
      if (i % 10 === 0) await turns()
    }
    await sse.close()
    await until(() => client.ended)
    expect(client.events.map(({ data }) => data)).toEqual(Array.from({ length: 200 }, (_, i) => `é${i}`))
    expect(bytes).toBe(Buffer.byteLength(client.text))
    expect(sse.stats().bytesSent).toBe(bytes)
  })

  type Write = (this: ServerResponse, chunk: unknown, encoding?: unknown) => boolean | undefined
  const wrappers: [string, (write: Write, count: (chunk: unknown) => void) => Write][] = [
    [
      'passes two arguments on, as the npm package compression does',
      (write, count) =>
        function passing(chunk, encoding) {
          count(chunk)
          return write.call(this, chunk, encoding)
        },
    ],
    [
      'passes the chunk on and no callback',
      (write, count) =>
        function passing(chunk) {
          count(chunk)
          return write.call(this, chunk)
        },
    ],
    [
      'passes the chunk on and returns nothing',
      (write, count) =>
        function passing(chunk) {
          count(chunk)
          write.call(this, chunk)
          return undefined
        },
    ],
  ]

  it.each(wrappers)('still works when it %s', async (_, wrapping) => {
    let bytes = 0
    const { url, nth } = await streams(BARE, (res) => {
      const wrapper = wrapping(res.write as Write, (chunk) => {
        bytes += (chunk as Uint8Array).byteLength
      })
      res.write = wrapper as typeof res.write
    })
    const client = await connect(url)
    const { sse } = await nth(0)
    const sent = ['x'.repeat(100_000), ...Array.from({ length: 20 }, (_, i) => String(i))]
    for (const data of sent) {
      await sse.send({ data })
      await turns()
    }
    await client.until(({ length }) => length === 21)
    expect(client.events.map(({ data }) => data)).toEqual(sent)
    await until(() => sse.phase === 'flowing')
    await sse.close()
    await until(() => client.ended)
    expect(bytes).toBe(Buffer.byteLength(client.text))
  })

  it.each(['what write returned', 'nothing'])(
    'lets a reader that stops be seen, and costs no more memory than without (it returns %s)',
    async (returned) => {
      let most = 0
      const { url, nth } = await streams(BARE, (res) => {
        const write = res.write as Write
        res.write = function passing(this: ServerResponse, chunk: unknown) {
          const isTaken = write.call(this, chunk)
          most = Math.max(most, res.writableLength)
          return returned === 'nothing' ? undefined : isTaken
        } as typeof res.write
      })
      const client = await connect(url)
      client.pause()
      const { sse } = await nth(0)
      const producer = (async () => {
        for (let i = 0; i < 2000; i += 1) await sse.send({ data: `${i}:${'x'.repeat(20_000)}` })
      })()
      await untilStuck(sse)
      expect(sse.stats()).toMatchObject({ phase: 'blocked', waiters: 1 })
      client.resume()
      await producer
      await client.until(({ length }) => length === 2000)
      expect(client.events.every(({ data }, i) => data.startsWith(`${i}:`))).toBe(true)
      // One write of the pump, the event that takes it over its size, and what a response takes before it says no.
      expect(most).toBeLessThan(64 * 1024 + 21_000 + 32 * 1024)
    },
  )

  it('and `on` too, as what compresses does, is listened to once, however often it holds the stream up', async () => {
    const emitter = new EventEmitter()
    let drains = 0
    const { url, nth } = await streams(BARE, (res) => {
      const { write, on } = res
      res.write = ((chunk: Uint8Array) => {
        write.call(res, chunk, 'utf8')
        setImmediate(() => {
          drains += 1
          emitter.emit('drain')
        })
        return false
      }) as typeof res.write
      res.on = ((name: string, listener: () => void) =>
        name === 'drain' ? emitter.on(name, listener) : on.call(res, name, listener)) as typeof res.on
    })
    await connect(url)
    const { sse } = await nth(0)
    for (let i = 0; i < 20; i += 1) {
      const before = drains
      sse.trySend({ data: i })
      await until(() => drains > before && sse.phase === 'flowing')
    }
    expect(emitter.listenerCount('drain')).toBe(1)
  })

  it('put on after the stream began is honoured too', async () => {
    const { url, nth } = await streams()
    const client = await connect(url)
    const { sse, res } = await nth(0)
    await sse.send({ data: 'before' })
    await client.until(({ length }) => length === 1)
    let text = ''
    const write = res.write
    res.write = function noting(this: ServerResponse, ...args: unknown[]) {
      text += Buffer.from(args[0] as Uint8Array).toString()
      return Reflect.apply(write, this, args)
    } as typeof res.write
    await sse.send({ data: 'after' })
    await client.until(({ length }) => length === 2)
    expect(text).toBe('data: after\n\n')
  })
})

describe('the protocol', () => {
  it('frames chunks for HTTP/1.1 that any client reads, whatever their size', async () => {
    const { port, nth } = await streams()
    const { seen } = await rawClient(port, get('/'))
    const { sse } = await nth(0)
    const sizes = [0, 1, 9, 250, 4096, 20_000]
    for (const size of sizes) {
      await sse.send({ data: 'é'.repeat(size) })
      await turns()
    }
    await sse.close()
    await until(() => seen.text.endsWith('\r\n0\r\n\r\n'))
    let rest = seen.text.slice(seen.text.indexOf('\r\n\r\n') + 4)
    let body = ''
    for (;;) {
      const [line] = rest.split('\r\n', 1)
      const size = Number.parseInt(line as string, 16)
      const start = (line as string).length + 2
      expect(rest.slice(start + size, start + size + 2)).toBe('\r\n')
      if (size === 0) break
      body += rest.slice(start, start + size)
      rest = rest.slice(start + size + 2)
    }
    const expected = sizes.map((size) => `data: ${'é'.repeat(size)}\n\n`).join('')
    expect(Buffer.from(body, 'latin1').toString()).toBe(`retry: 2000\n\n${expected}`)
  })

  it('frames nothing for an HTTP/1.0 client, and ends by closing the connection', async () => {
    const { port, nth } = await streams()
    const { seen } = await rawClient(port, 'GET / HTTP/1.0\r\n\r\n')
    const { sse } = await nth(0)
    for (let i = 0; i < 5; i += 1) {
      await sse.send({ data: i })
      await turns()
    }
    await sse.close()
    await until(() => seen.ended)
    const [head, ...body] = seen.text.split('\r\n\r\n')
    expect(head).not.toMatch(/transfer-encoding/i)
    expect(body.join('\r\n\r\n')).toBe(
      `retry: 2000\n\n${[0, 1, 2, 3, 4].map((i) => `data: ${i}\n\n`).join('')}`,
    )
  })

  it('leaves a keep-alive socket fit for the next request, 20 times over, and no listener on it', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    onTestFinished(() => agent.destroy())
    const warnings: unknown[] = []
    const onWarning = (warning: unknown) => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const log = createMemoryLog()
    const seen: { socket: Socket; before: Record<string, number> }[] = []
    const made: SSEHandler[] = []
    const { url } = await serve((req, res) => {
      seen.push({ socket: req.socket, before: counts(req.socket) })
      const sse = createSSEHandler(req, res, { ...BARE, log })
      made.push(sse)
      for (let i = 0; i < 3; i += 1) sse.trySend({ data: i })
      setImmediate(() => setImmediate(() => void sse.close()))
    })
    for (let i = 0; i < 20; i += 1) {
      const { status, text } = await exchange(url, { agent })
      expect([status, text.match(/^data: .*$/gm)]).toEqual([200, ['data: 0', 'data: 1', 'data: 2']])
      await expect(made[i]?.closed).resolves.toMatchObject({ reason: 'server-closed', eventsSent: 3 })
    }
    expect(new Set(seen.map(({ socket }) => socket)).size).toBe(1)
    const befores = seen.map(({ before }) => before)
    expect(befores).toEqual(befores.map(() => befores[0]))
    const { socket, before } = seen[0] as (typeof seen)[number]
    expect(Object.entries(counts(socket)).filter(([name, count]) => count > (before[name] ?? 0))).toEqual([])
    expect(warnings).toEqual([])
  })
})

describe('a slow reader', () => {
  it('that takes a part of one large event at a time makes progress, and is not closed as stalled', async () => {
    const MiB = 1024 * 1024
    const clock = new ManualClock()
    const { port, nth } = await streams({
      ...BARE,
      clock,
      writeStallMs: 30_000,
      maxEventBytes: 256 * MiB,
    })
    const { socket, seen } = await rawClient(port, get('/'))
    const { sse } = await nth(0)
    await until(() => seen.bytes > 0)
    socket.pause()
    expect(sse.trySend({ data: 'x'.repeat(100 * MiB) })).toBe('queued')
    await until(() => sse.phase === 'blocked')
    const readUntil = async (bytes: number) => {
      socket.on('data', () => {
        if (seen.bytes >= bytes) socket.pause()
      })
      socket.resume()
      await until(() => seen.bytes >= bytes)
    }
    // More than the kernel takes for a reader that reads nothing: it has taken more since.
    await readUntil(24 * MiB)
    expect(sse.phase).toBe('blocked')
    clock.advance(30_000)
    expect(sse.phase).toBe('blocked')
  })

  it('that takes nothing is closed, and the server lets the bytes go', async () => {
    const clock = new ManualClock()
    const { url, nth } = await streams({ ...BARE, clock, writeStallMs: 30_000 })
    const client = await connect(url)
    client.pause()
    const { sse, req } = await nth(0)
    const large = { data: 'x'.repeat(200_000) }
    await untilStuck(sse, () => sendUntilFull(sse, large))
    expect(req.socket.writableLength).toBeGreaterThan(0)
    clock.advance(30_000)
    await expect(sse.closed).resolves.toMatchObject({ reason: 'write-stalled' })
    expect(req.socket.destroyed).toBe(true)
  })
})
