import fastifySSE from '@fastify/sse'
import fastify from 'fastify'
import { EVENT_NAME } from '../lib/events.js'

export async function createPeer() {
  const streams = new Set()
  const app = fastify()
  await app.register(fastifySSE)
  app.get('/', { sse: { kind: 'only', heartbeat: false } }, async (_request, reply) => {
    reply.sse.keepAlive()
    reply.sse.sendHeaders()
    reply.raw.flushHeaders()
    streams.add(reply.sse)
    reply.sse.onClose(() => streams.delete(reply.sse))
  })
  await app.ready()
  return {
    handle: (req, res) => app.routing(req, res),
    publish(turn) {
      for (const data of turn) {
        const event = { id: String(data.seq + 1), event: EVENT_NAME, data }
        for (const stream of streams) stream.send(event).catch(ignoreClosed)
      }
    },
    readers: () => streams.size,
  }
}

/** A reader that has left between two events. */
function ignoreClosed() {}
