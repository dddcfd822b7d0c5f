import { connect as connectSocket } from 'node:net'
import { createSSEHandler, type SSEHandler } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { ManualClock } from '../support/clock.js'
import { connectFake, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const INTERVAL_MS = 1000
const OPTIONS = { heartbeat: { intervalMs: INTERVAL_MS, maxMissed: 3 }, writeStallMs: 1_000_000 }

it('a heartbeat is not missed while nothing is pending, and is from then on', async () => {
  const { sse, transport, clock } = connectFake(OPTIONS)
  await turns(2)
  expect(transport.isWaiting).toBe(true)
  const pending = transport.pendingBytes
  transport.pendingBytes = 0
  for (let beat = 0; beat < 20; beat += 1) {
    clock.advance(INTERVAL_MS)
    await turns(1)
    expect(sse.stats().heartbeatsMissed).toBe(0)
  }
  transport.pendingBytes = pending
  // The first sees more pending than before.
  const missed: number[] = []
  sse.on('heartbeat', (info) => missed.push(info.missed))
  while (sse.phase !== 'closed' && missed.length < 10) clock.advance(INTERVAL_MS)
  expect(missed.at(-1)).toBe(3)
  expect((await sse.closed).reason).toBe('heartbeat-missed')
})

it('the response of a pipelined request is not closed for heartbeats that wait for its turn', async () => {
  const clock = new ManualClock()
  const handlers: SSEHandler[] = []
  const { port } = await serve((req, res) => {
    handlers.push(createSSEHandler(req, res, { clock, ...OPTIONS }))
  })
  const client = connectSocket(port, '127.0.0.1')
  onTestFinished(() => void client.destroy())
  let text = ''
  client
    .on('error', () => {})
    .on('data', (part) => {
      text += part.toString()
    })
  client.write('GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => handlers.length === 2 && text.includes('connected'))
  const [first, second] = handlers as [SSEHandler, SSEHandler]
  void second.send({ data: 'second' })
  for (let beat = 0; beat < 10; beat += 1) {
    clock.advance(INTERVAL_MS)
    await turns(2)
    expect(second.stats().heartbeatsMissed).toBe(0)
  }
  expect([first.phase === 'closed', second.phase === 'closed']).toEqual([false, false])
  first.close()
  await until(() => text.includes('data: second'))
  expect(second.phase).not.toBe('closed')
  second.close()
  await second.closed
})
