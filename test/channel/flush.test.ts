import {
  type ChannelOptions,
  createChannel,
  createMemoryLog,
  createSSEHandler,
  pipe,
  type SubscribeOptions,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader, type Reader, type ReaderOptions, range, texts } from '../support/channel.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

function channelOf(options: ChannelOptions = {}, clock = new ManualClock()) {
  const log = createMemoryLog({ epoch: 'e', clock })
  const channel = createChannel({ log, clock, ...options })
  return {
    channel,
    clock,
    async follow(select: SubscribeOptions = {}, readerOptions: ReaderOptions = {}): Promise<Reader> {
      const reader = connectReader({ clock, ...readerOptions })
      channel.subscribe(reader.sse, select)
      await turns(2)
      return reader
    },
  }
}

/** What was written to a reader since it was last looked at. */
function newWrites(reader: Reader): () => string[][] {
  let seen = reader.transport.chunks.length
  return () => {
    const chunks = reader.transport.chunks.slice(seen)
    seen += chunks.length
    return chunks.map((chunk) => [...chunk.matchAll(/^data: (.*)$/gm)].map(([, data]) => data ?? ''))
  }
}

describe('publishing from one tick', () => {
  it.each([1, 2, 50, 200])('%i events is one write to each connection', async (count) => {
    const { channel, follow } = channelOf()
    const readers = await Promise.all(range(1, 10).map(() => follow()))
    const looks = readers.map(newWrites)
    for (const n of range(1, count)) await channel.publish({ data: n })
    await turns(3)
    for (const look of looks) expect(look()).toEqual([texts(range(1, count))])
  })

  it('by publish, send and a private event is one write', async () => {
    const { channel, follow } = channelOf()
    const reader = await follow()
    const look = newWrites(reader)
    void channel.publish({ data: 1 })
    void channel.send({ data: 2 })
    channel.trySend({ data: 3 })
    ;(await channel.requestSend()).send({ data: 4 })
    void reader.sse.send({ data: 'private' })
    await turns(3)
    const [write, ...others] = look()
    expect([write?.toSorted(), others]).toEqual([['1', '2', '3', '4', 'private'], []])
  })

  it('in which it subscribes is one write, the first event included', async () => {
    const { channel, clock } = channelOf()
    const reader = connectReader({ clock })
    channel.subscribe(reader.sse)
    for (const n of range(1, 20)) void channel.publish({ data: n })
    await turns(3)
    expect(reader.transport.chunks).toHaveLength(1)
    expect(reader.data).toEqual(texts(range(1, 20)))
  })
})

describe('with a flush interval', () => {
  it('the first event after a pause leaves in that turn, and those that follow within it leave together at its end', async () => {
    const { channel, follow, clock } = channelOf({ flushIntervalMs: 10 })
    const look = newWrites(await follow())
    clock.advance(100)
    for (const round of ['a', 'b', 'c']) {
      void channel.publish({ data: `${round} first` })
      await turns(2)
      expect(look()).toEqual([[`${round} first`]])
      void channel.publish({ data: `${round} 1` })
      await turns(5)
      clock.advance(4)
      void channel.publish({ data: `${round} 2` })
      clock.advance(5)
      await turns(5)
      expect(look()).toEqual([])
      clock.advance(1)
      expect(look()).toEqual([[`${round} 1`, `${round} 2`]])
      // The interval begins anew with each flush.
      void channel.publish({ data: `${round} last` })
      clock.advance(9)
      await turns(5)
      expect(look()).toEqual([])
      clock.advance(1)
      expect(look()).toEqual([[`${round} last`]])
      clock.advance(10)
    }
    expect(clock.pending).toBe(0)
  })

  it('of its own it waits 2 ms', async () => {
    const { channel, follow, clock } = channelOf()
    const look = newWrites(await follow())
    void channel.publish({ data: 1 })
    await turns(2)
    void channel.publish({ data: 2 })
    clock.advance(1)
    await turns(3)
    expect(look()).toEqual([['1']])
    clock.advance(1)
    expect(look()).toEqual([['2']])
  })

  it('of 0 each turn flushes, and there is no timer', async () => {
    const { channel, follow, clock } = channelOf({ flushIntervalMs: 0 })
    const look = newWrites(await follow())
    for (const n of range(1, 20)) {
      void channel.publish({ data: n })
      expect(clock.pending).toBe(0)
      await turns(2)
      expect(look()).toEqual([[String(n)]])
    }
  })

  it('a burst does not wait for its end', async () => {
    for (const [count, data] of [
      [300, 'x'],
      [20, 'x'.repeat(5000)],
      [1, 'x'.repeat(70_000)],
    ] as const) {
      const { channel, follow } = channelOf({ flushIntervalMs: 1000 })
      const reader = await follow()
      void channel.publish({ data: 'first' })
      await turns(2)
      for (const _ of range(1, count)) void channel.publish({ data })
      await turns(4)
      expect(reader.data).toHaveLength(count + 1)
    }
  })

  it('a private event does not wait for its end, and takes what is published along', async () => {
    const { channel, follow } = channelOf({ flushIntervalMs: 1000 })
    const reader = await follow()
    void channel.publish({ data: 'first' })
    await turns(2)
    void channel.publish({ data: 'second' })
    await turns(3)
    expect(reader.data).toEqual(['first'])
    await reader.sse.send({ data: 'private' })
    await turns(3)
    expect(reader.data.toSorted()).toEqual(['first', 'private', 'second'])
  })

  it('an event that somebody else appends to the log is flushed like any other', async () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ epoch: 'e' })
    const channel = createChannel({ log, clock })
    const reader = connectReader({ clock })
    channel.subscribe(reader.sse)
    await turns(2)
    log.append('data: 1\n\n')
    await turns(2)
    log.append('data: 2\n\n')
    await turns(2)
    expect(reader.data).toEqual(['1'])
    clock.advance(2)
    expect(reader.data).toEqual(['1', '2'])
  })
})

describe('a program that publishes without a pause', () => {
  const endless = 2_000_000

  it.each(['publish', 'send', 'pipe', 'publish without readers'])(
    'and awaits %s lets timers fire and connections be accepted',
    async (how) => {
      const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }) })
      const { url } = await serve((req, res) => channel.subscribe(createSSEHandler(req, res)))
      if (how !== 'publish without readers') {
        const client = await connect(url)
        await client.until(({ length }) => length === 1)
      }
      let published = 0
      const seen = { timers: 0, isAccepted: false }
      const publishedAtTimers: number[] = []
      const onTimer = () => {
        seen.timers += 1
        publishedAtTimers.push(published)
        if (seen.timers < 5) setTimeout(onTimer)
      }
      const isOver = () => (seen.timers === 5 && seen.isAccepted) || published >= endless
      setTimeout(onTimer)
      const accepted = connect(url).then(() => {
        seen.isAccepted = true
      })
      if (how === 'pipe') {
        const source = function* () {
          while (!isOver()) yield published++
        }
        await pipe(source(), channel)
      } else {
        const method = how === 'send' ? 'send' : 'publish'
        while (!isOver()) {
          await channel[method]({ data: published })
          published += 1
        }
      }
      await accepted
      expect(seen).toEqual({ timers: 5, isAccepted: true })
      expect(publishedAtTimers[0]).toBeLessThan(50_000)
      expect(published).toBeLessThan(endless)
    },
  )

  const texts5000: [string, (n: number) => string][] = [
    ['short', (n) => `${n}`],
    ['of 300 characters', (n) => `${n}:${'x'.repeat(300)}`],
    ['of 250 characters that take three bytes each', (n) => `${n}:${'語'.repeat(250)}`],
    ['of 1,000 characters that take three bytes each', (n) => `${n}:${'語'.repeat(1000)}`],
    ['of 5,000 characters', (n) => `${n}:${'x'.repeat(5000)}`],
    ['now short, now long', (n) => `${n}:${'x'.repeat(n % 7 === 0 ? 9000 : 3)}`],
  ]

  it.each(texts5000)(
    'a burst of 5,000 events over a log of 1,000 reaches a reader that takes everything, without a gap: %s',
    async (_, text) => {
      for (const slowConsumer of ['gap', 'close', 'wait'] as const) {
        const { channel, follow } = channelOf({ slowConsumer })
        const readers = [
          await follow(),
          await follow(),
          await follow({ filter: ({ data }) => Number.parseInt(data, 10) % 3 === 0 }),
          await follow({ events: 'n' }),
        ]
        for (const n of range(1, 5000)) void channel.publish({ event: 'n', data: text(n) })
        await turns(5)
        for (const [i, reader] of readers.entries()) {
          const got = reader.events.filter(({ event }) => event !== 'position')
          const expected = range(1, 5000).filter((n) => i !== 2 || n % 3 === 0)
          expect(got.map(({ event, data }) => `${event} ${Number.parseInt(data, 10)}`)).toEqual(
            expected.map((n) => `n ${n}`),
          )
        }
        expect(channel.stats()).toMatchObject({ gaps: 0, slow: 0, closedSlow: 0, readers: 4 })
      }
    },
  )
})

describe('what several connections are sent', () => {
  it('is the very same buffer for those at the same place', async () => {
    const { channel, follow, clock } = channelOf()
    const readers = await Promise.all(range(1, 5).map(() => follow()))
    for (const round of range(1, 3)) {
      const seen = readers.map(({ transport }) => transport.written.length)
      for (const n of range(1, 5)) void channel.publish({ data: `${round}.${n} é` })
      await turns(2)
      clock.advance(2)
      const [first, ...others] = readers.map(({ transport }, i) => transport.written.slice(seen[i]))
      expect(first).toHaveLength(1)
      for (const other of others) {
        expect(other).toHaveLength(1)
        expect(other[0]?.http1).toBe(first?.[0]?.http1)
        expect(other[0]?.bytes).toBe(first?.[0]?.bytes)
      }
      clock.advance(10)
    }
  })

  it('is the very same buffer for those that select the same, and no other for others', async () => {
    const { channel, follow } = channelOf()
    const same = [await follow({ topics: ['a', 'b'] }), await follow({ topics: ['b', 'a', 'a'] })]
    const others = [await follow({ topics: 'a' }), await follow(), await follow({ filter: () => true })]
    for (const topic of ['a', 'b', 'c']) void channel.publish({ data: topic, topic })
    await turns(2)
    const last = ({ transport }: Reader) => transport.written.at(-1)?.http1
    expect(last(same[0] as Reader)).toBe(last(same[1] as Reader))
    expect(new Set([...same, ...others].map(last)).size).toBe(4)
    expect([...same, ...others].map(({ data }) => data.join(''))).toEqual(['ab', 'ab', 'a', 'abc', 'abc'])
  })

  it('is shared soon by those that come back from different places', async () => {
    const { channel, clock } = channelOf()
    for (const n of range(1, 1000)) await channel.publish({ data: `${n}:${'x'.repeat(100)}` })
    await turns(2)
    clock.advance(10)
    const readers = [3, 40, 77, 300].map((n) => {
      const reader = connectReader({ clock, lastEventId: `e-${n}` })
      channel.subscribe(reader.sse)
      return reader
    })
    await turns(10)
    const chunks = readers.map(({ transport }) => new Set(transport.written.slice(1)))
    const [first, ...others] = chunks as [Set<unknown>, ...Set<unknown>[]]
    for (const other of others) expect([...other].filter((chunk) => first.has(chunk))).not.toEqual([])
    for (const [i, n] of [3, 40, 77, 300].entries()) {
      expect(readers[i]?.data.map((data) => Number.parseInt(data, 10))).toEqual(range(n + 1, 1000))
    }
  })

  it('is kept for those that come later only as long as somebody is behind', async () => {
    const { channel, follow, clock } = channelOf()
    const fast = await follow()
    const slow = await follow({}, { writeStallMs: 1e6 })
    slow.transport.takesAtOnce = false
    for (const data of ['a', 'b']) {
      void channel.publish({ data })
      await turns(2)
      clock.advance(10)
    }
    /** Comes back behind the first event, with its head written already. */
    const comeBack = async () => {
      const reader = connectReader({ clock, lastEventId: 'e-1' })
      await turns(2)
      channel.subscribe(reader.sse)
      await turns(2)
      expect(reader.data).toEqual(['b'])
      return reader.transport.written.at(-1)
    }
    const shared = fast.transport.written.at(-1)
    expect(await comeBack()).toBe(shared)
    slow.transport.takesAtOnce = true
    slow.transport.take()
    await turns(2)
    void channel.publish({ data: 'c' })
    await turns(2)
    const last = fast.transport.written.at(-1)
    const reader = connectReader({ clock, lastEventId: 'e-2' })
    await turns(2)
    channel.subscribe(reader.sse)
    await turns(2)
    expect(reader.data).toEqual(['c'])
    expect(reader.transport.written.at(-1)).not.toBe(last)
  })

  it('is a chunk of its own for one that has something else to be told', async () => {
    const { channel, follow } = channelOf()
    const [one, two] = [await follow(), await follow()]
    void channel.publish({ data: 'all' })
    void two.sse.send({ data: 'private' })
    await turns(2)
    expect(one.data).toEqual(['all'])
    expect(two.data.toSorted()).toEqual(['all', 'private'])
  })
})

it('an untouched response and one whose write was wrapped carry the same bytes', async () => {
  const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }), replay: { start: 'oldest' } })
  const seen: Buffer[] = []
  const { url } = await serve((req, res) => {
    if (req.url === '/wrapped') {
      const write = res.write.bind(res) as (chunk: Uint8Array) => boolean
      res.write = (chunk: Uint8Array) => {
        seen.push(Buffer.from(chunk))
        return write(chunk)
      }
    }
    const options = req.url === '/selecting' ? { events: ['n', 'message'] } : {}
    channel.subscribe(createSSEHandler(req, res, { sessionId: 's' }), options)
  })
  const paths = ['', 'wrapped', 'selecting']
  const clients = await Promise.all(paths.map((path) => connect(url + path)))
  const data = ['a', 'é😀', 'two\nlines', '', 'x'.repeat(3000), '語'.repeat(30_000), { n: [1, null] }, 7]
  for (const round of range(1, 50)) {
    for (const one of data) void channel.publish({ event: round % 2 === 0 ? 'n' : undefined, data: one })
    if (round % 10 === 0)
      await until(() => clients.every(({ lastEventId }) => lastEventId === channel.lastId))
  }
  channel.end()
  await until(() => clients.every(({ ended }) => ended))
  const [plain, wrapped, selecting] = clients
  expect(plain?.events).toHaveLength(1 + 50 * data.length)
  expect(wrapped?.text).toBe(plain?.text)
  expect(selecting?.text).toBe(plain?.text)
  expect(Buffer.concat(seen).toString()).toBe(plain?.text)
})

/** A clock on which everything takes time: each look at it costs some. */
class TickingClock extends ManualClock {
  #looks = 0

  override now(): number {
    this.#looks += 1
    return super.now() + this.#looks * 3
  }
}

describe('a flush of many readers', () => {
  it('is followed by another when something was published in the middle of it', async () => {
    const { channel, clock } = channelOf({ flushIntervalMs: 0 }, new TickingClock())
    const readers = range(1, 400).map(() => {
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse)
      return reader
    })
    await turns(30)
    void channel.publish({ data: 1 })
    const have = (data: string) => readers.filter((reader) => reader.data.includes(data)).length
    await turns(1)
    expect(have('1')).toBeGreaterThan(0)
    expect(have('1')).toBeLessThan(400)
    void channel.publish({ data: 2 })
    await turns(30)
    for (const reader of readers) expect(reader.data).toEqual(['1', '2'])
  })

  it('lets others have their turn now and then, and yet reaches everybody once, in order', async () => {
    const { channel, clock } = channelOf({ flushIntervalMs: 0 }, new TickingClock())
    const readers = range(1, 1000).map(() => {
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse)
      return reader
    })
    await turns(30)
    const progress: number[] = []
    for (const n of range(1, 3)) void channel.publish({ data: n })
    const late: Reader[] = []
    for (let i = 0; i < 40; i += 1) {
      await turns(1)
      progress.push(readers.filter(({ transport }) => transport.chunks.length > 1).length)
      if (i > 3) continue
      // Some leave and some come while it goes on, and more is published.
      readers[i * 100]?.sse.abort()
      readers[999 - i * 100]?.transport.lose()
      void channel.publish({ data: 4 + i })
      const reader = connectReader({ clock, lastEventId: `e-${i}` })
      channel.subscribe(reader.sse)
      late.push(reader)
    }
    expect(progress[0]).toBeLessThan(1000)
    await turns(30)
    const living = readers.filter(({ sse }) => sse.phase !== 'closed')
    expect(living).toHaveLength(992)
    for (const reader of living) expect(reader.data).toEqual(texts(range(1, 7)))
    for (const [i, reader] of late.entries()) expect(reader.data).toEqual(texts(range(i + 1, 7)))
    expect(channel.stats()).toMatchObject({ readers: 996, gaps: 0, slow: 0 })
  })
})
