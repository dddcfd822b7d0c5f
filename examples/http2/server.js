// node:http2, which browsers speak over TLS only, with a certificate of your own. Run it:
//   openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
//   KEY=key.pem CERT=cert.pem node examples/http2/server.js
import { readFileSync } from 'node:fs'
import { createSecureServer } from 'node:http2'
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
const server = createSecureServer({ key, cert, allowHTTP1: true }, (req, res) => {
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
