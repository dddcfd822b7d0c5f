import { once } from 'node:events'
import { createSecureServer } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { createMemoryLog, createSSEHandler, type SSEHandler } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { certificate } from '../support/certificate.js'
import { openPage } from '../support/chromium.js'
import { until } from '../support/until.js'

const STREAMS = 20

it('a browser follows more streams over one connection of HTTP/2 than HTTP/1.1 lets it, and resumes one that is reset', async () => {
  const log = createMemoryLog()
  const made: SSEHandler[] = []
  const versions = new Set<string>()
  const sessions = new Set<unknown>()
  const sockets: Socket[] = []
  const server = createSecureServer({ ...certificate, allowHTTP1: true }, (req, res) => {
    if (!req.url.startsWith('/events')) {
      res.setHeader('Content-Type', 'text/html')
      res.end('<title>Streams</title>')
      return
    }
    versions.add(req.httpVersion)
    sessions.add(res.stream.session)
    made.push(createSSEHandler(req, res, { log, retryMs: 5 }))
  })
  server.on('connection', (socket: Socket) => sockets.push(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  })

  const page = await openPage({ ignoreHTTPSErrors: true })
  await page.goto(`https://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  await page.evaluate(
    `globalThis.seen = []
    for (let i = 0; i < ${STREAMS}; i += 1) {
      globalThis.seen.push([])
      new EventSource('/events?' + i).addEventListener('tick', ({ data }) => globalThis.seen[i].push(data))
    }`,
  )
  await until(() => made.length === STREAMS, 'all streams are open')
  await until(() => made.every((sse) => sse.stats().bytesSent > 0))
  await made[0]?.send({ event: 'tick', data: 1 })
  await until(() => made.every((sse) => sse.stats().lastId === made[0]?.stats().lastId))
  made[0]?.abort()
  await until(() => made.length === STREAMS + 1, 'the browser has come back')
  await made[1]?.send({ event: 'tick', data: 2 })
  await page.waitForFunction(`globalThis.seen.every((ticks) => ticks.join() === '1,2')`)
  expect([[...versions], sessions.size]).toEqual([['2.0'], 1])
  expect(made.slice(1).every(({ phase }) => phase === 'flowing')).toBe(true)
})
