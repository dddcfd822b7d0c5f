import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import compress from '@fastify/compress'
import cors from '@fastify/cors'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { createChannel, createSluice, type SSEHandler } from 'sluice'
import { type FastifySSEOptions, fastifySSE } from 'sluice/fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import { open } from '../support/any-client.js'
import { certificate } from '../support/certificate.js'
import { connect } from '../support/client.js'
import { get } from '../support/get.js'
import { until } from '../support/until.js'

interface App {
  app: FastifyInstance
  url: string
}

/** A Fastify server with the plugin; gone when the test ends. */
async function start(
  prepare: (app: FastifyInstance) => unknown,
  options: FastifySSEOptions = {},
): Promise<App> {
  const app = Fastify()
  onTestFinished(() => app.close())
  await app.register(fastifySSE, options)
  await prepare(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  return { app, url: `http://127.0.0.1:${port}/events` }
}

describe('reply.sse', () => {
  it('answers with a stream', async () => {
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => {
        reply.sse().trySend({ event: 'tick', data: 1 })
      })
    })
    const client = await connect(url)
    await client.until((events) => events.length === 2)
    expect(client.events[1]).toMatchObject({ event: 'tick', data: '1' })
    expect(client.response.headers['content-type']).toBe('text/event-stream')
  })

  it('takes the options of createSSEHandler', async () => {
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => void reply.sse({ sessionId: 'mine', retryMs: 77 }))
    })
    const client = await connect(url)
    await client.until((events) => events.length === 1)
    expect(client.text).toBe('retry: 77\nevent: connected\ndata: {"sessionId":"mine"}\n\n')
  })

  it.each([
    ['async', async (sse: SSEHandler) => void (await sse.send({ data: 'late' }))],
    ['async, for as long as the stream lasts', async (sse: SSEHandler) => void (await sse.closed)],
    ['one that returns the handler', (sse: SSEHandler) => sse],
  ])('works in a route handler that is %s', async (_, work) => {
    const opened: SSEHandler[] = []
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => {
        const sse = reply.sse()
        opened.push(sse)
        return work(sse)
      })
    })
    const client = await connect(url)
    await client.until((events) => events.length > 0)
    client.leave()
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })

  it('works in a plugin that is registered next to it, and in a route with a response schema', async () => {
    const schema = { response: { 200: { type: 'object', properties: { n: { type: 'number' } } } } }
    const { url } = await start((app) =>
      app.register(async (inner) => {
        inner.get('/events', { schema }, async (_, reply) => {
          await reply.sse().send({ data: { other: 'than the schema' } })
        })
      }),
    )
    const client = await connect(url)
    await client.until((events) => events.length === 2)
    expect(client.events[1]?.data).toBe('{"other":"than the schema"}')
  })

  it('keeps the headers of reply.header, those of @fastify/cors among them', async () => {
    const { url } = await start(async (app) => {
      await app.register(cors, { origin: 'https://app.example', credentials: true })
      app.addHook('onRequest', async (_, reply) => {
        reply.header('Set-Cookie', 'a=1').header('Set-Cookie', 'b=2').header('Content-Length', 3)
      })
      app.get('/events', (_, reply) => void reply.sse())
    })
    const client = await connect(url, { headers: { origin: 'https://app.example' } })
    expect(client.response.headers).toMatchObject({
      'access-control-allow-origin': 'https://app.example',
      'access-control-allow-credentials': 'true',
      'set-cookie': ['a=1', 'b=2'],
      'content-type': 'text/event-stream',
    })
    expect(client.response.headers).not.toHaveProperty('content-length')
  })

  it('works over HTTP/2', async () => {
    const app = Fastify({ http2: true, https: certificate })
    onTestFinished(() => app.close())
    app.register(fastifySSE)
    app.addHook('onRequest', async (_, reply) => void reply.header('x-of-a-hook', 'yes'))
    app.get('/events', (_, reply) => void reply.sse())
    await app.listen({ port: 0, host: '127.0.0.1' })
    const client = await open('http2', (app.server.address() as AddressInfo).port)
    await until(() => client.events.length === 1)
    expect(client.headers['x-of-a-hook']).toBe('yes')
    client.leave()
  })

  it('does not run the hooks preSerialization and onSend, but onResponse', async () => {
    const ran: string[] = []
    const { url } = await start((app) => {
      app.addHook('preSerialization', async () => void ran.push('preSerialization'))
      app.addHook('onSend', async () => void ran.push('onSend'))
      app.addHook('onResponse', async () => void ran.push('onResponse'))
      app.get('/events', (_, reply) => void reply.sse().close())
    })
    const client = await connect(url)
    await until(() => client.ended && ran.length > 0)
    expect(ran).toEqual(['onResponse'])
  })

  it('is not compressed by @fastify/compress', async () => {
    const { url } = await start(async (app) => {
      await app.register(compress, { threshold: 0 })
      app.get('/events', (_, reply) => void reply.sse())
      app.get('/text', () => 'x'.repeat(10_000))
    })
    const headers = { 'accept-encoding': 'gzip' }
    const client = await connect(url, { headers })
    await client.until((events) => events.length === 1)
    expect(client.response.headers).not.toHaveProperty('content-encoding')
    const text = await get(url.replace('events', 'text'), headers)
    expect(text.headers['content-encoding']).toBe('gzip')
  })

  it('gives a channel a handler that it knows', async () => {
    const channel = createChannel()
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => void channel.subscribe(reply.sse({ firstEvent: false })))
    })
    const client = await connect(url)
    await until(() => channel.stats().readers === 1)
    await channel.publish({ data: 'to all' })
    await client.until((events) => events.length === 1)
  })

  it('gives a closed handler, and the answer of createSSEHandler, where there is no stream', async () => {
    const opened: SSEHandler[] = []
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => void opened.push(reply.sse()))
    })
    const answer = await get(url, { accept: 'application/json' })
    expect(answer.status).toBe(406)
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'refused' })
  })
})

describe('a reply that cannot become a stream', () => {
  it.each([
    [
      'hijacked',
      (reply: { hijack(): unknown; raw: { end(text: string): unknown } }) => {
        reply.hijack()
        reply.raw.end('mine')
      },
    ],
    ['sent', (reply: { send(text: string): unknown }) => reply.send('mine')],
    [
      'begun with reply.raw',
      (reply: { raw: { write(text: string): unknown; end(): unknown } }) => {
        reply.raw.write('mine')
        setImmediate(() => reply.raw.end())
      },
    ],
  ])('since it is %s is told by ERR_SSE_HEADERS_SENT, and left alone', async (_, answer) => {
    const errors: unknown[] = []
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => {
        answer(reply)
        try {
          reply.sse()
        } catch (error) {
          errors.push(error)
          reply.hijack()
        }
      })
    })
    expect((await get(url)).text).toBe('mine')
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' })])
  })

  it('since it is one already is told by ERR_SSE_HEADERS_SENT; the stream goes on', async () => {
    const errors: unknown[] = []
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => {
        const sse = reply.sse()
        try {
          reply.sse()
        } catch (error) {
          errors.push(error)
        }
        sse.trySend({ data: 'on' })
      })
    })
    const client = await connect(url)
    await client.until((events) => events.length === 2)
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' })])
  })

  it('since an option is wrong is still a reply: Fastify answers 500', async () => {
    const { url } = await start((app) => {
      app.get('/events', (_, reply) => void reply.sse({ maxEvents: 0 }))
    })
    const answer = await get(url)
    expect(answer.status).toBe(500)
    expect(JSON.parse(answer.text)).toMatchObject({ code: 'ERR_SSE_INVALID_OPTION' })
  })
})

describe('a client that leaves before the stream', () => {
  it('is seen when a hook has taken its time', async () => {
    const opened: SSEHandler[] = []
    const held = holding()
    const { url } = await start((app) => {
      app.addHook('onRequest', (request) => held.hook(request))
      app.get('/events', (_, reply) => void opened.push(reply.sse()))
    })
    const leaving = request(url).on('error', () => {})
    leaving.end()
    await until(() => held.request !== null)
    leaving.destroy()
    await until(() => held.request?.raw.socket.destroyed)
    held.release()
    await until(() => opened.length === 1)
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'client-closed', eventsSent: 0 })
  })
})

describe('app.close', () => {
  it('closes the streams, with what was accepted, and is over', async () => {
    const opened: SSEHandler[] = []
    const { app, url } = await start((app) => {
      app.get('/events', (_, reply) => void opened.push(reply.sse({ firstEvent: false })))
    })
    const client = await connect(url)
    opened[0]?.trySend({ data: 'the last' })
    await app.close()
    await until(() => client.ended)
    expect(client.events.map(({ data }) => data)).toEqual(['the last'])
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'shutdown' })
  })

  it('closes a stream, too, that a slow hook opens meanwhile', async () => {
    const opened: SSEHandler[] = []
    const held = holding()
    const { app, url } = await start((app) => {
      app.addHook('onRequest', (request) => held.hook(request))
      app.get('/events', (_, reply) => void opened.push(reply.sse({ firstEvent: false })))
    })
    const connecting = connect(url)
    await until(() => held.request !== null)
    const closing = app.close()
    await until(() => !app.server.listening)
    held.release()
    await Promise.all([connecting, closing])
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'shutdown' })
  })
})

describe('with a sluice', () => {
  it('streams are opened through it, and it is shut down with the server', async () => {
    const sluice = createSluice()
    const { app, url } = await start((app) => void app.get('/events', (_, reply) => void reply.sse()), {
      sluice,
      graceMs: 1000,
    })
    const client = await connect(url)
    await client.until((events) => events.length === 1)
    expect(sluice.stats().open).toBe(1)
    await app.close()
    await until(() => client.ended)
    expect(sluice.health()).toMatchObject({ status: 'stopping', open: 0 })
    expect(client.text).toMatch(/retry: \d+\n/)
  })

  it('a refused request gives a handler that is closed: refused', async () => {
    const opened: SSEHandler[] = []
    const { url } = await start(
      (app) => void app.get('/events', (_, reply) => void opened.push(reply.sse())),
      { sluice: createSluice({ limits: { maxConnections: 1 } }) },
    )
    await connect(url)
    await until(() => opened.length === 1)
    expect(await get(url)).toMatchObject({ status: 503 })
    await expect(opened[1]?.closed).resolves.toMatchObject({ reason: 'refused' })
    expect(opened[1]?.trySend({ data: 'for nobody' })).toBe('closed')
    expect(opened[0]?.phase).not.toBe('closed')
  })

  it('one with authorize is refused when the plugin is registered, before there is a stream', async () => {
    const sluice = createSluice({ authorize: () => true })
    const app = Fastify()
    onTestFinished(() => app.close().catch(() => {}))
    // @ts-expect-error: it waits
    const registered = async () => void (await app.register(fastifySSE, { sluice }))
    await expect(registered()).rejects.toMatchObject({
      code: 'ERR_SSE_INVALID_OPTION',
      message: expect.stringContaining('a hook of Fastify'),
    })
    await expect(async () => app.ready()).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_OPTION' })
    expect(app.hasReplyDecorator('sse')).toBe(false)
    await sluice.shutdown()
  })
})

/** A hook that holds its request until it is let go. */
function holding() {
  let release = () => {}
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const state = {
    request: null as FastifyRequest | null,
    release: () => release(),
    hook(request: FastifyRequest) {
      state.request = request
      return released
    },
  }
  return state
}

describe('a route', () => {
  it.each(['throws', 'rejects', 'rejects later'] as const)(
    'that %s ends its stream with an error',
    async (how) => {
      const handlers: SSEHandler[] = []
      const { url } = await start((app) => {
        const fail = async () => {
          if (how === 'rejects later') await new Promise((resolve) => setImmediate(resolve))
          throw new Error('a secret')
        }
        app.get('/events', (_, reply) => {
          handlers.push(reply.sse())
          if (how === 'throws') throw new Error('a secret')
          return fail()
        })
      })
      const client = await connect(url)
      await until(() => client.ended)
      expect(client.events.map(({ event }) => event)).toEqual(['connected', 'error', 'close'])
      expect(client.text).not.toContain('secret')
      expect(await handlers[0]?.closed).toMatchObject({ reason: 'error', error: { message: 'a secret' } })
    },
  )

  it('can be tested with app.inject()', async () => {
    const { app } = await start((app) => {
      app.get('/events', (_, reply) => {
        const sse = reply.sse()
        sse.trySend({ event: 'tick', data: 1 })
        void sse.close({ reason: 'completed' })
      })
    })
    const { statusCode, headers, payload } = await app.inject('/events')
    expect({ statusCode, type: headers['content-type'] }).toEqual({
      statusCode: 200,
      type: 'text/event-stream',
    })
    expect(payload).toContain('event: tick\ndata: 1\n\n')
  })
})
