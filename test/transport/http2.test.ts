import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { createGunzip } from 'node:zlib'
// @ts-expect-error: it has no types.
import compression from 'compression'
import {
  createHttp2SSEHandler,
  createMemoryLog,
  createSluice,
  createSSEHandler,
  type SSEHandler,
  type SSEHandlerOptions,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { turns } from '../support/fake-transport.js'
import { until } from '../support/until.js'
import { takeWarnings } from '../support/warnings.js'

const BARE: SSEHandlerOptions = { firstEvent: false, heartbeat: { format: 'none' } }

interface Got {
  stream: ClientHttp2Stream
  head: IncomingHttpHeaders & { ':status'?: number }
  text: string
  ended: boolean
  error: (Error & { code?: string }) | null
}

/** A server and one session of a client; gone when the test ends. */
async function serve(prepare: (server: Http2Server) => void) {
  const server = createServer()
  const sockets: Socket[] = []
  server.on('connection', (socket: Socket) => sockets.push(socket))
  prepare(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  session.on('error', () => {})
  onTestFinished(async () => {
    session.destroy()
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })
  return { server, session, sockets }
}

async function get(session: ClientHttp2Session, headers: IncomingHttpHeaders = {}, body = ''): Promise<Got> {
  const stream = session.request(headers, { endStream: body === '' })
  if (body !== '') stream.end(body)
  const got: Got = { stream, head: {}, text: '', ended: false, error: null }
  stream.setEncoding('utf8').on('data', (part: string) => {
    got.text += part
  })
  stream.on('end', () => {
    got.ended = true
  })
  stream.on('error', (error) => {
    got.error = error
  })
  const [head] = await once(stream, 'response')
  got.head = head
  return got
}

/** How a server of HTTP/2 is asked for a stream: by the compatibility API, or by the event `stream`. */
const ways = ['req and res', 'stream and headers'] as const

async function streams(way: (typeof ways)[number], options: SSEHandlerOptions = BARE) {
  const made: { sse: SSEHandler; stream: ServerHttp2Stream }[] = []
  const served = await serve((server) => {
    if (way === 'req and res') {
      server.on('request', (req, res) => {
        made.push({ stream: res.stream, sse: createSSEHandler(req, res, options) })
      })
    } else {
      server.on('stream', (stream, headers) => {
        made.push({ stream, sse: createHttp2SSEHandler(stream, headers, options) })
      })
    }
  })
  return { ...served, made, nth: (n: number) => made[n] as (typeof made)[number] }
}

function counts(emitter: NodeJS.EventEmitter): Record<string, number> {
  return Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]))
}

describe.each(ways)('a stream of HTTP/2, from %s', (way) => {
  it('has no header of one connection, which HTTP/2 forbids', async () => {
    const { session } = await streams(way)
    const { head } = await get(session)
    expect(head[':status']).toBe(200)
    const names = Object.keys(head).filter((name) => !name.startsWith(':') && name !== 'date')
    expect(names.sort()).toEqual(['cache-control', 'content-type', 'x-accel-buffering'])
  })

  it('takes a Date of the program for that of Node', async () => {
    const date = new Date(0).toUTCString()
    const { session } = await streams(way, { ...BARE, headers: { Date: date } })
    const { head } = await get(session)
    expect(head).toMatchObject({ ':status': 200, date })
  })

  it('sends its head with the first write, and all that is sent in a turn in one', async () => {
    const { session, nth } = await streams(way)
    const got = await get(session)
    await until(() => got.text !== '')
    const { sse, stream } = nth(0)
    let writes = 0
    const { write } = stream
    stream.write = ((...args: Parameters<typeof write>) => {
      writes += 1
      return Reflect.apply(write, stream, args)
    }) as typeof write
    for (let i = 0; i < 50; i += 1) sse.trySend({ data: i })
    await until(() => got.text.includes('49'))
    expect(writes).toBe(1)
  })

  it('closes as client-closed when the client resets it, and the other streams go on', async () => {
    const { session, nth } = await streams(way)
    const first = await get(session)
    const second = await get(session)
    first.stream.close(constants.NGHTTP2_CANCEL)
    await expect(nth(0).sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    await nth(1).sse.send({ data: 'on' })
    await until(() => second.text.includes('on'))
  })

  it('goes on when the client says with GOAWAY that it asks for nothing more', async () => {
    const { session, nth } = await streams(way)
    const got = await get(session)
    session.goaway(constants.NGHTTP2_NO_ERROR)
    await turns(5)
    await nth(0).sse.send({ data: 'on' })
    await until(() => got.text.includes('on'))
  })

  it.each(['destroys its session', 'says with GOAWAY that something is wrong'])(
    'closes as client-closed when the client %s',
    async (how) => {
      const { session, nth } = await streams(way)
      await Promise.all([get(session), get(session)])
      if (how === 'destroys its session') session.destroy()
      else session.goaway(constants.NGHTTP2_PROTOCOL_ERROR)
      for (const n of [0, 1]) {
        await expect(nth(n).sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
      }
    },
  )

  it('closes as vanished when the operating system got no answer any more', async () => {
    const { session, sockets, nth } = await streams(way)
    await get(session)
    sockets[0]?.destroy(Object.assign(new Error('read ETIMEDOUT'), { code: 'ETIMEDOUT' }))
    await expect(nth(0).sse.closed).resolves.toMatchObject({
      reason: 'vanished',
      error: { code: 'ETIMEDOUT' },
    })
  })

  it('has the operating system ask whether its client is there', async () => {
    const asked: unknown[] = []
    const { session, server } = await streams(way)
    server.prependListener('session', ({ socket }: ServerHttp2Session) => {
      const { _handle } = socket as unknown as { _handle: { setKeepAlive(...args: unknown[]): number } }
      const { setKeepAlive } = _handle
      _handle.setKeepAlive = (...args) => {
        asked.push(args.slice(0, 2))
        return Reflect.apply(setKeepAlive, _handle, args)
      }
    })
    await get(session)
    expect(asked).toEqual([[true, 4]])
  })

  it('closes as transport-closed when somebody else ends the response', async () => {
    const { session, nth } = await streams(way)
    const got = await get(session)
    nth(0).stream.end()
    await expect(nth(0).sse.closed).resolves.toMatchObject({ reason: 'transport-closed' })
    await until(() => got.ended)
  })

  it.each<[string, (stream: ServerHttp2Stream) => void]>([
    ['destroys the stream', (stream) => stream.destroy()],
    ['destroys the session', (stream) => stream.session?.destroy()],
  ])('closes as transport-closed when the server %s', async (_, act) => {
    const { session, nth } = await streams(way)
    await get(session)
    act(nth(0).stream)
    await expect(nth(0).sse.closed).resolves.toMatchObject({ reason: 'transport-closed' })
  })

  it('closes as transport-closed when the server ends sessions that are silent for a while', async () => {
    const { server, nth } = await streams(way)
    server.setTimeout(50)
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    session.on('error', () => {})
    await get(session)
    await expect(nth(0).sse.closed).resolves.toMatchObject({ reason: 'transport-closed' })
    session.destroy()
  })

  it('closes as client-closed when the connection is reset after a GOAWAY, which Node takes for no error', async () => {
    const { session, sockets, nth } = await streams(way)
    await get(session)
    session.goaway(constants.NGHTTP2_NO_ERROR)
    await once(nth(0).stream.session as ServerHttp2Session, 'goaway')
    sockets[0]?.destroy(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))
    await expect(nth(0).sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })

  it('closes at once when somebody else has ended the response of a client that still sends its body', async () => {
    const { session, nth } = await streams(way, { ...BARE, drainMs: 60_000 })
    const request = session.request({ ':method': 'POST' })
    request.resume().on('error', () => {})
    await once(request, 'response')
    nth(0).stream.end()
    await once(nth(0).stream, 'finish')
    await nth(0).sse.close()
    request.close(constants.NGHTTP2_CANCEL)
  })

  it('shows an abort as an error, not as an end', async () => {
    const { session, nth } = await streams(way)
    const got = await get(session)
    nth(0).sse.abort()
    await until(() => got.error !== null)
    expect([got.error?.code, got.ended, nth(0).stream.destroyed]).toEqual([
      'ERR_HTTP2_STREAM_ERROR',
      false,
      true,
    ])
    expect([session.destroyed, session.closed]).toEqual([false, false])
  })

  it('throws a body away that nobody has read, so that a client which sends it first gets its answer', async () => {
    const { session, nth } = await streams(way)
    const got = await get(session, { ':method': 'POST' }, 'x'.repeat(1_000_000))
    await once(got.stream, 'finish')
    await nth(0).sse.send({ data: 'answer' })
    await until(() => got.text.includes('answer'))
  })

  it('resumes from a Last-Event-ID in UTF-8', async () => {
    const { session, nth } = await streams(way, { ...BARE, log: createMemoryLog({ epoch: 'e' }) })
    const id = Buffer.from('é-1').toString('latin1')
    await get(session, { 'last-event-id': id })
    expect(nth(0).sse.lastEventId).toBe('é-1')
  })

  it('leaves no listener on its session, 100 streams one after another', async () => {
    const { session, nth } = await streams(way)
    await get(session)
    const server = nth(0).stream.session as ServerHttp2Session
    const before = counts(server)
    for (let n = 1; n <= 100; n += 1) {
      const got = await get(session)
      await nth(n).sse.close()
      await until(() => got.ended)
    }
    expect(counts(server)).toEqual(before)
  })
})

describe('createSSEHandler over HTTP/2', () => {
  it('keeps headers that were set before, but for those that a stream cannot have', async () => {
    const { session } = await serve((server) => {
      server.on('request', (req: Http2ServerRequest, res: Http2ServerResponse) => {
        res.statusCode = 418
        res.setHeader('Set-Cookie', ['a=1', 'b=2'])
        res.setHeader('ETag', '"x"')
        res.setHeader('Content-Length', '5')
        res.setHeader('Keep-Alive', 'timeout=5')
        res.setHeader('HTTP2-Settings', 'a')
        createSSEHandler(req, res, BARE)
      })
    })
    const { head } = await get(session)
    expect(head).toMatchObject({
      ':status': 200,
      'set-cookie': ['a=1', 'b=2'],
      'content-type': 'text/event-stream',
    })
    for (const name of ['etag', 'content-length', 'keep-alive', 'http2-settings']) {
      expect(head).not.toHaveProperty(name)
    }
  })

  it('goes through a res.write that a middleware has replaced', async () => {
    let bytes = 0
    const made: SSEHandler[] = []
    const { session } = await serve((server) => {
      server.on('request', (req: Http2ServerRequest, res: Http2ServerResponse) => {
        const { write } = res
        res.write = ((chunk: Uint8Array) => {
          bytes += chunk.byteLength
          return Reflect.apply(write, res, [chunk])
        }) as typeof write
        made.push(createSSEHandler(req, res, BARE))
      })
    })
    const got = await get(session)
    const large = 'x'.repeat(100_000)
    for (const data of ['a', large, 'z']) await made[0]?.send({ data })
    await made[0]?.close()
    await until(() => got.ended)
    expect(bytes).toBe(got.text.length)
    expect(got.text).toBe(`retry: 2000\n\ndata: a\n\ndata: ${large}\n\ndata: z\n\n`)
  })

  it('ends in order through a res.end that a middleware has replaced, and that takes its argument for a chunk', async () => {
    const made: SSEHandler[] = []
    const { session } = await serve((server) => {
      server.on('request', (req: Http2ServerRequest, res: Http2ServerResponse) => {
        const { end } = res
        // That of express-session writes the chunk first, and ends the response later.
        res.end = ((chunk?: Uint8Array) => {
          if (chunk !== undefined) res.write(Buffer.from(chunk))
          setImmediate(() => Reflect.apply(end, res, []))
          return res
        }) as typeof end
        made.push(createSSEHandler(req, res, BARE))
      })
    })
    const got = await get(session)
    await made[0]?.send({ data: 'last' })
    await expect(made[0]?.close({ reason: 'completed' })).resolves.toMatchObject({ reason: 'completed' })
    await until(() => got.ended || got.error !== null)
    expect([got.text, got.error]).toEqual(['retry: 2000\n\ndata: last\n\n', null])
  })

  it('goes through a middleware that compresses: each event arrives at once, the end in order, without a warning', async () => {
    const warnings = takeWarnings()
    const made: SSEHandler[] = []
    const { session } = await serve((server) => {
      const compress = compression()
      server.on('request', (req: Http2ServerRequest, res: Http2ServerResponse) => {
        // Without no-transform, so that it does.
        const options = { ...BARE, headers: { 'Cache-Control': 'no-cache' } }
        compress(req, res, () => made.push(createSSEHandler(req, res, options)))
      })
    })
    const stream = session.request({ 'accept-encoding': 'gzip' })
    let text = ''
    let ended = false
    const plain = stream.pipe(createGunzip()).setEncoding('latin1')
    plain.on('data', (part: string) => {
      text += part
    })
    plain.on('end', () => {
      ended = true
    })
    const [head] = await once(stream, 'response')
    expect(head['content-encoding']).toBe('gzip')
    // More often held up than an emitter has listeners before Node warns.
    for (let i = 0; i < 20; i += 1) {
      await made[0]?.send({ data: `${i}:${randomBytes(20_000).toString('hex')}` })
      await until(() => text.includes(`data: ${i}:`) && text.endsWith('\n\n'))
    }
    await made[0]?.close({ reason: 'completed' })
    await until(() => ended)
    expect(warnings).toEqual([])
  })

  it('says for a stream and its headers what to call', async () => {
    const thrown: unknown[] = []
    const { session } = await serve((server) => {
      server.on('stream', (stream, headers) => {
        try {
          createSSEHandler(stream as never, headers as never)
        } catch (error) {
          thrown.push(error)
        }
        stream.respond()
        stream.end()
      })
    })
    await get(session)
    expect(thrown).toEqual([
      expect.objectContaining({
        code: 'ERR_SSE_INVALID_OPTION',
        message: expect.stringContaining('createHttp2SSEHandler'),
      }),
    ])
  })
})

it('createHttp2SSEHandler says for what is no stream and headers what to call', async () => {
  const thrown: { code: string; message: string }[] = []
  const { session } = await serve((server) => {
    server.on('request', (req: Http2ServerRequest, res: Http2ServerResponse) => {
      const calls: [unknown, unknown][] = [
        [undefined, {}],
        [{}, {}],
        [res.stream, undefined],
        [req, res],
      ]
      for (const [stream, headers] of calls) {
        try {
          createHttp2SSEHandler(stream as never, headers as never)
        } catch (error) {
          thrown.push(error as (typeof thrown)[number])
        }
      }
      res.end()
    })
  })
  const { head } = await get(session)
  expect(head[':status']).toBe(200)
  expect(thrown.map(({ code }) => code)).toEqual(Array.from({ length: 4 }, () => 'ERR_SSE_INVALID_OPTION'))
  for (const { message } of thrown) expect(message).toContain('createSSEHandler')
})

it.each(['started', 'a stream'])(
  'a response of HTTP/2 that is %s already becomes no stream: ERR_SSE_HEADERS_SENT',
  async (what) => {
    const codes: unknown[] = []
    const { session } = await serve((server) => {
      server.on('stream', (stream, headers) => {
        if (what === 'started') stream.respond()
        else createHttp2SSEHandler(stream, headers)
        try {
          createHttp2SSEHandler(stream, headers)
        } catch (error) {
          codes.push((error as { code: string }).code)
        }
      })
    })
    await get(session)
    expect(codes).toEqual(['ERR_SSE_HEADERS_SENT'])
  },
)

it('a stream of HTTP/2 whose client has left is closed at once', async () => {
  const made: SSEHandler[] = []
  const { session } = await serve((server) => {
    server.on('stream', async (stream, headers) => {
      stream.on('error', () => {})
      await once(stream, 'close')
      made.push(createHttp2SSEHandler(stream, headers))
    })
  })
  const stream = session.request({})
  stream.on('error', () => {})
  await once(stream, 'ready')
  setImmediate(() => stream.close(constants.NGHTTP2_CANCEL))
  await until(() => made.length === 1)
  expect(made[0]?.phase).toBe('closed')
  await expect(made[0]?.closed).resolves.toMatchObject({ reason: 'client-closed', bytesSent: 0 })
})

it('a supervisor ends the sessions of HTTP/2 when it shuts down, after their streams', async () => {
  const sluice = createSluice()
  const { session } = await serve((server) => {
    server.on('request', (req, res) => void sluice.open(req, res))
  })
  const all = await Promise.all([get(session), get(session)])
  await until(() => sluice.sessions().length === 2)
  expect(sluice.sessions()[0]?.address).toBe('127.0.0.1')
  await expect(sluice.shutdown()).resolves.toMatchObject({ streams: 2, reset: 0 })
  await until(() => all.every(({ ended }) => ended) && session.destroyed)
})

it('a client that takes a little all the time is not taken for stalled, however large the event', async () => {
  const opened: SSEHandler[] = []
  const { server } = await serve((server) => {
    server.on('request', (req, res) => {
      const sse = createSSEHandler(req, res, { ...BARE, writeStallMs: 400 })
      opened.push(sse)
      sse.trySend({ data: 'x'.repeat(60_000) })
    })
  })
  const { port } = server.address() as AddressInfo
  const session = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 4000 } })
  onTestFinished(() => session.destroy())
  const stream = session.request({ ':path': '/' })
  let taken = 0
  const taking = setInterval(() => {
    taken += (stream.read() as Buffer | null)?.length ?? 0
  }, 40)
  onTestFinished(() => clearInterval(taking))
  await until(() => taken > 60_000, 'the client has all of it')
  expect(opened[0]?.phase).toBe('flowing')
})
