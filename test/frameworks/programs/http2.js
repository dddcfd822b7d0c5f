import { createSecureServer } from 'node:http2'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT } from './stage.js'

const { KEY: key, CERT: cert } = process.env
const sessions = new Set()
const server = createSecureServer({ key, cert }, async (req, res) => {
  await lookUpSession()
  if (req.url === '/text') res.end(TEXT)
  else play(createSSEHandler(req, res))
})
server.on('session', (session) => {
  sessions.add(session)
  session.on('close', () => sessions.delete(session))
})

server.listen(0, '127.0.0.1', () =>
  ready(server, () => {
    server.close()
    for (const session of sessions) session.close()
  }),
)
