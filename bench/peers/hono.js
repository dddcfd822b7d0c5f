import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { EVENT_NAME } from '../lib/events.js'

export function createPeer() {
  const streams = new Set()
  const app = new Hono()
  app.get('/', (context) =>
    streamSSE(context, async (stream) => {
      // The head leaves with the first bytes.
      await stream.write('retry: 2000\n\n')
      streams.add(stream)
      await new Promise((resolve) => stream.onAbort(resolve))
      streams.delete(stream)
    }),
  )
  return {
    handle: getRequestListener(app.fetch),
    publish(turn) {
      for (const data of turn) {
        const event = { id: String(data.seq + 1), event: EVENT_NAME, data: JSON.stringify(data) }
        // Not awaited, or one slow reader would hold up all others. It never rejects.
        for (const stream of streams) stream.writeSSE(event)
      }
    },
    readers: () => streams.size,
  }
}
