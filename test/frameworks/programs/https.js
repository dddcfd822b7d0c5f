import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT } from './stage.js'

const pem = readFileSync(new URL('../../support/localhost.pem', import.meta.url))
const server = createServer({ key: pem, cert: pem }, async (req, res) => {
  await lookUpSession()
  if (req.url === '/text') res.end(TEXT)
  else play(createSSEHandler(req, res))
})

server.listen(0, '127.0.0.1', () => ready(server))
