// One connection, as many events as it will take: how each peer is written by somebody who knows it.
import { once } from 'node:events'
import { EVENT_NAME, frameOf, SMALL_TEXT } from '../lib/events.js'

const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

/** How many events better-sse is given before the others get a turn: it tells nobody when to stop. */
const EVENTS_PER_TURN = 64

/** As many events as sluice's queue holds by default: what one of its turns can write. */
const EVENTS_PER_WRITE = 64

const PEERS = {
  async 'sluice requestSend'({ events }) {
    const { createSSEHandler } = await import('sluice')
    return async (req, res) => {
      const sse = createSSEHandler(req, res)
      for (let seq = 0; seq < events; seq += 1) {
        const permit = await sse.requestSend()
        permit.send({ event: EVENT_NAME, data: { seq, text: SMALL_TEXT } })
      }
      await sse.close()
    }
  },

  async 'sluice send'({ events }) {
    const { createSSEHandler } = await import('sluice')
    return async (req, res) => {
      const sse = createSSEHandler(req, res)
      for (let seq = 0; seq < events; seq += 1) {
        await sse.send({ event: EVENT_NAME, data: { seq, text: SMALL_TEXT } })
      }
      await sse.close()
    }
  },

  async 'sluice channel requestSend'({ events }) {
    const { createChannel, createSSEHandler } = await import('sluice')
    return async (req, res) => {
      // Waits for its reader, as the others do.
      const channel = createChannel({ slowConsumer: 'wait' })
      channel.subscribe(createSSEHandler(req, res))
      for (let seq = 0; seq < events; seq += 1) {
        const permit = await channel.requestSend()
        permit.send({ event: EVENT_NAME, data: { seq, text: SMALL_TEXT } })
      }
      channel.end()
    }
  },

  async 'sluice channel send'({ events }) {
    const { createChannel, createSSEHandler } = await import('sluice')
    return async (req, res) => {
      // Waits for its reader, as the others do.
      const channel = createChannel({ slowConsumer: 'wait' })
      channel.subscribe(createSSEHandler(req, res))
      for (let seq = 0; seq < events; seq += 1) {
        await channel.send({ event: EVENT_NAME, data: { seq, text: SMALL_TEXT } })
      }
      channel.end()
    }
  },

  'res.write + await drain'({ events }) {
    return async (_req, res) => {
      res.writeHead(200, STREAM_HEADERS)
      for (let seq = 0; seq < events; seq += 1) {
        if (!res.write(frameOf({ seq, text: SMALL_TEXT }))) await once(res, 'drain')
      }
      res.end()
    }
  },

  'better-sse push': ({ events }) => betterSse(events, undefined),

  /** By default every event gets a random id. */
  'better-sse push, empty id': ({ events }) => betterSse(events, ''),

  /** No HTTP library at all: encode, join, one write to the socket a turn. */
  floor({ events }) {
    return async (_req, res) => {
      const { socket } = res
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n' +
          'Connection: close\r\n\r\n',
      )
      for (let seq = 0; seq < events; ) {
        const frames = []
        while (frames.length < EVENTS_PER_WRITE && seq < events) {
          frames.push(frameOf({ seq, text: SMALL_TEXT }))
          seq += 1
        }
        // As a string: a Buffer made of it costs a copy more.
        if (!socket.write(frames.join(''))) await once(socket, 'drain')
        await nextTurn()
      }
      socket.end()
    }
  },
}

async function betterSse(events, id) {
  const { createSession } = await import('better-sse')
  return async (req, res) => {
    const session = await createSession(req, res)
    for (let seq = 0; seq < events; seq += 1) {
      session.push({ seq, text: SMALL_TEXT }, EVENT_NAME, id)
      if (seq % EVENTS_PER_TURN === EVENTS_PER_TURN - 1) await nextTurn()
    }
    res.end()
  }
}

export async function createPeer(name, size) {
  return { handle: await PEERS[name](size) }
}

/** Cheaper than the one of `node:timers/promises`. */
function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve))
}
