import { createChannel, createMemoryLog, type SubscribeOptions } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader, type Reader, range, settle, texts } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'

function channelOf(maxEvents: number) {
  const clock = new ManualClock()
  const log = createMemoryLog({ epoch: 'e', maxEvents, clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0 })
  return {
    channel,
    async follow(options: (reader: Reader) => SubscribeOptions): Promise<Reader> {
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse, options(reader))
      await turns(2)
      return reader
    },
  }
}

const sequencesOf = ({ events }: Reader) =>
  events.filter(({ event }) => event !== 'gap' && event !== 'position').map(({ id }) => Number(id?.slice(2)))

describe('a filter that publishes', () => {
  /** As many events as have the channel write in the middle of a burst. */
  const writtenAfter = (maxEvents: number) => Math.min(256, Math.ceil(maxEvents / 2))

  it.each([2, 4, 30, 1000])(
    'gives nobody an event twice, nor in another order, over a log of %i events',
    async (maxEvents) => {
      const { channel, follow } = channelOf(maxEvents)
      const count = writtenAfter(maxEvents)
      let audits = 0
      const auditor = await follow(() => ({
        filter: ({ event, data }) => {
          if (event !== 'secret') return true
          // A channel whose auditors are always behind would be published to for ever.
          for (let i = 0; i < count && audits < 2000; i += 1, audits += 1) {
            void channel.publish({ event: 'audit', data: `denied ${data}` })
          }
          return false
        },
      }))
      const other = await follow(() => ({}))
      const nameOf = (n: number) => (n % count === 0 ? 'secret' : 'open')
      for (const n of range(1, 2 * count + 10)) void channel.publish({ event: nameOf(n), data: n })
      await settle()
      await turns(20)
      expect(audits).toBeGreaterThan(0)
      for (const reader of [auditor, other]) {
        const sequences = sequencesOf(reader)
        expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b))
        expect(reader.transport.violations).toEqual([])
        for (const { event, data } of reader.events) {
          if (event === 'gap' || event === 'position') continue
          const [, denied, n] = /^(denied )?(\d+)$/.exec(data) ?? []
          expect(event).toBe(denied === undefined ? nameOf(Number(n)) : 'audit')
        }
      }
    },
  )

  it.each([
    ['in a flush', 1],
    ['in the middle of a burst', 256],
  ])('%s loses nothing of what the log holds', async (_, at) => {
    const { channel, follow } = channelOf(1000)
    const reader = await follow(() => ({
      filter: ({ event }) => {
        if (event === 'burst') for (const n of range(1, 300)) void channel.publish({ data: n })
        return true
      },
    }))
    for (const n of range(1, at)) void channel.publish({ event: n === at ? 'burst' : 'n', data: n })
    await turns(20)
    expect(sequencesOf(reader)).toEqual(range(1, at + 300))
    expect(channel.stats()).toMatchObject({ gaps: 0, maxLagEvents: 0 })
    expect(reader.transport.violations).toEqual([])
  })
})

describe('a filter that has its own connection', () => {
  it.each(['1', '3', '5'])('follow anew at event %s gives it no event twice', async (at) => {
    const { channel, follow } = channelOf(1000)
    let times = 0
    const reader = await follow(({ sse }) => ({
      filter: ({ data }) => {
        if (data === at && times === 0) {
          times += 1
          channel.unsubscribe(sse)
          channel.subscribe(sse)
        }
        return true
      },
    }))
    for (const n of range(1, 5)) void channel.publish({ data: n })
    await settle()
    void channel.publish({ data: 6 })
    await settle()
    expect(times).toBe(1)
    expect(reader.data).toEqual(texts(range(1, 6)))
    expect(channel.readers).toBe(1)
    expect(reader.transport.violations).toEqual([])
  })

  it('follow anew with another selection goes on with that, where it was', async () => {
    const { channel, follow } = channelOf(1000)
    const reader = await follow(({ sse }) => ({
      filter: ({ data }) => {
        if (data === '3') {
          channel.unsubscribe(sse)
          channel.subscribe(sse, { filter: (event) => Number(event.data) % 2 === 0 })
        }
        return true
      },
    }))
    for (const n of range(1, 2)) void channel.publish({ data: n })
    await settle()
    for (const n of range(3, 8)) void channel.publish({ data: n })
    await settle()
    expect(reader.data).toEqual(['1', '2', '4', '6', '8'])
  })

  it('follow no more loses nothing when it follows again later', async () => {
    const { channel, follow } = channelOf(1000)
    const reader = await follow(({ sse }) => ({
      filter: ({ data }) => {
        if (data === '3') channel.unsubscribe(sse)
        return true
      },
    }))
    for (const n of range(1, 5)) void channel.publish({ data: n })
    await settle()
    expect(channel.readers).toBe(0)
    channel.subscribe(reader.sse)
    void channel.publish({ data: 6 })
    await settle()
    expect(reader.data).toEqual(texts(range(1, 6)))
  })
})
