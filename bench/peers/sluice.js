import { createChannel, createMemoryLog, createSSEHandler } from 'sluice'
import { EVENT_NAME } from '../lib/events.js'

const OPTIONS = { heartbeat: { format: 'none' } }

/** Short, so that one need not wait long for the readers that never read. */
const MAX_WAIT_MS = 1000

export function createPeer({ history, flushIntervalMs, slowConsumer }) {
  const channel = createChannel({
    log: createMemoryLog({ maxEvents: history }),
    flushIntervalMs,
    slowConsumer,
    maxWaitMs: MAX_WAIT_MS,
  })

  /** Waits for the last: it is held up for as long as any of them. */
  function publishAll(turn) {
    let published
    for (const data of turn) published = channel.publish({ event: EVENT_NAME, data })
    return published
  }

  async function sendEach(turn) {
    for (const data of turn) await channel.send({ event: EVENT_NAME, data })
  }

  return {
    handle: (req, res) => channel.subscribe(createSSEHandler(req, res, OPTIONS)),
    publish: slowConsumer === undefined ? publishAll : sendEach,
    readers: () => channel.readers,
  }
}
