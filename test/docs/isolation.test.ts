import { EventEmitter } from 'node:events'
import { createSSEHandler, pipe, type SSEHandler, wire } from 'sluice'
import { expect, it } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const COUNT = 50

function fail(): never {
  throw new Error('on purpose')
}

/** What goes wrong on one connection, over and over while another one works. */
const faults: [string, (sse: SSEHandler, client: TestClient) => unknown][] = [
  ['data that throws when it is serialised', (sse) => sse.send({ data: { toJSON: fail } }).catch(() => {})],
  ['an event that is too large', (sse) => sse.send({ data: 'x'.repeat(300 * 1024) }).catch(() => {})],
  ['a listener that throws', (sse) => dropInto(sse, fail)],
  ['a source that throws', (sse) => pipe(throwing(), sse).catch(() => {})],
  ['a map of wire that throws', (sse) => emitThrough(sse)],
  ['a send that nobody awaits, too many of them', (sse) => burst(sse)],
  ['a client that is torn away', (_, client) => client.request.socket?.resetAndDestroy()],
  ['a server socket that is destroyed', (sse) => sse.abort()],
  ['an error that ends the stream', (sse) => sse.sendError(new Error('on purpose'))],
]

it.each(faults)('%s on one connection disturbs no other', async (_, goWrong) => {
  const handlers: SSEHandler[] = []
  const { url } = await serve((req, res) => {
    handlers.push(createSSEHandler(req, res, { firstEvent: false, maxEvents: 4 }))
  })
  const faulty = await connect(url)
  const sound = await connect(url)
  const [broken, healthy] = handlers as [SSEHandler, SSEHandler]
  broken.on('error', () => {})
  for (let n = 1; n <= COUNT; n += 1) {
    goWrong(broken, faulty)
    await healthy.send({ data: n })
  }
  await healthy.close({ reason: 'completed' })
  await until(() => sound.ended)
  expect(sound.events.map(({ data }) => Number(data))).toEqual(Array.from({ length: COUNT }, (_, i) => i + 1))
  await expect(healthy.closed).resolves.toMatchObject({
    reason: 'completed',
    eventsSent: COUNT,
    eventsUnsent: 0,
  })
})

function* throwing(): Generator<number> {
  yield fail()
}

function dropInto(sse: SSEHandler, listener: () => void): void {
  sse.once('dropped', listener)
  for (let i = 0; i < 10; i += 1) sse.trySend({ data: i })
}

function emitThrough(sse: SSEHandler): void {
  const source = new EventEmitter()
  const wired = wire(source, sse, { events: ['tick'], policy: 'close', map: fail, onError: () => {} })
  source.emit('tick', 1)
  wired.stop()
}

function burst(sse: SSEHandler): void {
  for (let i = 0; i < 100; i += 1) sse.send({ data: i }).catch(() => {})
}
