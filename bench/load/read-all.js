import net from 'node:net'
import { request } from './connections.js'

const LAST_CHUNK = '0\r\n\r\n'

/**
 * Reads one stream to its end and keeps the bytes; nothing is parsed while the server's time is taken, so that
 * the client is not what one waits for.
 */
export function readAll(port, path) {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const cpuBefore = process.cpuUsage()
    const parts = []
    let tail = Buffer.alloc(0)
    const socket = net.connect(port, '127.0.0.1')
    socket.write(request(path))
    socket.on('error', reject)
    socket.on('data', (part) => {
      parts.push(part)
      tail = Buffer.concat([tail, part.subarray(-LAST_CHUNK.length)]).subarray(-LAST_CHUNK.length)
      // No payload of the benchmark holds a CR, so this is the end and nothing else.
      if (tail.latin1Slice() === LAST_CHUNK) socket.destroy()
    })
    // The end of a stream without chunks is the end of its connection.
    socket.on('close', () => {
      const { user, system } = process.cpuUsage(cpuBefore)
      resolve({ parts, wallMs: performance.now() - startedAt, cpuMs: (user + system) / 1000 })
    })
  })
}
