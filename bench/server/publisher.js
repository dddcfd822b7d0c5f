// Publishes to many readers in a closed loop: the publisher is never more than `window` events ahead of the slowest
// reader, whoever the peer is. The load client says over a connection of its own, every 2 ms at most, how far its
// slowest reader is; while that is too far behind, the publisher sleeps until it hears more. So a peer that buffers
// without bound does not get ahead of its work, and waiting costs no CPU. The window is smaller than what the kernel
// takes for a connection: what is written leaves at once, and is not joined by waiting behind a full socket.
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { nowMicros, sharedText, TIMED_TEXT } from '../lib/events.js'

/** `publish` gives all readers the events of a turn; `cpuMicroseconds` and `writeCalls` are what the server has taken so far. */
export function createPublisher({ publish, cpuMicroseconds, writeCalls }, { eventBytes }) {
  const text = sharedText(eventBytes)
  const withText = (seq) => ({ seq, text })
  let published = 0
  let acknowledged = 0
  let wrong = null
  let wake = () => {}
  let isPacing = false
  let paced = Promise.resolve()

  async function turn(count, dataOf) {
    const data = Array.from({ length: count }, (_, i) => dataOf(published + i))
    published += count
    await publish(data)
  }

  async function acknowledgedUpTo(count) {
    while (acknowledged < count) {
      if (wrong !== null) throw new Error(wrong)
      await new Promise((resolve) => {
        wake = resolve
      })
    }
  }

  async function measured(work) {
    const publishedBefore = published
    const writesBefore = writeCalls()
    const cpuBefore = cpuMicroseconds()
    const startedAt = performance.now()
    await work()
    const publishingMs = performance.now() - startedAt
    await acknowledgedUpTo(published)
    return {
      events: published - publishedBefore,
      cpuMicros: cpuMicroseconds() - cpuBefore,
      writes: writeCalls() - writesBefore,
      publishingMs,
      wallMs: performance.now() - startedAt,
    }
  }

  return {
    /** Where the load client connects to, to say how far its slowest reader is. */
    async listenForProgress() {
      const server = net.createServer((socket) => {
        let rest = ''
        socket.setEncoding('latin1')
        socket.on('data', (text) => {
          const lines = (rest + text).split('\n')
          rest = lines.pop()
          if (lines.length === 0) return
          const news = JSON.parse(lines.at(-1))
          if (typeof news === 'number') acknowledged = news
          else wrong = news
          wake()
        })
      })
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server.address().port
    },

    /**
     * Publishes turns of `perTurn` events, one in each turn of the event loop, for `forMs` and at least `turns` of
     * them; resolves when all readers have all of them.
     */
    publish: ({ perTurn, window, turns = 0, forMs = 0 }) =>
      measured(async () => {
        const startedAt = performance.now()
        for (let done = 0; done < turns || performance.now() - startedAt < forMs; done += 1) {
          await acknowledgedUpTo(published + perTurn - window)
          await turn(perTurn, withText)
          await nextTurn()
        }
      }),

    /** Publishes an event every so often, as far as the window allows; resolves when all readers have all of them. */
    publishPaced: ({ everyMs, window, forMs }) =>
      measured(async () => {
        const startedAt = performance.now()
        for (let dueMs = 0; dueMs < forMs; dueMs += everyMs) {
          const waitMs = startedAt + dueMs - performance.now()
          // A publisher that is late catches up, an event in each turn.
          await (waitMs > 0 ? delay(Math.ceil(waitMs)) : nextTurn())
          await acknowledgedUpTo(published + 1 - window)
          await turn(1, withTime)
        }
      }),

    /** Publishes an event every so often until `stopPacing`, whatever the readers do. Says how many there are by now. */
    startPacing({ everyMs }) {
      isPacing = true
      paced = (async () => {
        while (isPacing) {
          await turn(1, withText)
          await delay(everyMs)
        }
      })()
      return published
    },

    /** Says how many events were published in all. */
    async stopPacing() {
      isPacing = false
      await paced
      return published
    },
  }
}

function withTime(seq) {
  return { seq, at: nowMicros(), text: TIMED_TEXT }
}

/** Cheaper than the one of `node:timers/promises`. */
function nextTurn() {
  return new Promise((resolve) => setImmediate(resolve))
}
