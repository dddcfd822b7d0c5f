// Clients of streams, in a process of their own: each checks that it gets every event once and in order, and comes back
// with its position when it is cut.
import { request } from 'node:http'
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
    outgoing.on('error', () => {})
    outgoing.on('close', () => this.#closed())
    outgoing.end()
  }

  #read(response) {
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

  stop() {
    this.#isOver = true
    this.#request.destroy()
  }
}

answerCalls({
  open(key, url, comesBack = false) {
    clients.set(key, new Client(key, url, comesBack))
  },

  states() {
    return [...clients.values()].map(({ key, events, last, connections, isConnected, faults }) => ({
      key,
      events,
      last,
      connections,
      isConnected,
      faults,
    }))
  },

  stop() {
    for (const client of clients.values()) client.stop()
    clients.clear()
  },
})
