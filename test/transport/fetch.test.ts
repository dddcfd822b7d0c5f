import { getEventListeners } from 'node:events'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  createChannel,
  createFetchHandler,
  createSluice,
  createSSEResponse,
  SSEError,
  type SSEHandler,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'
import { takeUnhandledRejections } from '../support/unhandled.js'
import { until } from '../support/until.js'
import { takeWarnings } from '../support/warnings.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const URL = 'http://localhost/events'
const BARE = { firstEvent: false, heartbeat: { format: 'none' } } as const

async function nextText(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<string | null> {
  const { done, value } = await reader.read()
  return done ? null : new TextDecoder().decode(value)
}

/** The handler of a function, and the connections that it was called with. */
function handled(run: (sse: SSEHandler, request: Request) => unknown = () => {}) {
  const made: SSEHandler[] = []
  const handler = createFetchHandler((sse, request) => {
    made.push(sse)
    return run(sse, request)
  }, BARE)
  return { handler, made }
}

describe('the body of a response', () => {
  it('hands a chunk over when it is read, and never holds one', async () => {
    const { sse, response } = createSSEResponse(new Request(URL), { ...BARE, maxEvents: 3 })
    await turns(3)
    // The head of the stream is written, and nobody has read it.
    expect(sse.phase).toBe('blocked')
    for (const data of ['a', 'b', 'c']) expect(sse.trySend({ data })).toBe('queued')
    expect(sse.trySend({ data: 'd' })).toBe('dropped')
    await turns(3)
    expect(sse.stats().bytesSent).toBe('retry: 2000\n\n'.length)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await expect(nextText(reader)).resolves.toBe('retry: 2000\n\n')
    await turns(3)
    expect(sse.stats()).toMatchObject({ phase: 'blocked', queuedEvents: 3 })
    await expect(nextText(reader)).resolves.toBe('data: a\n\ndata: b\n\ndata: c\n\n')
  })

  it('is not taken for slow while it is read again each time', async () => {
    const { sse, response } = createSSEResponse(new Request(URL), BARE)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await nextText(reader)
    const blocked: unknown[] = []
    const reads = (async () => {
      let text = ''
      for (;;) {
        const next = await nextText(reader)
        if (next === null) return text
        text += next
      }
    })()
    await turns(3)
    sse.on('blocked', () => blocked.push(sse.stats()))
    for (let i = 0; i < 100; i += 1) {
      await sse.send({ data: i })
      if (i % 3 === 0) await turns(2)
    }
    await sse.close()
    await expect(reads).resolves.toContain('data: 99\n')
    expect(blocked).toEqual([])
  })

  it('serves two reads that wait at once, in order', async () => {
    const { sse, response } = createSSEResponse(new Request(URL), BARE)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await nextText(reader)
    const reads = [nextText(reader), nextText(reader)]
    sse.trySend({ data: 1 })
    await turns(3)
    sse.trySend({ data: 2 })
    await expect(Promise.all(reads)).resolves.toEqual(['data: 1\n\n', 'data: 2\n\n'])
  })

  it('is memory of its own: who changes or transfers a chunk changes no other stream', async () => {
    const channel = createChannel({ flushIntervalMs: 0 })
    const readers = [1, 2].map(() => {
      const { sse, response } = createSSEResponse(new Request(URL), BARE)
      channel.subscribe(sse)
      return (response.body as ReadableStream<Uint8Array>).getReader()
    })
    const [vandal, reader] = readers as [(typeof readers)[number], (typeof readers)[number]]
    await Promise.all(readers.map(nextText))
    const waiting = vandal.read()
    await channel.publish({ data: 'x'.repeat(5000) })
    const { value } = await waiting
    value?.fill(0)
    structuredClone(value, { transfer: [value?.buffer as ArrayBuffer] })
    await expect(nextText(reader)).resolves.toContain(`data: ${'x'.repeat(5000)}\n\n`)
  })

  it('that nobody reads is given up after writeStallMs, though a reader has locked it', async () => {
    const clock = new ManualClock()
    const { sse, response } = createSSEResponse(new Request(URL), { ...BARE, clock, writeStallMs: 30_000 })
    response.body?.getReader()
    await turns(3)
    clock.advance(30_000)
    await expect(sse.closed).resolves.toMatchObject({ reason: 'write-stalled' })
    expect(clock.pending).toBe(0)
  })
})

describe('a client that leaves', () => {
  it('by cancelling the body is seen', async () => {
    const { sse, response } = createSSEResponse(new Request(URL), BARE)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await nextText(reader)
    await reader.cancel()
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })

  it('by cancelling the body before it was read is seen', async () => {
    const { sse, response } = createSSEResponse(new Request(URL), BARE)
    await response.body?.cancel()
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed', bytesSent: 0 })
  })

  it('by aborting the request is seen, and the body ends without an error', async () => {
    const controller = new AbortController()
    const { sse, response } = createSSEResponse(new Request(URL, { signal: controller.signal }), BARE)
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await nextText(reader)
    const waiting = nextText(reader)
    controller.abort()
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    await expect(waiting).resolves.toBeNull()
  })

  it('is seen by each of 20 requests that share a signal, in a process that is warned of no leak', async () => {
    const warnings = takeWarnings()
    const controller = new AbortController()
    const { signal } = controller
    // As wrappers of requests make them: a Request has a signal of its own.
    const request = { url: URL, method: 'GET', headers: new Headers(), signal } as Request
    const all = Array.from({ length: 20 }, () => createSSEResponse(request, BARE).sse)
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    await Promise.all(all.slice(0, 5).map((sse) => sse.abort()))
    controller.abort()
    for (const sse of all.slice(5))
      await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    await turns(3)
    expect([warnings, getEventListeners(signal, 'abort')]).toEqual([[], []])
  })

  it('leaves no listener on its signal when its stream has ended', async () => {
    const { signal } = new AbortController()
    const request = { url: URL, method: 'GET', headers: new Headers(), signal } as Request
    for (let i = 0; i < 2; i += 1) {
      const { sse } = createSSEResponse(request, BARE)
      expect(getEventListeners(signal, 'abort')).toHaveLength(1)
      sse.abort()
      await sse.closed
      expect(getEventListeners(signal, 'abort')).toEqual([])
    }
  })

  describe('by aborting is seen after the program and a garbage collection have dropped the request:', () => {
    const ways: Record<string, (request: Request) => SSEHandler | Promise<SSEHandler | null> | null> = {
      createSSEResponse(request) {
        const { sse, response } = createSSEResponse(request, BARE)
        void response.text()
        return sse
      },
      createFetchHandler(request) {
        const { handler, made } = handled()
        void handler(request).text()
        return made[0] ?? null
      },
      respond(request) {
        const { sse, response } = createSluice<Request>().respond(request, BARE)
        void response.text()
        return sse
      },
      async 'respond, once it is authorized'(request) {
        const sluice = createSluice<Request>({ authorize: async () => true })
        const { sse, response } = await sluice.respond(request, BARE)
        void response.text()
        return sse
      },
    }

    it.each(Object.keys(ways))('%s', async (name) => {
      const controller = new AbortController()
      const seen = { isCollected: false }
      const registry = new FinalizationRegistry(() => {
        seen.isCollected = true
      })
      const answer = async () => {
        const request = new Request(URL, { signal: controller.signal })
        const sse = await ways[name]?.(request)
        registry.register({}, null)
        return sse
      }
      const sse = (await answer()) as SSEHandler
      // What became garbage together with this object is gone when the object is.
      await until(() => {
        collectGarbage()
        return seen.isCollected
      })
      controller.abort()
      await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
    })

    it('it is not kept any longer than its stream is open', async () => {
      const open = () => {
        const request = new Request(URL)
        return { request: new WeakRef(request), ...createSSEResponse(request, BARE) }
      }
      const { sse, request } = open()
      sse.abort()
      await sse.closed
      await until(() => {
        collectGarbage()
        return request.deref() === undefined
      })
      expect(sse.phase).toBe('closed')
    })
  })

  it('before it is answered makes no stream: status 499, and nobody is called', async () => {
    const { handler, made } = handled()
    const request = new Request(URL, { signal: AbortSignal.abort() })
    const response = handler(request)
    expect([response.status, response.body, made]).toEqual([499, null, []])
    const { sse } = createSSEResponse(request)
    expect(sse.phase).toBe('closed')
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })
})

describe('createFetchHandler', () => {
  it.each(['throws', 'rejects'])(
    'ends the stream without detail when its function %s, and warns of the error',
    async (how) => {
      const rejections = takeUnhandledRejections()
      const warnings = takeWarnings()
      const { handler, made } = handled((sse) => {
        sse.trySend({ data: 'before' })
        const error = new Error('the password is 1234')
        if (how === 'rejects') return Promise.reject(error)
        throw error
      })
      const text = await handler(new Request(URL)).text()
      expect(text).toContain('data: before\n\nevent: error\n')
      expect(text).toMatch(/event: close\ndata: {"reason":"error"}\n\n$/)
      expect(text).not.toContain('password')
      await expect(made[0]?.closed).resolves.toMatchObject({
        reason: 'error',
        error: { message: 'the password is 1234' },
      })
      await turns(3)
      expect(rejections).toEqual([])
      expect(warnings.map(({ message }) => message)).toEqual(['Error: the password is 1234'])
    },
  )

  it('takes it for no error that its function learns of a client that left', async () => {
    const warnings = takeWarnings()
    const rejections = takeUnhandledRejections()
    const { handler, made } = handled(async (sse) => {
      for (;;) await sse.send({ data: 'x'.repeat(100_000) })
    })
    await handler(new Request(URL)).body?.cancel()
    await expect(made[0]?.closed).resolves.toMatchObject({ reason: 'client-closed' })
    await turns(5)
    expect([warnings, rejections]).toEqual([[], []])
  })

  it('passes on what the server passes besides the request', () => {
    const seen: unknown[] = []
    const handler = createFetchHandler((_, request: Request, context: { id: number }) => {
      seen.push(request.url, context)
    })
    handler(new Request(URL), { id: 1 })
    expect(seen).toEqual([URL, { id: 1 }])
  })

  it.each([
    ['HEAD', { method: 'HEAD' }, 200],
    ['an Accept header that refuses', { headers: { accept: 'text/html' } }, 406],
  ])('does not call its function for %s', (_, init, status) => {
    const { handler, made } = handled()
    expect([handler(new Request(URL, init)).status, made]).toEqual([status, []])
  })

  it('leaves the body of a request to its function, though somebody reads it already', async () => {
    const { handler, made } = handled()
    const request = new Request(URL, { method: 'POST', body: 'question' })
    const reader = request.body?.getReader()
    const response = handler(request)
    expect([response.status, made.length]).toEqual([200, 1])
    const { value } = (await reader?.read()) ?? {}
    expect(new TextDecoder().decode(value)).toBe('question')
    await response.body?.cancel()
  })

  it('says at once what is wrong with its function and its options', () => {
    expect(() => createFetchHandler(undefined as never)).toThrow(/createFetchHandler was given undefined/)
    expect(() => createFetchHandler(() => {}, { maxEvents: 0 })).toThrow(/Option maxEvents is 0/)
  })

  it.each([
    ['nothing', undefined],
    ['a text', URL],
    ['a request whose signal is none', { url: URL, method: 'GET', headers: new Headers(), signal: {} }],
    ['a request of node:http', new IncomingMessage(new Socket())],
  ])('refuses %s in place of a Request, and says what to call', (_, request) => {
    const { handler } = handled()
    const error = (() => {
      try {
        handler(request as never)
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toBeInstanceOf(SSEError)
    expect(error).toMatchObject({
      code: 'ERR_SSE_INVALID_OPTION',
      message: expect.stringContaining('createSSEHandler'),
    })
  })
})

describe('a channel that has ended', () => {
  async function ended() {
    const channel = createChannel()
    const id = await channel.publish({ data: 'all' })
    channel.end()
    return { channel, request: new Request(URL, { headers: { 'last-event-id': id } }) }
  }

  it('answers 204 to a client that has all of it', async () => {
    const { channel, request } = await ended()
    const { handler } = handled((sse) => channel.subscribe(sse))
    expect(handler(request).status).toBe(204)
    const exchange = createSSEResponse(request)
    channel.subscribe(exchange.sse)
    expect(exchange.response.status).toBe(204)
  })

  it('ends the stream when the response was taken before', async () => {
    const { channel, request } = await ended()
    const { sse, response } = createSSEResponse(request)
    channel.subscribe(sse)
    expect(response.status).toBe(200)
    await response.text()
    await expect(sse.closed).resolves.toMatchObject({ reason: 'completed' })
  })
})
