import 'reflect-metadata'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import { Controller, Get, Module, Req, Res } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import express from 'express'
import session from 'express-session'
import Koa from 'koa'
import { createSSEHandler, SSEError, type SSEHandler } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { get } from '../support/get.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const headersSent = expect.objectContaining({ code: 'ERR_SSE_HEADERS_SENT' })

/** The url of an application's server; gone when the test ends. */
async function listen(app: { listen(port: number, host: string): Server }): Promise<string> {
  const server = app.listen(0, '127.0.0.1') as Server & { closeAllConnections(): void }
  await until(() => server.listening)
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`
}

describe('a response that has started', () => {
  it('with Express is told by ERR_SSE_HEADERS_SENT, and left alone', async () => {
    const errors: unknown[] = []
    const app = express()
    app.get('/events', (req, res) => {
      res.send('mine')
      try {
        createSSEHandler(req, res)
      } catch (error) {
        errors.push(error)
      }
    })
    expect((await get(await listen(app))).text).toBe('mine')
    expect(errors).toEqual([headersSent])
  })

  it('that Express passes to its error handler is closed by it', async () => {
    const app = express()
    const errors: unknown[] = []
    app.get('/events', (req, res) => {
      res.write('mine')
      createSSEHandler(req, res)
    })
    app.use((error: unknown, _: unknown, __: unknown, next: (error: unknown) => void) => {
      errors.push(error)
      next(error)
    })
    app.set('env', 'test')
    await expect(get(await listen(app))).rejects.toThrow('aborted')
    expect(errors).toEqual([headersSent])
  })

  it('with Koa is told by ERR_SSE_HEADERS_SENT', async () => {
    const app = new Koa()
    const errors: unknown[] = []
    app.on('error', (error) => errors.push(error))
    app.use((ctx) => {
      ctx.respond = false
      ctx.res.end('mine')
      createSSEHandler(ctx.req, ctx.res)
    })
    expect((await get(await listen(app))).text).toBe('mine')
    await until(() => errors.length === 1)
    expect(errors).toEqual([headersSent])
  })
})

describe('a framework that answers, too', () => {
  it('such as Koa without ctx.respond = false ends the stream: transport-closed', async () => {
    const opened: SSEHandler[] = []
    const app = new Koa()
    app.use((ctx) => void opened.push(createSSEHandler(ctx.req, ctx.res)))
    expect((await get(await listen(app))).status).toBe(404)
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'transport-closed' })
  })

  it('such as a handler of Express that sends, too, ends the stream: transport-closed', async () => {
    const opened: SSEHandler[] = []
    const app = express()
    app.get('/events', (req, res) => {
      opened.push(createSSEHandler(req, res))
      res.send('mine')
    })
    expect((await get(await listen(app))).text).toBe('mine')
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'transport-closed' })
  })
})

describe('NestJS', () => {
  /** A controller whose method `events` gets the response by the decorator; written without the syntax of decorators. */
  async function nest(res: ParameterDecorator): Promise<{ url: string; opened: SSEHandler[] }> {
    const opened: SSEHandler[] = []
    class Events {
      events(request: IncomingMessage, response: ServerResponse): void {
        opened.push(createSSEHandler(request, response))
      }
    }
    Req()(Events.prototype, 'events', 0)
    res(Events.prototype, 'events', 1)
    const method = Object.getOwnPropertyDescriptor(Events.prototype, 'events')
    Get('events')(Events.prototype, 'events', method as PropertyDescriptor)
    Controller()(Events)
    class AppModule {}
    Module({ controllers: [Events] })(AppModule)
    const app = await NestFactory.create(AppModule, { logger: false })
    onTestFinished(() => app.close())
    await app.listen(0, '127.0.0.1')
    return { url: `${await app.getUrl()}/events`, opened }
  }

  it('leaves the answer to a method with @Res()', async () => {
    const { url } = await nest(Res())
    const client = await connect(url)
    await client.until((events) => events.length === 1)
    client.leave()
  })

  it('answers, too, with @Res({ passthrough: true }): transport-closed', async () => {
    const { url, opened } = await nest(Res({ passthrough: true }))
    expect((await get(url)).text).toBe('')
    await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'transport-closed' })
  })
})

describe('express-session', () => {
  it('saves a changed session when the stream ends, or when it is told to', async () => {
    const store = new session.MemoryStore()
    const saved = () => Object.keys((store as unknown as { sessions: object }).sessions).length
    const opened: SSEHandler[] = []
    const app = express()
    app.use(session({ secret: 'test', resave: false, saveUninitialized: true, store }))
    app.get('/events', (req, res) => {
      opened.push(createSSEHandler(req, res))
    })
    app.get('/saved', (req, res) => req.session.save(() => void createSSEHandler(req, res)))
    const url = await listen(app)
    const late = await connect(url)
    await late.until((events) => events.length === 1)
    expect(saved()).toBe(0)
    await opened[0]?.close()
    await until(() => late.ended)
    expect(saved()).toBe(1)
    const early = await connect(url.replace('events', 'saved'))
    await early.until((events) => events.length === 1)
    expect(saved()).toBe(2)
  })
})

describe('a middleware that replaces res.write', () => {
  /** Keeps what is written until it is let go. */
  function keep(res: ServerResponse) {
    const kept: Uint8Array[] = []
    const { write } = res
    let isKeeping = true
    res.write = ((chunk: Uint8Array) => {
      if (!isKeeping) return write.call(res, chunk, 'utf8')
      kept.push(chunk)
      return true
    }) as ServerResponse['write']
    return {
      kept,
      letGo: () => {
        isKeeping = false
        for (const chunk of kept.splice(0)) write.call(res, chunk, 'utf8')
      },
    }
  }

  async function behind(middleware: (res: ServerResponse) => void, options = {}) {
    const opened: SSEHandler[] = []
    const { url } = await serve((req: IncomingMessage, res) => {
      middleware(res)
      opened.push(createSSEHandler(req, res, { firstEvent: false, ...options }))
    })
    return { url, opened, first: () => opened[0] as SSEHandler }
  }

  it('and keeps all of it blocks the stream with one write, and has it closed: write-stalled', async () => {
    let kept: Uint8Array[] = []
    const { url, opened, first } = await behind(
      (res) => {
        kept = keep(res).kept
      },
      { writeStallMs: 200, maxEvents: 4 },
    )
    const answer = get(url).catch((error: Error) => error.message)
    await until(() => opened.length === 1)
    let sent = 0
    const sending = (async () => {
      for (; ; sent += 1) await first().send({ data: 'x' })
    })().catch((error: SSEError) => error.code)
    await expect(first().closed).resolves.toMatchObject({ reason: 'write-stalled' })
    await expect(sending).resolves.toBe('ERR_SSE_CLOSED')
    expect(kept).toHaveLength(1)
    expect(sent).toBeLessThan(20)
    await expect(answer).resolves.toBe('read ECONNRESET')
  })

  it('and keeps the first bytes for a while only delays the stream', async () => {
    let letGo = () => {}
    const { url, opened, first } = await behind((res) => {
      letGo = keep(res).letGo
    })
    const connecting = connect(url)
    await until(() => opened.length === 1)
    await first().send({ data: 'early' })
    await until(() => first().phase === 'blocked')
    letGo()
    await until(() => first().phase === 'flowing')
    const client = await connecting
    await client.until((events) => events.length === 1)
    expect(client.events[0]?.data).toBe('early')
  })

  it('and has a flush, such as that of a compression, is flushed at each write', async () => {
    const { url, opened, first } = await behind((res) => {
      const { write } = res
      const kept: Uint8Array[] = []
      res.write = ((chunk: Uint8Array) => kept.push(chunk) > 0) as ServerResponse['write']
      Object.assign(res, { flush: () => void write.call(res, Buffer.concat(kept.splice(0)), 'utf8') })
    })
    const client = await connect(url)
    await until(() => opened.length === 1)
    for (const data of ['one', 'two']) {
      await first().send({ data })
      await client.until((events) => events.at(-1)?.data === data)
    }
  })

  it('and throws closes the stream: transport-error', async () => {
    const { url, opened, first } = await behind((res) => {
      res.write = () => {
        throw new SSEError('ERR_SSE_CLOSED', 'on purpose')
      }
    })
    const answer = get(url).catch((error: Error) => error.message)
    await until(() => opened.length === 1)
    await expect(first().closed).resolves.toMatchObject({ reason: 'transport-error' })
    await expect(answer).resolves.toBe('read ECONNRESET')
  })
})

it('a response that a layer has corked and leaves so is closed: write-stalled', async () => {
  const opened: SSEHandler[] = []
  const { url } = await serve((req: IncomingMessage, res) => {
    res.cork()
    opened.push(createSSEHandler(req, res, { writeStallMs: 200 }))
  })
  get(url).catch(() => {})
  await until(() => opened.length === 1)
  await expect(opened[0]?.closed).resolves.toMatchObject({ reason: 'write-stalled' })
})
