// What most programs do that use no library: a set of responses, and an array of what was sent last.
import { frameWithId } from '../lib/events.js'

const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

export function createPeer({ history = 0 }) {
  const responses = new Set()
  const recent = []
  return {
    handle(req, res) {
      res.writeHead(200, STREAM_HEADERS)
      res.write('retry: 2000\n\n')
      const lastEventId = req.headers['last-event-id']
      if (lastEventId !== undefined) {
        for (const { id, frame } of recent) if (id > Number(lastEventId)) res.write(frame)
      }
      responses.add(res)
      res.on('close', () => responses.delete(res))
    },
    publish(turn) {
      for (const data of turn) {
        const frame = frameWithId(data)
        if (history > 0 && recent.push({ id: data.seq + 1, frame }) > history) recent.shift()
        for (const res of responses) res.write(frame)
      }
    },
    readers: () => responses.size,
  }
}
