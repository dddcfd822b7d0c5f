// Clients that never read, and one beside them that does. `/stalled` is offered `size.offeredBytes` in events of
// `size.eventBytes`; `/fast` gets `size.fastEvents` small ones, the second half when the others stand still; any
// other path gets them all at once.
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { EVENT_NAME, frameOf, SMALL_TEXT, textFor } from '../lib/events.js'

const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

/** Each opens a writer for a response: `put` one event, `isWaiting`, `isClosed`, `end`. */
const PEERS = {
  async sluice() {
    const { createSSEHandler } = await import('sluice')
    return (req, res) => {
      const sse = createSSEHandler(req, res)
      return {
        async put(data) {
          const permit = await sse.requestSend()
          permit.send({ event: EVENT_NAME, data })
        },
        isWaiting: () => sse.stats().waiters === 1,
        isClosed: () => sse.phase === 'closed',
        end: () => sse.close(),
      }
    }
  },

  'res.write + await drain'() {
    return (_req, res) => {
      let waiting = false
      res.writeHead(200, STREAM_HEADERS)
      return {
        async put(data) {
          if (res.write(frameOf(data))) return
          waiting = true
          await once(res, 'drain')
          waiting = false
        },
        isWaiting: () => waiting,
        isClosed: () => res.destroyed,
        end: () => res.end(),
      }
    }
  },

  'res.write, result ignored'() {
    return (_req, res) => {
      res.writeHead(200, STREAM_HEADERS)
      return {
        async put(data) {
          res.write(frameOf(data))
          await nextTurn()
        },
        isWaiting: () => false,
        isClosed: () => res.destroyed,
        end: () => res.end(),
      }
    }
  },

  async 'better-sse push'() {
    const { createSession } = await import('better-sse')
    return async (req, res) => {
      const session = await createSession(req, res)
      return {
        async put(data) {
          session.push(data, EVENT_NAME)
          await nextTurn()
        },
        isWaiting: () => false,
        isClosed: () => !session.isConnected,
        end: () => res.end(),
      }
    }
  },
}

export async function createPeer(name, { offeredBytes, eventBytes, fastEvents }) {
  const open = await PEERS[name]()
  const text = textFor(eventBytes)
  const stalled = []
  let release
  const released = new Promise((resolve) => {
    release = resolve
  })

  async function feedStalled(writer) {
    const producer = { writer, offered: 0 }
    stalled.push(producer)
    for (let seq = 0; producer.offered < offeredBytes && !writer.isClosed(); seq += 1) {
      await writer.put({ seq, text })
      producer.offered += eventBytes
    }
  }

  async function feedFast(writer, isHeldBack) {
    for (let seq = 0; seq < fastEvents; seq += 1) {
      if (isHeldBack && seq === fastEvents / 2) await released
      await writer.put({ seq, text: SMALL_TEXT })
    }
    await writer.end()
  }

  return {
    async handle(req, res) {
      const writer = await open(req, res)
      try {
        if (req.url === '/stalled') await feedStalled(writer)
        else await feedFast(writer, req.url === '/fast')
      } catch (error) {
        if (!writer.isClosed()) throw error
      }
    },

    /** Lets the fast client have the second half of its events. */
    release,

    state: () => ({
      producers: stalled.length,
      waiting: stalled.filter(({ writer }) => writer.isWaiting()).length,
      done: stalled.filter(({ offered }) => offered >= offeredBytes).length,
      closed: stalled.filter(({ writer }) => writer.isClosed()).length,
      offeredBytes: stalled.reduce((sum, { offered }) => sum + offered, 0),
    }),
  }
}
