// Express 5, with compression on. Run it: node examples/express/server.js
import compression from 'compression'
import express from 'express'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const app = express()
app.use(compression())

app.get('/events', (req, res) => {
  const sse = sluice.open(req, res)
  if (sse === null) return
  ticks.subscribe(sse)
  sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
})

const server = app.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`curl -N http://localhost:${server.address().port}/events`)
})

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  server.close()
  await sluice.shutdown()
})
