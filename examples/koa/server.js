// Koa 3, with compression on. Run it: node examples/koa/server.js
import Koa from 'koa'
import compress from 'koa-compress'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const app = new Koa()
app.use(compress())

app.use((ctx) => {
  if (ctx.path !== '/events') return
  // Or Koa answers as well when this function returns.
  ctx.respond = false
  const sse = sluice.open(ctx.req, ctx.res)
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
