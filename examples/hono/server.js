// Hono on Node, with compression on. Run it: node examples/hono/server.js
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { compress } from 'hono/compress'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const app = new Hono()
app.use(compress())

app.get('/events', (c) => {
  const answer = sluice.respond(c.req.raw)
  if (answer.sse !== null) {
    ticks.subscribe(answer.sse)
    answer.sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
  }
  return answer.response
})

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8080) }, ({ port }) => {
  console.log(`curl -N http://localhost:${port}/events`)
})

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  server.close()
  await sluice.shutdown()
  server.closeIdleConnections()
})
