import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { compress } from 'hono/compress'
import { createSSEResponse } from 'sluice'
import { lookUpSession, play, ready, TEXT, wants } from './stage.js'

const app = new Hono()
if (wants('compression')) app.use(compress())
app.use(async (_, next) => {
  await lookUpSession()
  await next()
})
app.get('/text', (c) => c.text(TEXT))
app.get('/events', (c) => {
  const exchange = createSSEResponse(c.req.raw)
  play(exchange.sse)
  return exchange.response
})

const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, () => ready(server))
