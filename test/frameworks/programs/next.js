// The test has built the application in next/ with `next build`.
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import next from 'next'
import { ready } from './stage.js'

const app = next({ dev: false, dir: fileURLToPath(new URL('next', import.meta.url)) })
await app.prepare()
const server = createServer(app.getRequestHandler())

server.listen(0, '127.0.0.1', () =>
  ready(server, async () => {
    server.close()
    await app.close()
  }),
)
