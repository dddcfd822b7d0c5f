// No library at all: plain sockets, and one buffer a turn that all of them share.
import { frameWithId } from '../lib/events.js'

const HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n' +
  'Connection: close\r\n\r\nretry: 2000\n\n'

export function createPeer({ history = 0 }) {
  const sockets = new Set()
  const frames = []
  const backlogs = new Map()

  /** What came after an event: joined for the first who asks, and what was published since. */
  function backlogAfter(id) {
    if (!backlogs.has(id)) {
      backlogs.set(id, { shared: Buffer.from(frames.slice(id).join('')), end: frames.length })
    }
    const { shared, end } = backlogs.get(id)
    return [shared, ...frames.slice(end)]
  }

  return {
    handle(req, { socket }) {
      socket.write(HEAD)
      const lastEventId = req.headers['last-event-id']
      if (lastEventId !== undefined) {
        for (const part of backlogAfter(Number(lastEventId))) socket.write(part)
      }
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    },
    publish(turn) {
      const texts = turn.map(frameWithId)
      if (history > 0) frames.push(...texts)
      const buffer = Buffer.from(texts.join(''))
      for (const socket of sockets) socket.write(buffer)
    },
    readers: () => sockets.size,
  }
}
