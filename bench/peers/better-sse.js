import { createChannel, createSession } from 'better-sse'
import { EVENT_NAME } from '../lib/events.js'

export function createPeer() {
  const channel = createChannel()
  return {
    async handle(req, res) {
      channel.register(await createSession(req, res, { keepAlive: null }))
    },
    publish(turn) {
      for (const data of turn) channel.broadcast(data, EVENT_NAME, { eventId: String(data.seq + 1) })
    },
    readers: () => channel.sessionCount,
  }
}
