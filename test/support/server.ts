import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface TestServer {
  url: string
  port: number
  server: Server
}

/** A real HTTP server on a port the system chooses; gone when the test ends. */
export async function serve(
  handler: (req: IncomingMessage, res: ServerResponse) => unknown,
): Promise<TestServer> {
  const server = createServer((req, res) => void handler(req, res))
  // As many may wait in line as the system allows: some tests come with a thousand at once.
  const where = { port: 0, host: '127.0.0.1', backlog: 4096 }
  await new Promise<void>((resolve) => server.listen(where, resolve))
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  )
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/`, port, server }
}
