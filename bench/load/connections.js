import { once } from 'node:events'
import net from 'node:net'

/** So many may be on their way at once: fewer than the server's backlog. */
export const OPENING_AT_ONCE = 200

export function request(path = '/', lastEventId = undefined) {
  const position = lastEventId === undefined ? '' : `Last-Event-ID: ${lastEventId}\r\n`
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${position}\r\n`
}

/** Opens connections that read and throw away; resolves when each has got its first bytes. */
export async function openConnections(port, count) {
  const sockets = []
  while (sockets.length < count) {
    const wave = Array.from({ length: Math.min(OPENING_AT_ONCE, count - sockets.length) }, async () => {
      const socket = net.connect(port, '127.0.0.1')
      socket.on('error', ignoreReset)
      socket.write(request())
      await once(socket, 'data')
      socket.resume()
      return socket
    })
    sockets.push(...(await Promise.all(wave)))
  }
  return sockets
}

/** Connections that send their request and read nothing, ever. */
export async function openStalled(port, count, path = '/stalled') {
  const opening = Array.from({ length: count }, async () => {
    const socket = net.connect(port, '127.0.0.1')
    socket.pause()
    socket.on('error', ignoreReset)
    socket.write(request(path))
    await once(socket, 'connect')
    return socket
  })
  return Promise.all(opening)
}

/** Leaves the server without a word: by FIN, or by RST. */
export async function abandon(sockets, { reset }) {
  const closed = sockets.map((socket) => once(socket, 'close'))
  for (const socket of sockets) {
    if (reset) socket.resetAndDestroy()
    else socket.destroy()
  }
  await Promise.all(closed)
}

/** A reset is how some of these connections are meant to end; an early one shows in the counts. */
function ignoreReset() {}
