import { createChannel, createMemoryLog, createSluice, type SSEHandler } from 'sluice'
import { expect, it } from 'vitest'
import { readPage } from '../docs/markdown.js'
import { openPage } from '../support/chromium.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

it('a browser that gets 503 gives up for good, and the page of the docs comes back with its position', async () => {
  const orders = createChannel({ log: createMemoryLog({ epoch: 'o' }) })
  const sluice = createSluice({ retryMs: 5 })
  const asked: string[] = []
  const streams: SSEHandler[] = []
  let isRefusing = false
  const { url } = await serve((req, res) => {
    if (!req.url?.startsWith('/events')) {
      res.setHeader('Content-Type', 'text/html')
      res.end('<title>Orders</title>')
      return
    }
    asked.push(`${req.url} ${isRefusing ? 'refused' : 'open'}`)
    if (isRefusing) {
      res.writeHead(503, { 'Retry-After': '1' }).end()
      return
    }
    const sse = sluice.open(req, res)
    if (sse === null) return
    streams.push(sse)
    orders.subscribe(sse)
  })
  const [code] = readPage('docs/deploying.md').blocks.filter(({ info }) => info.has('browser'))
  const page = await openPage()
  await page.goto(url)
  await page.evaluate(
    `globalThis.given = 0
    globalThis.EventSource = class extends EventSource {
      constructor(url) {
        super(url)
        this.addEventListener('error', () => { if (this.readyState === EventSource.CLOSED) globalThis.given += 1 })
      }
    }`,
  )
  await page.evaluate(code?.code ?? '')
  await until(() => streams.length === 1, 'the page follows')
  await orders.publish({ event: 'order', data: 'one' })
  await page.waitForFunction(`document.title === 'one'`)

  isRefusing = true
  streams[0]?.abort()
  await page.waitForFunction('globalThis.given === 1')
  await orders.publish({ event: 'order', data: 'two' })
  isRefusing = false
  await page.waitForFunction(`document.title === 'two'`)
  expect(asked).toEqual([
    '/events?lastEventId= open',
    '/events?lastEventId= refused',
    '/events?lastEventId=o-1 open',
  ])

  // A stream that ends is another matter: the browser comes back by itself, and says where it is.
  streams[1]?.abort()
  await until(() => streams.length === 3, 'the browser comes back')
  expect(streams[2]?.lastEventId).toBe('o-2')
  await orders.publish({ event: 'done', data: '' })
  await until(() => streams[2]?.phase === 'closed', 'the page has left')
})
