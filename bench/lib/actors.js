import { fileURLToPath } from 'node:url'
import { startProcess } from './processes.js'

const SERVER = fileURLToPath(new URL('../server/process.js', import.meta.url))
const CLIENT = fileURLToPath(new URL('../load/client.js', import.meta.url))

export function startClient() {
  return startProcess(CLIENT)
}

/** Runs `use(server, port)` against a fresh server of one peer, which is gone afterwards. */
export async function withServer(scenario, peer, size, use) {
  const server = startProcess(SERVER, [scenario, peer, JSON.stringify(size)])
  try {
    return await use(server, await server.call('listen'))
  } finally {
    await server.stop()
  }
}
