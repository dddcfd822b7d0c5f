// Clients of streams, in a process of their own: each checks that it gets every event once and in order, and comes back
// with its position when it is cut.
import { request } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { createParser } from 'eventsource-parser'
import { answerCalls } from './calls.js'

/** Far below what a browser waits, so that a test need not. */
const RETRY_MS = 500
/** A client that only reads learns from nothing else that its server has forgotten it. */
const KEEPALIVE_MS = 5000

const clients = new Map()

class Client {
  last = 0
  events = 0
  connections = 0
  gaps = 0
  isConnected = false
  faults = []
  #lastEventId = null
  #isOver = false
  #request = null

  constructor(key, url, comesBack) {
    this.key = key
    this.url = url
    this.comesBack = comesBack
    this.connect()
  }

  connect() {
    const headers = { accept: 'text/event-stream' }
    if (this.#lastEventId !== null) headers['last-event-id'] = this.#lastEventId
    const outgoing = request(this.url, { agent: false, headers })
    this.#request = outgoing
    outgoing.on('socket', (socket) => socket.setKeepAlive(this.comesBack, KEEPALIVE_MS))
    outgoing.on('response', (response) => this.#read(response))
    outgoing.on('error', ({ code }) => {
      if (code === 'EMFILE') this.#fail('found no free file descriptor: raise the limit, `ulimit -n 8192`')
    })
    outgoing.on('close', () => this.#closed())
    outgoing.end()
  }

  #read(response) {
    // A proxy says so when it cannot reach the server: there is nothing to read, and one comes back later.
    if (response.statusCode >= 500) return void response.resume()
    if (response.statusCode !== 200) this.#fail(`was answered ${response.statusCode}`)
    this.connections += 1
    this.isConnected = true
    const parser = createParser({ onEvent: (event) => this.#take(event) })
    response.setEncoding('utf8')
    response.on('data', (text) => parser.feed(text))
    response.on('error', () => {})
  }

  #take({ event, id, data }) {
    if (id !== undefined) this.#lastEventId = id
    if (event === 'connected') return
    if (event === 'gap') {
      this.gaps += 1
      this.events = 0
      return
    }
    if (event !== undefined) return this.#fail(`was sent ${event} ${data}`)
    const { n } = JSON.parse(data)
    if (this.events > 0 && n !== this.last + 1) this.#fail(`was sent ${n} after ${this.last}`)
    this.last = n
    this.events += 1
  }

  #closed() {
    this.isConnected = false
    if (this.#isOver) return
    if (this.comesBack) setTimeout(() => this.#isOver || this.connect(), RETRY_MS)
  }

  #fail(what) {
    if (this.faults.length < 5) this.faults.push(what)
  }

  /** Leaves: by FIN or by RST, or after it has stopped to read for a while. */
  async leave(way) {
    this.#isOver = true
    const { socket } = this.#request
    if (way === 'pause') {
      socket?.pause()
      await wait(500)
    }
    if (way === 'reset') socket?.resetAndDestroy()
    this.#request.destroy()
  }
}

const KINDS = ['idle', 'busy', 'flood', 'ticks']
const WAYS = ['leave', 'reset', 'pause']
let isChurning = false
let churned = 0

const oneOf = (choices) => choices[Math.floor(Math.random() * choices.length)]

/** One place that is taken by one client after the other. */
async function churnPlace(url) {
  while (isChurning) {
    churned += 1
    const client = new Client(`churn ${churned}`, `${url}?kind=${oneOf(KINDS)}`, false)
    await wait(Math.random() * 1000)
    await client.leave(oneOf(WAYS))
    failures.push(...client.faults)
  }
}

const failures = []
let churning = []

answerCalls({
  open(key, url, comesBack = false) {
    clients.set(key, new Client(key, url, comesBack))
  },

  /** Opens many that come back, a hundred in a turn. */
  async openMany(count, url) {
    for (let n = 1; n <= count; n += 1) {
      clients.set(`${n}`, new Client(`${n}`, url, true))
      if (n % 100 === 0) await wait(20)
    }
  },

  /** What there is of all clients together. */
  summary() {
    const all = [...clients.values()]
    return {
      connected: all.filter(({ isConnected }) => isConnected).length,
      connections: all.reduce((sum, { connections }) => sum + connections, 0),
      gaps: all.reduce((sum, { gaps }) => sum + gaps, 0),
      flowing: all.filter(({ events }) => events > 0).length,
      faults: all.flatMap(({ faults }) => faults).slice(0, 5),
    }
  },

  /** Has clients of all kinds come and go in so many places, until `endChurn`. */
  churn(places, url) {
    isChurning = true
    churning = Array.from({ length: places }, () => churnPlace(url))
  },

  async endChurn() {
    isChurning = false
    await Promise.all(churning)
    return { churned, faults: failures.slice(0, 5) }
  },

  states() {
    return [...clients.values()].map(({ key, events, last, connections, isConnected, gaps, faults }) => ({
      key,
      events,
      last,
      connections,
      isConnected,
      gaps,
      faults,
    }))
  },
})
