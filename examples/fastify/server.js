// Fastify 5, with CORS and compression on. Run it: node examples/fastify/server.js
import compress from '@fastify/compress'
import cors from '@fastify/cors'
import Fastify from 'fastify'
import { createChannel, createSluice } from 'sluice'
import { fastifySSE } from 'sluice/fastify'

const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const app = Fastify()
await app.register(cors, { origin: 'https://app.example' })
await app.register(compress)
await app.register(fastifySSE, { sluice: createSluice() })

app.get('/events', (_request, reply) => {
  const sse = reply.sse()
  ticks.subscribe(sse)
  sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
})

await app.listen({ port: Number(process.env.PORT ?? 8080) })
console.log(`curl -N http://localhost:${app.server.address().port}/events`)

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  await app.close()
})
