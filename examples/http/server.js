// Plain node:http. Run it: node examples/http/server.js
import { createServer } from 'node:http'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const server = createServer((req, res) => {
  const sse = sluice.open(req, res)
  if (sse === null) return
  ticks.subscribe(sse)
  sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
})

server.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`curl -N http://localhost:${server.address().port}/events`)
})

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  server.close()
  await sluice.shutdown()
})
