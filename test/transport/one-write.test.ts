import type { Socket } from 'node:net'
import { createChannel, createMemoryLog, createSSEHandler } from 'sluice'
import { expect, it } from 'vitest'
import { range } from '../support/channel.js'
import { connect } from '../support/client.js'
import { turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const EVENT_BYTES = 60_000

it.each([
  ['by writing in the middle of a burst', 300],
  ['by flushes of a turn each', 1],
])('a socket that holds bytes is never written to: filled %s', async (_, perTurn) => {
  const log = createMemoryLog({ epoch: 'e', maxEvents: 100_000, maxBytes: 1024 ** 3 })
  const channel = createChannel({ log, flushIntervalMs: 0, maxLag: { events: 100_000 } })
  let socket: Socket | undefined
  const { url } = await serve((req, res) => {
    socket = req.socket
    channel.subscribe(createSSEHandler(req, res, { writeStallMs: 1_000_000 }))
  })
  const client = await connect(url)
  await channel.publish({ data: 'first' })
  // From here on the head has left, and what is written goes to the socket itself.
  await client.until(({ length }) => length === 2)
  const seen = { writes: 0, whileHolding: [] as number[], mostHeld: 0 }
  const held = socket as Socket
  const { write } = held
  held.write = ((...args: Parameters<typeof write>) => {
    seen.writes += 1
    if (held.writableLength > 0) seen.whileHolding.push(held.writableLength)
    const result = Reflect.apply(write, held, args) as boolean
    seen.mostHeld = Math.max(seen.mostHeld, held.writableLength)
    return result
  }) as typeof write
  const data = 'x'.repeat(EVENT_BYTES)
  for (const round of [1, 2]) {
    client.pause()
    for (let sent = 0; sent < 300; sent += perTurn) {
      for (const _ of range(1, perTurn)) void channel.publish({ data })
      await turns(1)
    }
    await until(() => held.writableLength > 0)
    client.resume()
    await client.until(({ length }) => length === 2 + round * 300)
  }
  expect(seen.writes).toBeGreaterThan(100)
  expect(seen.whileHolding).toEqual([])
  // What one write holds, give or take one event.
  expect(seen.mostHeld).toBeLessThan(64 * 1024 + 2 * EVENT_BYTES)
})
