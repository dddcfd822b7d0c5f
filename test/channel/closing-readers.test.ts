import { createChannel, createMemoryLog } from 'sluice'
import { expect, it } from 'vitest'
import { connectReader, range } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'

it.each(['gap', 'close', 'wait'] as const)(
  'a reader that is closing gets what was published before, though it is far behind by now: %s',
  async (slowConsumer) => {
    const clock = new ManualClock()
    const log = createMemoryLog({ epoch: 'e' })
    const channel = createChannel({ clock, log, slowConsumer, flushIntervalMs: 0, maxLag: { events: 20 } })
    const reader = connectReader({ clock, isSlow: true })
    channel.subscribe(reader.sse)
    await turns()
    for (const n of range(1, 10)) void channel.publish({ data: n })
    await turns()
    void reader.sse.close()
    for (const n of range(11, 60)) void channel.publish({ data: n })
    await turns()
    expect(channel.stats()).toMatchObject({ slow: 0, gaps: 0, closedSlow: 0 })
    for (let i = 0; i < 5; i += 1) {
      reader.transport.take()
      await turns()
    }
    expect(reader.data).toEqual(range(1, 10).map(String))
    reader.transport.finish()
    expect((await reader.sse.closed).reason).toBe('server-closed')
  },
)
