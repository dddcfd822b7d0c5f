// Many readers of one channel in one process.
import { once } from 'node:events'
import net from 'node:net'
import { abandon, OPENING_AT_ONCE, request } from './connections.js'
import { Delivery } from './delivery.js'
import { Latencies } from './latencies.js'

const REPORT_EVERY_MS = 2

/** All read into the same memory, and are done with it before the next one reads. */
const memory = Buffer.alloc(64 * 1024)

export class Readers {
  latencies = new Latencies()
  #readers = []
  #reporting = null

  /** Opens so many; resolves when each has got its head. */
  async open(port, count, { lastEventId, isTimed = false, ...expected }) {
    const latencies = isTimed ? this.latencies : null
    for (let opened = 0; opened < count; opened += OPENING_AT_ONCE) {
      const wave = Array.from({ length: Math.min(OPENING_AT_ONCE, count - opened) }, () => {
        const reader = openReader(port, lastEventId, new Delivery({ ...expected, latencies }))
        this.#readers.push(reader)
        return reader.opened
      })
      await Promise.all(wave)
    }
  }

  /** Says over a connection of its own how far the slowest is, when that has changed, or once what is wrong. */
  async reportTo(port) {
    const socket = net.connect(port, '127.0.0.1')
    socket.setNoDelay(true)
    await once(socket, 'connect')
    let reported = 0
    const timer = setInterval(() => {
      const news = this.#wrong() ?? this.#slowest()
      if (news === reported) return
      reported = news
      socket.write(`${JSON.stringify(news)}\n`)
    }, REPORT_EVERY_MS)
    this.#reporting = { socket, timer }
  }

  /** Resolves when each has so many events, or at the limit; with how many have fewer. */
  async until(count, limitMs) {
    const limit = performance.now() + limitMs
    while (this.#slowest() < count && performance.now() < limit) {
      const wrong = this.#wrong()
      if (wrong !== null) throw new Error(wrong)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    return this.#readers.filter(({ delivery }) => delivery.next < count).length
  }

  state() {
    const sum = (key) => this.#readers.reduce((total, { delivery }) => total + delivery[key], 0)
    return {
      fewest: this.#slowest(),
      most: Math.max(...this.#readers.map(({ delivery }) => delivery.next)),
      bytes: sum('bytes'),
      reads: sum('reads'),
      wrong: this.#wrong(),
      learned: this.#readers[0]?.delivery.learned,
    }
  }

  /** Leaves the server, by RST. */
  async leave() {
    clearInterval(this.#reporting?.timer)
    this.#reporting?.socket.destroy()
    this.#reporting = null
    const leaving = this.#readers
    this.#readers = []
    for (const reader of leaving) reader.isLeaving = true
    await abandon(
      leaving.map(({ socket }) => socket).filter((socket) => !socket.destroyed),
      { reset: true },
    )
  }

  /** What is wrong with what the first of them got, or null. */
  #wrong() {
    return this.#readers.find(({ delivery }) => delivery.wrong !== null)?.delivery.wrong ?? null
  }

  #slowest() {
    let slowest = Number.POSITIVE_INFINITY
    for (const { delivery } of this.#readers) if (delivery.next < slowest) slowest = delivery.next
    return slowest === Number.POSITIVE_INFINITY ? 0 : slowest
  }
}

function openReader(port, lastEventId, delivery) {
  const reader = { delivery, isLeaving: false, socket: null, opened: null }
  reader.opened = new Promise((resolve, reject) => {
    const take = (length, read) => {
      delivery.take(read.subarray(0, length))
      if (delivery.hasHead) resolve()
      return true
    }
    const socket = net.connect({ port, host: '127.0.0.1', onread: { buffer: memory, callback: take } })
    socket.write(request('/', lastEventId))
    socket.on('error', reject)
    socket.on('close', () => {
      if (!reader.isLeaving) delivery.wrong ??= `the connection was closed before event ${delivery.next}`
    })
    reader.socket = socket
  })
  return reader
}
