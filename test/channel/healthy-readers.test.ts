import { createChannel, createMemoryLog, createSSEHandler } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader, range, texts } from '../support/channel.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'

const BURST = 3000
const policies = ['gap', 'close'] as const

function channelOf(slowConsumer: 'gap' | 'close') {
  const log = createMemoryLog({ epoch: 'e', maxEvents: 2 * BURST, maxBytes: 16 * 1024 * 1024 })
  return createChannel({ log, slowConsumer, maxLag: { events: 500 } })
}

/** All of it in one turn of the event loop. */
function burst(channel: ReturnType<typeof channelOf>): void {
  for (const n of range(1, BURST)) void channel.publish({ data: `${n}:${'x'.repeat(150)}` })
}

const numbers = (data: readonly string[]) => data.map((one) => Number.parseInt(one, 10))

describe.each(policies)('a burst that the log holds, with the policy %s', (policy) => {
  it('reaches a response whose write was wrapped', async () => {
    const channel = channelOf(policy)
    const { url } = await serve((req, res) => {
      if (req.url === '/wrapped') {
        const { write } = res
        res.write = function (this: unknown, ...args: unknown[]) {
          return Reflect.apply(write, res, args) as boolean
        }
      }
      channel.subscribe(createSSEHandler(req, res, { firstEvent: { event: 'hello' } }))
    })
    const clients = await Promise.all(['', 'wrapped'].map((path) => connect(url + path)))
    for (const client of clients) await client.until(({ length }) => length === 1)
    burst(channel)
    for (const client of clients) {
      await client.until((events) => events.at(-1)?.id === `e-${BURST}` || client.closed)
      expect(numbers(client.events.slice(1).map(({ data }) => data))).toEqual(range(1, BURST))
    }
    expect(channel.stats()).toMatchObject({ readers: 2, slow: 0, gaps: 0, closedSlow: 0 })
  })

  it('reaches a connection of the same turn, and one whose first write is on its way', async () => {
    const channel = channelOf(policy)
    const { url } = await serve(async (req, res) => {
      const sse = createSSEHandler(req, res, { firstEvent: { event: 'hello' } })
      channel.subscribe(sse)
      // Its head was handed over in the check phase; the callback for that comes later.
      if (req.url === '/written') await turns(1)
      burst(channel)
    })
    for (const [i, path] of ['', 'written'].entries()) {
      const client = await connect(url + path)
      await client.until((events) => events.at(-1)?.id === `e-${BURST * (i + 1)}` || client.closed)
      expect(numbers(client.events.slice(1).map(({ data }) => data))).toEqual(range(1, BURST))
      client.leave()
    }
    expect(channel.stats()).toMatchObject({ slow: 0, gaps: 0, closedSlow: 0 })
  })

  it('reaches one that takes each write after the turn in which it was made', async () => {
    const channel = channelOf(policy)
    const clock = new ManualClock()
    const reader = connectReader({ clock, isSlow: true })
    const { transport } = reader
    const { write } = transport
    transport.write = (chunk) => {
      process.nextTick(() => transport.take())
      return write.call(transport, chunk)
    }
    channel.subscribe(reader.sse)
    await turns(3)
    burst(channel)
    await turns(100)
    expect(numbers(reader.data)).toEqual(range(1, BURST))
    expect(channel.stats()).toMatchObject({ readers: 1, slow: 0, gaps: 0, closedSlow: 0 })
    expect(transport.violations).toEqual([])
  })
})

describe('permits that nobody uses', () => {
  it('hold nobody up, 256 of them', async () => {
    const clock = new ManualClock()
    const channel = createChannel({ clock, flushIntervalMs: 0 })
    const reader = connectReader({ clock })
    channel.subscribe(reader.sse)
    const permits = await Promise.all(range(1, 256).map(() => channel.requestSend()))
    await turns(2)
    expect(channel.stats().permits).toBe(256)
    expect(channel.trySend({ data: 1 })).toBe('queued')
    const sent = track(channel.send({ data: 2 }))
    const granted = track(channel.requestSend())
    await turns(3)
    expect([sent.state, granted.state]).toEqual(['fulfilled', 'fulfilled'])
    expect(reader.data).toEqual(texts([1, 2]))
    for (const permit of permits) permit.release()
    granted.value?.release()
    expect(channel.stats()).toMatchObject({ permits: 0, waiters: 0, dropped: 0 })
    reader.sse.abort()
  })
})
