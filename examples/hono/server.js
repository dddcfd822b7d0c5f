// Hono on Node, with compression on. Run it: node examples/hono/server.js
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { compress } from 'hono/compress'
import { createChannel, createFetchHandler } from 'sluice'

const streams = new Set()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const answer = createFetchHandler((sse) => {
  ticks.subscribe(sse)
  streams.add(sse)
  sse.on('closed', ({ reason }) => {
    streams.delete(sse)
    console.log(`A client is gone: ${reason}`)
  })
})

const app = new Hono()
app.use(compress())
app.get('/events', (c) => answer(c.req.raw))

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8080) }, ({ port }) => {
  console.log(`curl -N http://localhost:${port}/events`)
})

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  server.close()
  await Promise.all([...streams].map((sse) => sse.close({ reason: 'shutdown' })))
  server.closeIdleConnections()
})
