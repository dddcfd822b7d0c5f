import {
  type Channel,
  type ChannelOptions,
  createChannel,
  createMemoryLog,
  createSSEHandler,
  pipe,
  SSEError,
  type SubscribeOptions,
} from 'sluice'
import { describe, expect, it, vi } from 'vitest'
import {
  connectReader,
  hasCode,
  parsed,
  type Reader,
  type ReaderOptions,
  range,
  texts,
} from '../support/channel.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'

function channelOf(options: ChannelOptions & { epoch?: string } = {}) {
  const { epoch = 'e', ...rest } = options
  const clock = new ManualClock()
  const log = createMemoryLog({ epoch, clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0, ...rest })
  return {
    channel,
    clock,
    log,
    follow(readerOptions: ReaderOptions = {}, select: SubscribeOptions = {}): Reader {
      const reader = connectReader({ clock, ...readerOptions })
      channel.subscribe(reader.sse, select)
      return reader
    },
    async publish(...data: unknown[]): Promise<void> {
      for (const one of data) await channel.publish({ data: one })
      await turns(3)
    },
  }
}

const inShort = (reader: Reader) => reader.events.map(({ event, id, data }) => [event, id, data])
const head = (reader: Reader) => parsed(reader.transport.text)[0]

describe('publish', () => {
  it('resolves with the id that readers get, in the order of the calls', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    const ids = await Promise.all(['a', 'b', 'c'].map((data) => channel.publish({ data })))
    await turns(3)
    expect(ids).toEqual(['e-1', 'e-2', 'e-3'])
    expect(reader.events.map(({ id }) => id)).toEqual(ids)
    expect(channel.lastId).toBe('e-3')
  })

  it('encodes at the call: changing the data afterwards changes nothing', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    const data = { n: 1 }
    const published = channel.publish({ data })
    data.n = 2
    await published
    await turns(3)
    expect(reader.data).toEqual(['{"n":1}'])
  })

  it('serialises an event once, whatever the number of readers', async () => {
    const { channel, follow } = channelOf()
    const readers = range(1, 20).map(() => follow())
    let serialised = 0
    const toJSON = () => {
      serialised += 1
      return 'once'
    }
    await channel.publish({ data: { toJSON } })
    await turns(3)
    expect(serialised).toBe(1)
    for (const reader of readers) expect(reader.data).toEqual(['"once"'])
  })

  it.each([
    ['no object', 5, 'ERR_SSE_INVALID_EVENT'],
    ['data that cannot be serialised', { data: 1n }, 'ERR_SSE_INVALID_EVENT'],
    ['an empty name', { event: '' }, 'ERR_SSE_INVALID_EVENT'],
    ['a name with a line break', { event: 'a\nb' }, 'ERR_SSE_INVALID_EVENT'],
    ['an id', { data: 1, id: 'mine' }, 'ERR_SSE_INVALID_EVENT'],
    ['an empty id', { data: 1, id: '' }, 'ERR_SSE_INVALID_EVENT'],
    ['an empty topic', { data: 1, topic: '' }, 'ERR_SSE_INVALID_EVENT'],
    ['a topic that is no string', { data: 1, topic: 5 }, 'ERR_SSE_INVALID_EVENT'],
    ['a topic that is null', { data: 1, topic: null }, 'ERR_SSE_INVALID_EVENT'],
    ['a retry that is none', { data: 1, retry: -1 }, 'ERR_SSE_INVALID_EVENT'],
    ['too much', { data: 'x'.repeat(1000) }, 'ERR_SSE_EVENT_TOO_LARGE'],
  ])('and its siblings refuse %s, and nothing is published', async (_, event, code) => {
    const { channel, follow } = channelOf({ maxEventBytes: 900 })
    const reader = follow()
    const bad = event as { data: unknown }
    await expect(channel.publish(bad)).rejects.toEqual(hasCode(code))
    await expect(channel.send(bad)).rejects.toEqual(hasCode(code))
    expect(() => channel.trySend(bad)).toThrow(hasCode(code))
    const permit = await channel.requestSend()
    expect(() => permit.send(bad)).toThrow(hasCode(code))
    expect(permit.send({ data: 'good' })).toBe('queued')
    await turns(3)
    expect(inShort(reader)).toEqual([[undefined, 'e-1', 'good']])
    expect(channel.stats()).toMatchObject({ published: 1, permits: 0, dropped: 0 })
  })

  it('sends topics to nobody: they select, and that is all', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    await channel.publish({ event: 'n', data: 1, topic: 'secret' })
    await turns(3)
    expect(reader.transport.text).not.toContain('secret')
  })

  it('is followed by channels that share a log, each with its readers', async () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ epoch: 'e' })
    const [one, two] = [createChannel({ log, clock }), createChannel({ log, clock })]
    const readers = [one, two].map((channel) => {
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse)
      return reader
    })
    await one.publish({ data: 1 })
    await two.publish({ data: 2 })
    log.append('data: 3\n\n')
    await turns(3)
    clock.advance(2)
    await turns(3)
    for (const reader of readers) expect(reader.data).toEqual(['1', '2', '3'])
    expect([one.stats().published, two.stats().published]).toEqual([1, 1])
    expect([one.lastId, two.lastId]).toEqual(['e-3', 'e-3'])
  })
})

describe('send, requestSend, trySend and demand', () => {
  it('publish, too, without waiting while nobody has to be waited for', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    expect(await channel.send({ data: 1 })).toBe('queued')
    expect(channel.trySend({ data: 2 })).toBe('queued')
    const permit = await channel.requestSend()
    expect(channel.stats().permits).toBe(1)
    expect(permit.send({ data: 3 })).toBe('queued')
    expect(channel.tryRequestSend()?.send({ data: 4 })).toBe('queued')
    for await (const next of channel.demand()) {
      next.send({ data: 5 })
      break
    }
    await turns(3)
    expect(reader.data).toEqual(texts(range(1, 5)))
    expect(channel.stats()).toMatchObject({ permits: 0, waiters: 0, published: 5, dropped: 0 })
  })

  it('wait for a flush after a burst, and trySend drops until then', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    const outcomes = range(1, 300).map((n) => channel.trySend({ data: n }))
    const accepted = outcomes.indexOf('dropped')
    expect(outcomes.slice(accepted)).toEqual(Array(300 - accepted).fill('dropped'))
    const send = track(channel.send({ data: 'later' }))
    const permit = track(channel.requestSend())
    await Promise.resolve()
    expect([send.state, permit.state]).toEqual(['pending', 'pending'])
    await turns(3)
    expect([send.state, permit.state]).toEqual(['fulfilled', 'fulfilled'])
    expect(reader.data).toEqual([...texts(range(1, accepted)), 'later'])
    expect(channel.stats().dropped).toBe(300 - accepted)
  })

  it('gives up waiting when the signal says so', async () => {
    const { channel } = channelOf()
    while (channel.trySend({ data: 1 }) === 'queued');
    const controller = new AbortController()
    const waiting = [
      track<unknown>(channel.send({ data: 2 }, controller)),
      track<unknown>(channel.requestSend(controller)),
    ]
    const reason = new Error('no longer wanted')
    controller.abort(reason)
    await turns(3)
    expect(waiting).toMatchObject([{ error: reason }, { error: reason }])
    expect(channel.stats().waiters).toBe(0)
  })

  it('are paced without readers, too', async () => {
    const { channel } = channelOf()
    for (let i = 0; i < 1000; i += 1) await channel.send({ data: i })
    expect(channel.stats()).toMatchObject({ published: 1000, heldEvents: 1000 })
  })
})

describe('a position', () => {
  it('is told by the first event, so that a client which is cut before the next misses nothing', async () => {
    const { follow, publish } = channelOf()
    await publish('a', 'b')
    const first = follow()
    await turns(3)
    expect(head(first)).toMatchObject({ event: 'connected', id: 'e-2' })
    await publish('c')
    const second = follow({ lastEventId: 'e-2' })
    await turns(3)
    expect(head(second)).toMatchObject({ event: 'connected', id: 'e-2' })
    expect(inShort(second)).toEqual([[undefined, 'e-3', 'c']])
  })

  it('is told by a first event of the program, and without any', async () => {
    const { follow, publish } = channelOf()
    await publish('a')
    const own = follow({ firstEvent: { event: 'hello', data: 1 } })
    const none = follow({ firstEvent: false })
    await turns(3)
    expect(own.transport.text).toBe('id: e-1\nretry: 2000\nevent: hello\ndata: 1\n\n')
    expect(none.transport.text).toBe('retry: 2000\nid: e-1\n\n')
  })

  it('refuses a first event with an id of its own, and leaves the connection as it was', async () => {
    const { channel, clock, publish } = channelOf()
    const reader = connectReader({ clock, firstEvent: { event: 'hello', data: 1, id: 'mine' } })
    expect(() => channel.subscribe(reader.sse)).toThrow(hasCode('ERR_SSE_INVALID_EVENT'))
    expect(channel.stats().readers).toBe(0)
    await publish('a')
    await reader.sse.send({ data: 'private', id: 'own' })
    await turns(3)
    expect(reader.events.map(({ id, data }) => [id, data])).toEqual([
      ['mine', '1'],
      ['own', 'private'],
    ])
  })

  it('that makes the first event too large is an error, and leaves the connection as it was', async () => {
    const { channel, clock, publish } = channelOf()
    const firstEvent = { event: 'hello', data: 'x'.repeat(100) }
    const maxEventBytes = 'retry: 2000\nevent: hello\ndata: \n\n'.length + 100
    const reader = connectReader({ clock, firstEvent, maxEventBytes })
    expect(() => channel.subscribe(reader.sse)).toThrow(hasCode('ERR_SSE_EVENT_TOO_LARGE'))
    expect(channel.stats().readers).toBe(0)
    await publish('a')
    await reader.sse.send({ data: 'private' })
    await turns(3)
    expect(reader.data.slice(1)).toEqual(['private'])
    expect(reader.sse.stats().lastId).toBe(null)
  })

  it('is not moved by private events, which come between, in their order', async () => {
    const { follow, publish } = channelOf()
    const reader = follow()
    for (let n = 1; n <= 5; n += 1) {
      await publish(`public ${n}`)
      await reader.sse.send({ event: 'private', data: n })
      await turns(3)
    }
    expect(inShort(reader)).toEqual(
      range(1, 5).flatMap((n) => [
        [undefined, `e-${n}`, `public ${n}`],
        ['private', undefined, String(n)],
      ]),
    )
    expect(reader.sse.stats().lastId).toBe('e-5')
    const again = follow({ lastEventId: reader.lastEventId })
    await turns(3)
    expect(again.data).toEqual([])
  })

  it('is the business of the channel: a private event has no id, and no topic', async () => {
    const { follow } = channelOf()
    const reader = follow()
    await expect(reader.sse.send({ data: 1, id: 'x' })).rejects.toEqual(hasCode('ERR_SSE_INVALID_EVENT'))
    await expect(reader.sse.send({ data: 1, id: '' })).rejects.toEqual(hasCode('ERR_SSE_INVALID_EVENT'))
    await expect(reader.sse.send({ data: 1, topic: 'x' })).rejects.toThrow(/topic/)
    expect(() => reader.sse.trySend({ data: 1, topic: 'x' })).toThrow(hasCode('ERR_SSE_INVALID_EVENT'))
    await turns(3)
    expect(reader.data).toEqual([])
  })

  it('without a channel has no topic either', async () => {
    const { sse } = connectReader()
    await expect(sse.send({ data: 1, topic: 'x' })).rejects.toEqual(hasCode('ERR_SSE_INVALID_EVENT'))
  })

  it('of a client without one is the newest or the oldest, as replay.start says', async () => {
    for (const start of ['newest', 'oldest'] as const) {
      const { follow, publish } = channelOf({ replay: { start } })
      await publish('a', 'b')
      const reader = follow()
      await publish('c')
      expect(reader.data).toEqual(start === 'newest' ? ['c'] : ['a', 'b', 'c'])
      expect(head(reader)?.id).toBe(start === 'newest' ? 'e-2' : 'e-0')
    }
  })

  it.each([
    ['unknown', 'what'],
    ['other-epoch', 'f-1'],
    ['future', 'e-9'],
  ])('that is %s is answered with a gap, and what afterGap says', async (cause, lastEventId) => {
    for (const afterGap of ['oldest', 'newest', 'close'] as const) {
      const { follow, publish, channel } = channelOf({ replay: { afterGap } })
      await publish('a', 'b')
      const reader = follow({ lastEventId })
      await turns(3)
      await publish('c')
      const data = { asked: lastEventId, oldest: 'e-1', cause, continues: afterGap }
      const [gap, ...rest] = inShort(reader)
      expect(gap).toEqual(['gap', afterGap === 'oldest' ? 'e-0' : 'e-2', JSON.stringify(data)])
      expect(rest.map(([, , text]) => text)).toEqual(
        { oldest: ['a', 'b', 'c'], newest: ['c'], close: [] }[afterGap],
      )
      expect(channel.stats()).toMatchObject({ gaps: 1, readers: afterGap === 'close' ? 0 : 1 })
      if (afterGap === 'close') expect((await reader.sse.closed).reason).toBe('gap')
    }
  })
})

describe('subscribe', () => {
  const refused = hasCode('ERR_SSE_ALREADY_SUBSCRIBED')

  it('refuses a connection that follows another channel, or this one already, and says what to do', async () => {
    const one = channelOf({ epoch: 'one' })
    const two = channelOf({ epoch: 'two' })
    const reader = one.follow()
    for (const { channel } of [one, two]) {
      expect(() => channel.subscribe(reader.sse)).toThrow(refused)
      expect(() => channel.subscribe(reader.sse)).toThrow(/topics/)
    }
    await two.publish('no')
    await one.publish('yes')
    expect(reader.data).toEqual(['yes'])
    expect([one.channel.stats().readers, two.channel.stats().readers]).toEqual([1, 0])
  })

  it('refuses a connection with a log of its own', async () => {
    const { channel, publish } = channelOf()
    const reader = connectReader({ log: createMemoryLog({ epoch: 'own' }) })
    expect(() => channel.subscribe(reader.sse)).toThrow(refused)
    await publish('no')
    await reader.sse.send({ data: 'own' })
    await turns(3)
    expect(inShort(reader)).toEqual([[undefined, 'own-1', 'own']])
  })

  it('says of a connection of another copy of sluice that there may be two', async () => {
    const { channel } = channelOf()
    vi.resetModules()
    const other = await import('sluice')
    const { sse } = other.createSSEResponse(new Request('http://localhost/'))
    expect(() => channel.subscribe(sse as never)).toThrow(/both imports and requires sluice/)
    sse.abort()
  })

  it.each([undefined, null, 5, {}, new AbortController()])('refuses what is no connection: %s', (what) => {
    const { channel } = channelOf()
    const subscriber = what as Parameters<Channel['subscribe']>[0]
    expect(() => channel.subscribe(subscriber)).toThrow(hasCode('ERR_SSE_INVALID_OPTION'))
  })

  it.each([
    { event: 'a' },
    { events: [] },
    { events: '' },
    { events: 5 },
    { events: ['a', ''] },
    { events: ['a', 5] },
    { topics: range(1, 101).map(String) },
    { topics: 'x'.repeat(257) },
    { filter: 'a' },
    { authorize: {} },
    { onGap: true },
    { onSubscribe: { events: [] } },
    null,
  ])('refuses options that are none, and changes nothing: %j', async (options) => {
    const { channel, clock, publish } = channelOf()
    const reader = connectReader({ clock })
    expect(() => channel.subscribe(reader.sse, options as SubscribeOptions)).toThrow(
      hasCode('ERR_SSE_INVALID_OPTION'),
    )
    expect(channel.stats().readers).toBe(0)
    channel.subscribe(reader.sse, { events: undefined, topics: range(1, 100).map(String), filter: undefined })
    channel.unsubscribe(reader.sse)
    channel.subscribe(reader.sse)
    await publish('a')
    expect(reader.data).toEqual(['a'])
  })

  it('leaves a connection alone that is closing, closed or was refused', async () => {
    const { channel, publish } = channelOf()
    const closing = connectReader({ isSlow: true })
    await turns(3)
    void closing.sse.close()
    const closed = connectReader()
    closed.sse.abort()
    for (const reader of [closing, closed]) {
      channel.subscribe(reader.sse)
      channel.unsubscribe(reader.sse)
      channel.subscribe(reader.sse)
    }
    await publish('a')
    expect(channel.stats().readers).toBe(0)
    expect([...closing.events, ...closed.events]).toEqual([])
  })

  it('takes a client whose first event has left already, from then on', async () => {
    const { channel, publish, clock } = channelOf()
    await publish('before')
    const reader = connectReader({ clock })
    await reader.sse.send({ data: 'private' })
    await turns(3)
    channel.subscribe(reader.sse)
    await publish('after')
    expect(reader.data).toEqual(['private', 'after'])
  })

  it('lets no close in the middle leave a reader behind', async () => {
    const { channel, publish, follow } = channelOf()
    const reader = follow(
      {},
      {
        onSubscribe: ({ signal }) => {
          signal.addEventListener('abort', () => void channel.publish({ data: 'left' }))
          return { events: [] }
        },
      },
    )
    await turns(3)
    reader.transport.lose()
    await publish('a')
    expect(channel.stats()).toMatchObject({ readers: 0, published: 2 })
  })
})

describe('a connection that follows a channel', () => {
  const large = (n: number) => `${n}:${'x'.repeat(20_000)}`

  it('and lags takes private events all the same, as many as maxEvents', async () => {
    const { follow, publish } = channelOf()
    const reader = follow({ isSlow: true, writeStallMs: 1e6, maxEvents: 5 })
    await turns(3)
    await publish(...range(1, 300))
    const outcomes = range(1, 6).map((n) => reader.sse.trySend({ event: 'private', data: n }))
    expect(outcomes).toEqual([...Array(5).fill('queued'), 'dropped'])
    expect(reader.sse.stats()).toMatchObject({ queuedEvents: 305, dropped: 1 })
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await turns(5)
    expect(reader.events.filter(({ event }) => event === 'private').map(({ data }) => data)).toEqual(
      texts(range(1, 5)),
    )
    expect(reader.events.filter(({ event }) => event === undefined)).toHaveLength(300)
  })

  it('and lags gets what was published before its close, then its end, though publishing goes on', async () => {
    const { follow, publish, channel } = channelOf()
    const reader = follow({ isSlow: true, writeStallMs: 1e6 })
    await turns(3)
    await publish(...range(1, 30).map(large))
    void reader.sse.close()
    for (let i = 0; i < 60 && reader.sse.phase !== 'closed'; i += 1) {
      for (const n of range(1, 4)) void channel.publish({ data: large(100 + n) })
      reader.transport.take()
      await turns(2)
      reader.transport.finish()
    }
    expect(reader.sse.phase).toBe('closed')
    expect((await reader.sse.closed).reason).toBe('server-closed')
    expect(reader.data.map((data) => Number.parseInt(data, 10))).toEqual(range(1, 30))
  })

  it('and ends with an error gets the rest first', async () => {
    const { follow, publish } = channelOf()
    const reader = follow({ isSlow: true, writeStallMs: 1e6 })
    await turns(3)
    await publish(...range(1, 30).map(large))
    void reader.sse.sendError(new Error('of the program'), { data: 'sorry' })
    reader.transport.takesAtOnce = true
    reader.transport.take()
    expect((await reader.sse.closed).reason).toBe('error')
    expect(reader.data.slice(0, 30).map((data) => Number.parseInt(data, 10))).toEqual(range(1, 30))
    expect(reader.data.slice(30)).toEqual(['sorry', '{"reason":"error"}'])
    expect(reader.lastEventId).toBe('e-30')
  })

  it('is that of a request that gets a stream: not one that is refused', async () => {
    const channel = createChannel()
    const { url } = await serve((req, res) => channel.subscribe(createSSEHandler(req, res)))
    const refused = await connect(url, { headers: { accept: 'text/html' } })
    expect(refused.response.statusCode).toBe(406)
    expect(channel.stats().readers).toBe(0)
    await connect(url)
    expect(channel.stats().readers).toBe(1)
  })
})

describe('unsubscribe', () => {
  it('keeps the connection open, with its private events', async () => {
    const { channel, follow, publish } = channelOf()
    const reader = follow()
    await publish('a')
    channel.unsubscribe(reader.sse)
    expect(channel.stats().readers).toBe(0)
    await publish('b')
    await reader.sse.send({ data: 'private' })
    await turns(3)
    expect(reader.data).toEqual(['a', 'private'])
    expect(reader.sse.phase).toBe('flowing')
    expect(reader.sse.stats()).toMatchObject({ queuedEvents: 0, lastId: 'e-1' })
  })

  it('does nothing to a connection that follows another channel, or none', async () => {
    const one = channelOf()
    const two = channelOf()
    const reader = one.follow()
    two.channel.unsubscribe(reader.sse)
    two.channel.unsubscribe(connectReader().sse)
    await one.publish('a')
    expect(reader.data).toEqual(['a'])
    one.channel.unsubscribe(reader.sse)
    one.channel.unsubscribe(reader.sse)
    expect(one.channel.stats().readers).toBe(0)
  })

  it('and subscribe again goes on where it was: nothing lost, nothing twice', async () => {
    const { channel, follow, publish } = channelOf()
    const reader = follow()
    await publish('a')
    for (const data of ['b', 'c', 'd']) {
      channel.unsubscribe(reader.sse)
      await publish(data)
      channel.subscribe(reader.sse)
      await turns(3)
    }
    channel.unsubscribe(reader.sse)
    channel.subscribe(reader.sse)
    await publish('e')
    expect(inShort(reader)).toEqual(
      ['a', 'b', 'c', 'd', 'e'].map((data, i) => [undefined, `e-${i + 1}`, data]),
    )
  })

  it('while its client lags loses nothing either', async () => {
    const { channel, follow, publish } = channelOf()
    const reader = follow({ isSlow: true, writeStallMs: 1e6 })
    await turns(3)
    await publish('a', 'b')
    channel.unsubscribe(reader.sse)
    await publish('c')
    channel.subscribe(reader.sse)
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await publish('d')
    expect(reader.data).toEqual(['a', 'b', 'c', 'd'])
  })

  it('before a gap was told does not hide it', async () => {
    const { channel, clock, publish } = channelOf()
    await publish('a', 'b')
    const reader = connectReader({ clock, lastEventId: 'other-1' })
    channel.subscribe(reader.sse)
    channel.unsubscribe(reader.sse)
    channel.subscribe(reader.sse)
    await turns(3)
    expect(reader.events.map(({ event, id }) => [event, id])).toEqual([
      ['gap', 'e-0'],
      [undefined, 'e-1'],
      [undefined, 'e-2'],
    ])
  })

  it('before the snapshot came does not hide that it is missing', async () => {
    const { channel, clock, publish } = channelOf()
    await publish('a')
    const reader = connectReader({ clock })
    channel.subscribe(reader.sse, { onSubscribe: () => new Promise(() => {}) })
    await turns(3)
    channel.unsubscribe(reader.sse)
    await publish('b')
    channel.subscribe(reader.sse, { onSubscribe: ({ id }) => ({ events: [{ event: 'state', data: id }] }) })
    await turns(3)
    expect(inShort(reader)).toEqual([
      ['state', undefined, 'e-2'],
      ['position', 'e-2', ''],
    ])
  })

  it('after a gap was told and before its snapshot came does not hide that it is missing', async () => {
    const { channel, clock, publish } = channelOf()
    await publish('a')
    const reader = connectReader({ clock, lastEventId: 'other-1' })
    channel.subscribe(reader.sse, { onGap: () => new Promise(() => {}) })
    await turns(3)
    expect(reader.events.map(({ event }) => event)).toEqual(['gap'])
    channel.unsubscribe(reader.sse)
    await publish('b')
    channel.subscribe(reader.sse, { onGap: ({ id }) => ({ events: [{ event: 'state', data: id }] }) })
    await turns(3)
    expect(
      inShort(reader)
        .slice(1)
        .filter(([event]) => event !== 'gap'),
    ).toEqual([
      ['state', undefined, 'e-2'],
      ['position', 'e-2', ''],
    ])
  })

  it.each(['the state', 'a gap'])(
    'before the snapshot came, and then none is asked for, does not leave the client without events for ever: %s',
    async (what) => {
      const { channel, clock, publish } = channelOf()
      await publish('a')
      const hook = () => new Promise<never>(() => {})
      const reader = connectReader({ clock, lastEventId: what === 'a gap' ? 'other-1' : undefined })
      channel.subscribe(reader.sse, what === 'a gap' ? { onGap: hook } : { onSubscribe: hook })
      await turns(3)
      channel.unsubscribe(reader.sse)
      channel.subscribe(reader.sse)
      await publish('b')
      expect(reader.data.at(-1)).toBe('b')
      expect(reader.lastEventId).toBe('e-2')
    },
  )

  it('keeps in mind which position the client knows: it is told the one it came to', async () => {
    const { channel, follow, clock, publish } = channelOf()
    const reader = follow({ heartbeat: { intervalMs: 1000 } }, { filter: ({ data }) => data < '30' })
    await publish(...range(10, 32))
    expect(reader.lastEventId).toBe('e-20')
    channel.unsubscribe(reader.sse)
    channel.subscribe(reader.sse)
    clock.advance(1000)
    await turns(3)
    expect(reader.lastEventId).toBe('e-23')
  })

  it('does not make room for a channel with another log: its position is one in the first', async () => {
    const one = channelOf({ epoch: 'one' })
    const two = channelOf({ epoch: 'two' })
    await one.publish('a', 'b')
    const reader = one.follow({ lastEventId: 'one-1' })
    await one.publish('c')
    one.channel.unsubscribe(reader.sse)
    expect(() => two.channel.subscribe(reader.sse)).toThrow(hasCode('ERR_SSE_ALREADY_SUBSCRIBED'))
    expect(() => two.channel.subscribe(reader.sse)).toThrow(/topics/)
    await two.publish('no')
    one.channel.subscribe(reader.sse)
    await one.publish('d')
    expect(reader.data).toEqual(['b', 'c', 'd'])
    expect(two.channel.stats().readers).toBe(0)
  })

  it('makes room for another channel over the same log, in which it goes on where it was', async () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ epoch: 'e' })
    const [one, two] = [createChannel({ log, clock }), createChannel({ log, clock })]
    const reader = connectReader({ clock })
    one.subscribe(reader.sse)
    await one.publish({ data: 'a' })
    await turns(3)
    one.unsubscribe(reader.sse)
    await one.publish({ data: 'b' })
    two.subscribe(reader.sse)
    await turns(3)
    expect(reader.data).toEqual(['a', 'b'])
    expect([one.stats().readers, two.stats().readers]).toEqual([0, 1])
  })

  it('may be called from a listener of gap, in the middle of a flush', async () => {
    const { channel, clock, publish } = channelOf()
    await publish('a')
    const readers = range(1, 5).map(() => {
      const reader = connectReader({ clock, lastEventId: 'other-1' })
      reader.sse.on('gap', () => channel.unsubscribe(reader.sse))
      channel.subscribe(reader.sse)
      return reader
    })
    await publish('b')
    expect(channel.stats().readers).toBe(0)
    for (const reader of readers) expect(reader.transport.violations).toEqual([])
  })
})

describe('stats', () => {
  it('says what the channel is like', async () => {
    const { channel, follow, publish } = channelOf()
    expect(channel.stats()).toEqual({
      readers: 0,
      published: 0,
      lastId: 'e-0',
      heldEvents: 0,
      heldBytes: 0,
      maxLagEvents: 0,
      slow: 0,
      gaps: 0,
      closedSlow: 0,
      permits: 0,
      waiters: 0,
      dropped: 0,
      isEnded: false,
    })
    follow()
    const slow = follow({ isSlow: true, writeStallMs: 1e6 })
    await turns(3)
    await publish('a', 'b', 'c')
    expect(channel.stats()).toMatchObject({
      readers: 2,
      published: 3,
      lastId: 'e-3',
      heldEvents: 3,
      heldBytes: 3 * 'id: e-1\ndata: a\n\n'.length,
      maxLagEvents: 3,
    })
    expect(slow.sse.stats()).toMatchObject({ queuedEvents: 3, lastId: 'e-0' })
    channel.end()
    expect(channel.stats().isEnded).toBe(true)
  })

  it('of a connection counts what it got from the channel, and what of it was a replay', async () => {
    const { follow, publish } = channelOf()
    await publish('a', 'b')
    const reader = follow({ lastEventId: 'e-0' })
    await turns(3)
    await publish('c')
    await reader.sse.send({ data: 'private' })
    await turns(3)
    expect(reader.sse.stats()).toMatchObject({
      eventsSent: 4,
      eventsReplayed: 2,
      unsentEvents: 0,
      lastId: 'e-3',
    })
  })
})

describe('the default', () => {
  it('is a log of 1,000 events, in this process', async () => {
    const channel = createChannel()
    for (let i = 0; i < 1500; i += 1) await channel.publish({ data: i })
    expect(channel.stats()).toMatchObject({ heldEvents: 1000, published: 1500 })
    expect(channel.lastId).toMatch(/^[\da-f]{8}-1500$/)
  })
})

describe('createChannel', () => {
  it.each([
    { policy: 'gap' },
    { log: {} },
    { log: null },
    { slowConsumer: 'drop' },
    { maxLag: 5 },
    { maxLag: { count: 5 } },
    { maxLag: { events: 0 } },
    { maxLag: { events: 1.5 } },
    { maxLag: { bytes: 0 } },
    { maxLag: { ageMs: 0 } },
    { maxLag: { ageMs: 2 ** 31 } },
    { maxLag: { ageMs: 5 }, slowConsumer: 'wait' },
    { maxWaitMs: 0 },
    { maxWaitMs: Number.POSITIVE_INFINITY },
    { flushIntervalMs: -1 },
    { flushIntervalMs: 1001 },
    { flushIntervalMs: 0.5 },
    { replay: { start: 'first' } },
    { replay: { afterGap: 'snapshot' } },
    { snapshotTimeoutMs: 0 },
    { maxEventBytes: 0 },
    { maxWaiters: -1 },
    { leaseMs: 0 },
    null,
  ])('refuses %j', (options) => {
    expect(() => createChannel(options as ChannelOptions)).toThrow(hasCode('ERR_SSE_INVALID_OPTION'))
    expect(() => createChannel(options as ChannelOptions)).toThrow(SSEError)
  })

  it('takes undefined for each option, and the ends of each range', () => {
    const ends: ChannelOptions[] = [
      {
        log: undefined,
        slowConsumer: undefined,
        maxLag: undefined,
        maxWaitMs: undefined,
        flushIntervalMs: undefined,
        replay: undefined,
        snapshotTimeoutMs: undefined,
        maxEventBytes: undefined,
        maxWaiters: undefined,
        leaseMs: undefined,
        clock: undefined,
      },
      { maxLag: { events: 1, bytes: 1, ageMs: 1 }, maxWaitMs: 1, flushIntervalMs: 0, maxWaiters: 0 },
      {
        maxLag: {
          events: Number.POSITIVE_INFINITY,
          bytes: Number.POSITIVE_INFINITY,
          ageMs: Number.POSITIVE_INFINITY,
        },
        maxWaitMs: 2 ** 31 - 1,
        flushIntervalMs: 1000,
      },
    ]
    for (const options of ends) expect(createChannel(options).stats().readers).toBe(0)
  })
})

describe('pipe to a channel', () => {
  it('publishes everything a source gives, paced, to every reader', async () => {
    const { channel, follow } = channelOf()
    const readers = [follow(), follow()]
    async function* source() {
      for (let i = 0; i < 2000; i += 1) yield i
    }
    await expect(pipe(source(), channel, { event: 'n' })).resolves.toEqual({ outcome: 'ended', events: 2000 })
    await turns(3)
    for (const reader of readers) expect(reader.data).toEqual(texts(range(0, 1999)))
    expect(channel.stats()).toMatchObject({ permits: 0, waiters: 0, gaps: 0 })
  })

  it('stops when the channel ends, and tells the source', async () => {
    const { channel } = channelOf()
    let isTold = false
    let given = 0
    async function* source() {
      try {
        for (;;) {
          await turns(1)
          given += 1
          yield given
        }
      } finally {
        isTold = true
      }
    }
    const piped = pipe(source(), channel)
    await turns(20)
    channel.end()
    const { outcome, events } = await piped
    await turns(3)
    expect([outcome, isTold]).toEqual(['closed', true])
    expect(channel.stats()).toMatchObject({ published: events, permits: 0 })
    expect(events).toBeGreaterThan(5)
  })
})

it('over real sockets, browsers in several tabs get the same, whenever they come', async () => {
  const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }), replay: { start: 'oldest' } })
  const { url } = await serve((req, res) => channel.subscribe(createSSEHandler(req, res)))
  const clients = [await connect(url)]
  for (let n = 1; n <= 30; n += 1) {
    await channel.publish({ event: 'n', data: n })
    if (n % 10 === 0) clients.push(await connect(url))
  }
  for (const client of clients) {
    await client.until((events) => events.at(-1)?.data === '30')
    expect(client.events.slice(1).map(({ data }) => data)).toEqual(texts(range(1, 30)))
  }
})
