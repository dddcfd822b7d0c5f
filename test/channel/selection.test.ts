import fc from 'fast-check'
import { type ChannelEvent, createChannel, createMemoryLog, type SubscribeOptions } from 'sluice'
import { describe, expect, it } from 'vitest'
import {
  connectReader,
  parsed,
  type Reader,
  type ReaderOptions,
  range,
  settle,
  texts,
} from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'

interface Published {
  event?: string
  topic?: string
  data?: unknown
}

function channelOf(ring = 1000) {
  const clock = new ManualClock()
  const log = createMemoryLog({ maxEvents: ring, epoch: 'e', clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0 })
  return {
    channel,
    clock,
    log,
    follow(select: SubscribeOptions, options: ReaderOptions = {}): Reader {
      const reader = connectReader({ clock, ...options })
      channel.subscribe(reader.sse, select)
      return reader
    },
    async publish(...events: Published[]): Promise<void> {
      for (const event of events) await channel.publish(event)
      await turns(3)
    },
  }
}

const EVENTS: Published[] = [
  { event: 'order:created', topic: 'server:1', data: 1 },
  { event: 'order:paid', topic: 'server:2', data: 2 },
  { event: 'user', topic: 'server:1:disk', data: 3 },
  { event: 'order', data: 4 },
  { data: 5, topic: 'room' },
  { data: 6 },
  { event: 'message', topic: 'server:1', data: 7 },
]

describe('a selection', () => {
  const cases: [string, SubscribeOptions, number[]][] = [
    ['nothing', {}, [1, 2, 3, 4, 5, 6, 7]],
    ['one name', { events: 'order' }, [4]],
    ['names that begin alike', { events: 'order:*' }, [1, 2]],
    ['several patterns', { events: ['*r', 'order:p*'] }, [2, 3, 4]],
    ['every name', { events: '*' }, [1, 2, 3, 4, 5, 6, 7]],
    ['message, which is an event without a name', { events: 'message' }, [5, 6, 7]],
    ['one topic', { topics: 'server:1' }, [1, 7]],
    ['topics that begin alike', { topics: 'server:*' }, [1, 2, 3, 7]],
    ['several topics', { topics: ['room', '*:disk'] }, [3, 5]],
    ['every topic, to which an event without one does not belong', { topics: '*' }, [1, 2, 3, 5, 7]],
    ['names and topics', { events: 'order:*', topics: 'server:1' }, [1]],
    ['by what it may see, asked for events with a topic only', { authorize: (t) => t === 'room' }, [4, 5, 6]],
    ['by a filter', { filter: ({ data }) => Number(data) % 2 === 0 }, [2, 4, 6]],
    [
      'by all of them',
      { events: '*', topics: '*', authorize: (t) => t !== 'room', filter: ({ data }) => data !== '7' },
      [1, 2, 3],
    ],
    ['no name there is', { events: 'none' }, []],
  ]

  it.each(cases)('selects %s', async (_, select, expected) => {
    const { follow, publish, channel } = channelOf()
    const live = follow(select)
    await publish(...EVENTS)
    const late = follow(select, { lastEventId: 'e-0' })
    await turns(3)
    for (const reader of [live, late]) {
      expect(reader.events.map(({ data, id }) => `${id} ${data}`)).toEqual(expected.map((n) => `e-${n} ${n}`))
    }
    expect(channel.stats()).toMatchObject({ gaps: 0, slow: 0, maxLagEvents: 0, readers: 2 })
  })

  it('is not of private events', async () => {
    const { follow, publish } = channelOf()
    const reader = follow({ events: 'order', topics: 'none', authorize: () => false, filter: () => false })
    await publish({ event: 'order', topic: 'none', data: 1 })
    await reader.sse.send({ event: 'other', data: 'private' })
    await turns(3)
    expect(reader.data).toEqual(['private'])
  })

  it('costs a reader without one nothing: it gets everything, whoever else selects', async () => {
    const { follow, publish } = channelOf()
    const selecting = range(1, 5).map((n) => follow({ filter: ({ data }) => Number(data) % n === 0 }))
    const all = follow({})
    await publish(...range(1, 60).map((data) => ({ data })))
    expect(all.data).toEqual(texts(range(1, 60)))
    for (const [i, reader] of selecting.entries()) {
      expect(reader.data).toEqual(texts(range(1, 60).filter((n) => n % (i + 1) === 0)))
    }
  })
})

describe('authorize', () => {
  it('is asked for each event with a topic, each time, so that a revocation counts from the next event on', async () => {
    const { follow, publish } = channelOf()
    const allowed = new Set(['a', 'b'])
    const asked: string[] = []
    const reader = follow({
      authorize(topic) {
        asked.push(topic)
        return allowed.has(topic)
      },
    })
    await publish({ data: 1, topic: 'a' }, { data: 2, topic: 'b' }, { data: 3 }, { data: 4, topic: 'a' })
    allowed.delete('a')
    await publish({ data: 5, topic: 'a' }, { data: 6, topic: 'b' })
    allowed.add('a')
    await publish({ data: 7, topic: 'a' })
    expect(reader.data).toEqual(['1', '2', '3', '4', '6', '7'])
    expect(asked).toEqual(['a', 'b', 'a', 'a', 'b', 'a'])
  })

  it('is asked when an event is about to be written: a reader that lags gets none that was revoked meanwhile', async () => {
    const { follow, publish } = channelOf()
    let isAllowed = true
    const reader = follow({ authorize: () => isAllowed }, { isSlow: true, writeStallMs: 1e6 })
    await publish({ data: 1, topic: 'a' }, { data: 2, topic: 'a' })
    isAllowed = false
    await publish({ data: 3, topic: 'a' })
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await settle()
    expect(reader.data).toEqual(['1', '2'])
  })

  it('is asked for replayed events too', async () => {
    const { follow, publish } = channelOf()
    await publish({ data: 1, topic: 'a' }, { data: 2, topic: 'b' })
    const reader = follow({ authorize: (topic) => topic === 'b' }, { lastEventId: 'e-0' })
    await turns(3)
    expect(reader.data).toEqual(['2'])
  })

  it.each([undefined, null, 0, '', Promise.resolve(false), Promise.resolve(true)])(
    'lets nothing through for an answer that is not true: %s',
    async (answer) => {
      const { follow, publish } = channelOf()
      const reader = follow({ authorize: () => answer as unknown as boolean })
      await publish({ data: 1, topic: 'a' }, { data: 2 })
      expect(reader.data).toEqual(['2'])
    },
  )

  it.each(['close', 'abort'] as const)(
    'may %s the connection it is asked for, which gets nothing more',
    async (how) => {
      const { follow, publish, channel } = channelOf()
      const other = follow({})
      const reader = follow({
        authorize(topic) {
          if (topic !== 'b') return true
          if (how === 'abort') reader.sse.abort('unauthorized')
          else void reader.sse.close({ reason: 'unauthorized' })
          return false
        },
      })
      await turns(3)
      await publish({ data: 1, topic: 'a' })
      void channel.publish({ data: 2, topic: 'a' })
      void channel.publish({ data: 3, topic: 'b' })
      await publish({ data: 4, topic: 'b' })
      await expect(reader.sse.closed).resolves.toMatchObject({ reason: 'unauthorized' })
      await settle()
      expect(reader.transport.violations).toEqual([])
      expect(reader.data.filter((data) => data > '2')).toEqual([])
      expect(other.data).toEqual(['1', '2', '3', '4'])
      expect(channel.stats().readers).toBe(1)
    },
  )
})

describe('a filter', () => {
  it('sees id, event, topic and data, in order, each event once', async () => {
    const { follow, publish } = channelOf()
    const seen: ChannelEvent[] = []
    follow({
      filter(event) {
        const { id, event: name, topic, data } = event
        seen.push({ id, event: name, topic, data })
        return false
      },
    })
    await publish({ event: 'order', topic: 'a', data: { n: [1] } }, { data: 'text' }, {})
    await publish({ event: 'late', data: null })
    expect(seen).toEqual([
      { id: 'e-1', event: 'order', topic: 'a', data: '{"n":[1]}' },
      { id: 'e-2', event: 'message', topic: undefined, data: 'text' },
      { id: 'e-3', event: 'message', topic: undefined, data: '' },
      { id: 'e-4', event: 'late', topic: undefined, data: 'null' },
    ])
  })

  it('is not asked for what the other options leave out', async () => {
    const { follow, publish } = channelOf()
    const seen: string[] = []
    follow({
      events: 'order*',
      topics: 'server:*',
      authorize: (topic) => topic !== 'server:2',
      filter: ({ data }) => seen.push(data) > 0,
    })
    await publish(...EVENTS)
    expect(seen).toEqual(['1'])
  })

  const text = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({
      unit: fc.constantFrom('\n', '\r', 'a', ' ', ':', '\ndata: ', 'data: ', 'é', '😀', '\u2028', '\0'),
    }),
    // Longer than the frames that stay strings.
    fc
      .string({ unit: fc.constantFrom('x'.repeat(700), '\n', 'é'.repeat(400), '😀', 'data: '), minLength: 4 })
      .map((long) => `${long}${'y'.repeat(2048)}`),
  )
  const anything = fc.oneof(text, fc.jsonValue(), fc.constant(undefined))

  it('sees the data as the client gets it, whatever it is', async () => {
    const { follow, channel } = channelOf()
    const seen: string[] = []
    const reader = follow({ filter: ({ data }) => seen.push(data) > 0 })
    await turns(3)
    const property = fc.asyncProperty(
      anything,
      fc.option(fc.constantFrom('n', 'data: ', 'a b'), { nil: undefined }),
      fc.option(fc.constant(5), { nil: undefined }),
      async (data, event, retry) => {
        const written = reader.transport.written.length
        await channel.publish({ data, event, retry })
        await turns(2)
        const [got] = parsed(reader.transport.chunks.slice(written).join(''))
        const expected =
          typeof data === 'string' ? data.replaceAll(/\r\n?/g, '\n') : (JSON.stringify(data) ?? '')
        expect([seen.at(-1), got?.data]).toEqual([expected, expected])
      },
    )
    await fc.assert(property, { numRuns: 300 })
  })

  it('that keeps an event may look at it later', async () => {
    const { follow, publish } = channelOf(2)
    const kept: ChannelEvent[] = []
    follow({ filter: (event) => kept.push(event) > 0 })
    await publish({ data: 'a', topic: 't' }, { data: 'b' })
    await publish(...range(1, 10).map((data) => ({ data })))
    expect(kept.slice(0, 2).map(({ id, event, topic, data }) => [id, event, topic, data])).toEqual([
      ['e-1', 'message', 't', 'a'],
      ['e-2', 'message', undefined, 'b'],
    ])
  })
})

describe('events that are not for a reader', () => {
  it('move it on, and are no gap, however many', async () => {
    const { follow, publish, channel } = channelOf(10)
    const reader = follow({ events: 'mine' })
    for (let i = 0; i < 100; i += 1) {
      await publish({ event: 'other', data: i })
      expect(channel.stats().maxLagEvents).toBe(0)
    }
    await publish({ event: 'mine', data: 'got' })
    expect(reader.events.filter(({ event }) => event !== 'position')).toEqual([
      { event: 'mine', data: 'got', id: 'e-101' },
    ])
    expect(channel.stats()).toMatchObject({ gaps: 0, slow: 0 })
  })

  it('do not make it behind: with the policy wait nobody waits for it, with close it stays', async () => {
    for (const slowConsumer of ['wait', 'close'] as const) {
      const clock = new ManualClock()
      const channel = createChannel({ clock, slowConsumer, maxLag: { events: 5 }, flushIntervalMs: 0 })
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse, { filter: () => false })
      for (let i = 0; i < 100; i += 1) {
        await channel.send({ data: i })
        await turns(1)
      }
      expect(channel.stats()).toMatchObject({ slow: 0, readers: 1 })
    }
  })

  it('let its position be told before it falls out of the log', async () => {
    const scenario = fc.record({
      ring: fc.integer({ min: 1, max: 600 }),
      steps: fc.array(fc.double({ min: 0, max: 0.5, noNaN: true }), { minLength: 30, maxLength: 60 }),
    })
    const play = async ({ ring, steps }: { ring: number; steps: number[] }) => {
      const { follow, channel, log } = channelOf(ring)
      const reader = follow({ filter: () => false })
      await turns(3)
      for (const part of steps) {
        for (let i = 0; i <= part * ring; i += 1) void channel.publish({ data: i })
        await turns(4)
        const told = Number(reader.lastEventId.slice(2))
        expect([ring, told + 1 >= log.oldest]).toEqual([ring, true])
      }
      const again = follow({}, { lastEventId: reader.lastEventId })
      await turns(4)
      expect(again.events.filter(({ event }) => event === 'gap')).toEqual([])
      expect(reader.events.every(({ event }) => event === 'position')).toBe(true)
    }
    await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 60 })
  })

  it('let its position be told with a heartbeat, once, in place of the comment', async () => {
    const { follow, publish, clock } = channelOf()
    const reader = follow({ events: 'mine' }, { heartbeat: { intervalMs: 1000 } })
    await publish({ event: 'other', data: 1 }, { event: 'other', data: 2 })
    expect(reader.lastEventId).toBe('e-0')
    clock.advance(1000)
    await turns(3)
    expect(reader.events).toEqual([{ event: 'position', data: '', id: 'e-2' }])
    const before = reader.transport.chunks.length
    clock.advance(1000)
    await turns(3)
    expect(reader.transport.chunks.slice(before)).toEqual([': \n\n'])
    await publish({ event: 'mine', data: 3 })
    clock.advance(1000)
    await turns(3)
    expect(reader.events.slice(1)).toEqual([{ event: 'mine', data: '3', id: 'e-3' }])
  })

  it('that follow one that is for it let its position be told with a heartbeat, too', async () => {
    const { follow, publish, clock } = channelOf()
    const reader = follow({ events: 'mine' }, { heartbeat: { intervalMs: 1000 } })
    await turns(3)
    await publish({ event: 'mine', data: 1 }, { event: 'other', data: 2 })
    clock.advance(1000)
    await turns(3)
    expect(reader.events.map(({ id, event }) => [event, id])).toEqual([
      ['mine', 'e-1'],
      ['position', 'e-2'],
    ])
  })

  it('are passed without a write, and events far apart arrive all the same', async () => {
    const { follow, publish, channel } = channelOf(20_000)
    for (let i = 1; i <= 10_000; i += 1) {
      void channel.publish({ event: i % 3000 === 0 ? 'mine' : 'other', data: i })
    }
    await turns(3)
    const reader = follow({ events: 'mine' }, { lastEventId: 'e-0' })
    await turns(50)
    expect(reader.data.filter((data) => data !== '')).toEqual(['3000', '6000', '9000'])
    expect(channel.stats()).toMatchObject({ maxLagEvents: 0, gaps: 0 })
    expect(Number(reader.lastEventId.slice(2))).toBeGreaterThanOrEqual(9000)
    await publish({ event: 'mine', data: 'last' })
    expect(reader.data.at(-1)).toBe('last')
    expect(reader.transport.violations).toEqual([])
  })
})
