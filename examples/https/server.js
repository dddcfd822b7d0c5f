// Plain node:https, with a certificate of your own. Run it:
//   openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
//   KEY=key.pem CERT=cert.pem node examples/https/server.js
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { createChannel, createSluice } from 'sluice'

const sluice = createSluice()
const ticks = createChannel()
let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)

const key = readFileSync(process.env.KEY)
const cert = readFileSync(process.env.CERT)
const server = createServer({ key, cert }, (req, res) => {
  const sse = sluice.open(req, res)
  if (sse === null) return
  ticks.subscribe(sse)
  sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
})

server.listen(Number(process.env.PORT ?? 8443), () => {
  console.log(`curl -kN https://localhost:${server.address().port}/events`)
})

process.once('SIGTERM', async () => {
  clearInterval(ticking)
  server.close()
  await sluice.shutdown()
})
