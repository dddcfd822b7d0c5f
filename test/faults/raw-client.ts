import { connect, type Socket } from 'node:net'

const request = (path: string) =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n`

/** Asks for a stream and takes so many bytes from the kernel, not one more. Resolves when it has them. */
export async function takeBytes(port: number, path: string, limit: number): Promise<Socket> {
  let left = limit
  return await new Promise((resolve, reject) => {
    const socket = connect({
      port,
      host: '127.0.0.1',
      onread: {
        buffer: () => new Uint8Array(Math.max(1, left)),
        callback(count) {
          left -= count
          if (left <= 0) resolve(socket)
          return left > 0
        },
      },
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`The stream ended, and ${left} bytes are missing.`)))
    if (limit === 0) socket.pause()
    socket.on('connect', () => {
      socket.write(request(path))
      if (limit === 0) resolve(socket)
    })
  })
}

/** A client that goes its own ways: the caller decides about each packet it can decide about. */
export async function rawStream(port: number, path: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => {})
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  socket.write(request(path))
  return socket
}
