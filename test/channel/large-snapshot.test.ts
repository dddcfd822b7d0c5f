import { createChannel, createMemoryLog } from 'sluice'
import { expect, it } from 'vitest'
import { connectReader, settle } from '../support/channel.js'

it.each([
  ['onSubscribe', undefined],
  ['onGap', 'other-1'],
])('a snapshot of 130,000 events is sent, in order, and what follows: %s', async (hook, lastEventId) => {
  const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }) })
  const reader = connectReader({ lastEventId, maxBytes: 4 * 1024 * 1024 })
  const events = Array.from({ length: 130_000 }, (_, n) => ({ data: n }))
  channel.subscribe(reader.sse, { [hook]: () => ({ events }) })
  await settle()
  void channel.publish({ data: 'next' })
  await settle(reader.clock)
  const data = [...reader.transport.text.matchAll(/^data: (\d+|next)$/gm)].map(([, text]) => text)
  expect(data).toHaveLength(130_001)
  expect(data.findIndex((text, n) => text !== String(n))).toBe(130_000)
  expect(data.at(-1)).toBe('next')
  expect(reader.sse.phase).toBe('flowing')
  reader.sse.abort()
})
