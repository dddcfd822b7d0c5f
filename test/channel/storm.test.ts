import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { createChannel, createMemoryLog, createSSEHandler, type SSEHandler } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { range } from '../support/channel.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const READERS = 1000
/** How long is published to them. */
const PUBLISHING_MS = 60_000
const CUTS_PER_ROUND = 4

const EPOCH = 'e'
const sequenceOf = (id: string) => Number(id.slice(EPOCH.length + 1))

/** A client that keeps nothing but its position, and comes back whenever it is cut. */
class StormReader {
  /** The first thing that went wrong. */
  fault: string | null = null
  position: number | null = null
  start = 0
  connections = 0
  isOver = false
  #request: ClientRequest | null = null

  constructor(readonly url: string) {}

  get isConnected(): boolean {
    return this.#request !== null
  }

  connect(): void {
    const headers = this.position === null ? {} : { 'last-event-id': `${EPOCH}-${this.position}` }
    const outgoing = request(this.url, { agent: false, headers: { accept: 'text/event-stream', ...headers } })
    this.#request = outgoing
    this.connections += 1
    outgoing.on('response', (response) => this.#read(outgoing, response))
    outgoing.on('error', () => {})
    outgoing.on('close', () => this.#closed(outgoing))
    outgoing.end()
  }

  /** Leaves without a word. */
  cut(): void {
    this.#request?.destroy()
  }

  #read(outgoing: ClientRequest, response: IncomingMessage): void {
    if (response.statusCode === 204) this.isOver = true
    const parser = createParser({
      onEvent: ({ event, id, data }) => {
        // What the socket had before it was cut counts as lost.
        if (this.#request === outgoing) this.#take(event, id, data)
      },
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => parser.feed(text))
    response.on('error', () => {})
  }

  #take(event: string | undefined, id: string | undefined, data: string): void {
    const sequence = sequenceOf(id ?? '')
    if (event === 'connected') {
      if (this.position === null) this.start = sequence
      else if (sequence !== this.position) this.#fail(`came back at ${this.position}, was told ${id}`)
      this.position = sequence
    } else if (event !== undefined || this.position === null) {
      this.#fail(`was sent ${event} ${id} ${data} at ${this.position}`)
    } else if (sequence !== this.position + 1 || data !== String(sequence)) {
      this.#fail(`was sent ${id} ${data} at ${this.position}`)
    } else {
      this.position = sequence
    }
  }

  #fail(what: string): void {
    this.fault ??= what
  }

  #closed(outgoing: ClientRequest): void {
    if (this.#request !== outgoing) return
    this.#request = null
    if (!this.isOver) this.connect()
  }

  stop(): void {
    this.isOver = true
    this.cut()
  }
}

/** Whole numbers below a limit (mulberry32). */
function seededRandom(seed: number): (limit: number) => number {
  let state = seed
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}

it('1,000 readers that are cut at random lose nothing and get nothing twice', async () => {
  const channel = createChannel({ log: createMemoryLog({ epoch: EPOCH, maxEvents: 1_000_000 }) })
  const servers = new Set<SSEHandler>()
  const { url } = await serve((req, res) => {
    const sse = createSSEHandler(req, res)
    channel.subscribe(sse)
    servers.add(sse)
    void sse.closed.then(() => servers.delete(sse))
  })
  const readers = range(1, READERS).map(() => new StormReader(url))
  onTestFinished(() => {
    for (const reader of readers) reader.stop()
  })
  for (const [i, reader] of readers.entries()) {
    reader.connect()
    if (i % 50 === 49) await until(() => channel.stats().readers === i + 1)
  }

  const seed = Date.now() % 2 ** 31
  const random = seededRandom(seed)
  const startedAt = performance.now()
  let published = 0
  let cuts = 0
  while (performance.now() - startedAt < PUBLISHING_MS) {
    for (const _ of range(1, 1 + (published % 7))) {
      published += 1
      await channel.publish({ data: published })
    }
    for (const _ of range(1, CUTS_PER_ROUND)) {
      cuts += 1
      const reader = readers[random(READERS)] as StormReader
      if (cuts % 3 > 0) reader.cut()
      else [...servers][random(servers.size)]?.abort()
    }
    // This process is both ends.
    await wait(5)
  }
  channel.end()
  // All of them come back at once. A connection that finds no place in line is tried again after 1, 3, 7, 15 s.
  for (const part of range(1, 20)) {
    await until(() => readers.filter(({ isOver }) => isOver).length >= (READERS / 20) * part)
  }

  const faults = readers.flatMap(({ fault }) => fault ?? [])
  expect(faults, `seed ${seed}`).toEqual([])
  expect(new Set(readers.map(({ position }) => position))).toEqual(new Set([published]))
  expect(channel.stats()).toMatchObject({ readers: 0, published, gaps: 0, slow: 0, closedSlow: 0 })
  const connections = readers.reduce((sum, reader) => sum + reader.connections, 0)
  // A storm in which little happens proves little.
  expect(published).toBeGreaterThan(200)
  expect(connections).toBeGreaterThan(3 * READERS)
}, 150_000)
