// The load client: a process of its own, driven by calls.
import { cpuMicroseconds } from '../lib/operating-system.js'
import { answerCalls } from '../lib/processes.js'
import { abandon, openConnections, openStalled } from './connections.js'
import { bodyOf, wrongWith } from './decode.js'
import { readAll } from './read-all.js'
import { Readers } from './readers.js'

const readers = new Readers()
let held = []
let response = Buffer.alloc(0)

answerCalls({
  /** Reads one stream to its end; `check` may look at it afterwards. */
  async read(port, path) {
    const { parts, wallMs, cpuMs } = await readAll(port, path)
    response = Buffer.concat(parts)
    return { wallMs, cpuMs, bytes: response.length }
  },

  /** What is wrong with the stream that was read last, or null. */
  check(expected) {
    return wrongWith(bodyOf(response), expected)
  },

  async open(port, count) {
    held.push(...(await openConnections(port, count)))
  },

  async stall(port, count, path) {
    held.push(...(await openStalled(port, count, path)))
  },

  /** How many of the connections held are still open, and what they have read. */
  held() {
    return {
      open: held.filter((socket) => !socket.destroyed).length,
      bytesRead: held.reduce((sum, socket) => sum + socket.bytesRead, 0),
    }
  },

  /** Has so many read and check what they get; they expect it from event `from` on. */
  follow: (port, count, expected) => readers.open(port, count, expected),

  /** Tells the publisher how far the slowest reader is. */
  reportTo: (port) => readers.reportTo(port),

  /** What the readers have got. */
  followed: () => ({ ...readers.state(), cpuMicros: cpuMicroseconds() }),

  /** Has so many come back at once, from behind an event; resolves when each has all events up to another. */
  async resume(port, count, { upTo, limitMs, ...expected }) {
    const startedAt = performance.now()
    await readers.open(port, count, expected)
    const behind = await readers.until(upTo, limitMs)
    if (behind > 0) throw new Error(`${behind} readers have not caught up in ${limitMs / 1000} s`)
    return { wallMs: performance.now() - startedAt }
  },

  /** Waits until each reader has so many events, up to a limit; says how many have fewer. */
  until: (count, limitMs) => readers.until(count, limitMs),

  /** How long events took to come, since this was asked last. */
  latencies() {
    const { latencies } = readers
    const [p50, p99, max] = [0.5, 0.99, 1].map((share) => latencies.percentile(share))
    latencies.clear()
    return { p50, p99, max }
  },

  async leave() {
    await readers.leave()
    const leaving = held.filter((socket) => !socket.destroyed)
    held = []
    await abandon(leaving, { reset: true })
  },

  /** Opens and leaves, batch by batch; every other batch leaves by RST. */
  async churn(port, count, batch) {
    for (let done = 0; done < count; done += batch) {
      const sockets = await openConnections(port, Math.min(batch, count - done))
      await abandon(sockets, { reset: (done / batch) % 2 === 1 })
    }
  },
})
