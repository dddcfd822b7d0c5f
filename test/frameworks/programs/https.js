import { createServer } from 'node:https'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT } from './stage.js'

const { KEY: key, CERT: cert } = process.env
const server = createServer({ key, cert }, async (req, res) => {
  await lookUpSession()
  if (req.url === '/text') res.end(TEXT)
  else play(createSSEHandler(req, res))
})

server.listen(0, '127.0.0.1', () => ready(server))
