import Koa from 'koa'
import compress from 'koa-compress'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT, wants } from './stage.js'

const app = new Koa()
if (wants('compression')) app.use(compress())
app.use(async (_, next) => {
  await lookUpSession()
  await next()
})
app.use((ctx) => {
  if (ctx.path === '/text') {
    ctx.body = TEXT
    return
  }
  ctx.respond = false
  play(createSSEHandler(ctx.req, ctx.res))
})

const server = app.listen(0, '127.0.0.1', () => ready(server))
