import { EventSource } from 'eventsource'
import {
  createChannel,
  createMemoryLog,
  createSSEHandler,
  type SSEHandler,
  type SSEHandlerOptions,
  type SubscribeOptions,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectReader, hasCode, type Reader, type ReaderOptions, range, texts } from '../support/channel.js'
import { openPage } from '../support/chromium.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { takeUnhandledRejections } from '../support/unhandled.js'
import { until } from '../support/until.js'

function channelOf() {
  const clock = new ManualClock()
  const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }), clock, flushIntervalMs: 0 })
  return {
    channel,
    clock,
    follow(options: ReaderOptions = {}, select: SubscribeOptions = {}): Reader {
      const reader = connectReader({ clock, writeStallMs: 1e6, ...options })
      channel.subscribe(reader.sse, select)
      return reader
    },
    async publish(...data: unknown[]): Promise<void> {
      for (const one of data) await channel.publish({ data: one })
      await turns(3)
    },
  }
}

const status = ({ transport: { answer } }: Reader) => (answer?.stream === false ? answer.status : 200)
const reasonOf = async ({ sse }: Reader) => (await sse.closed).reason

describe('at the end of a channel', () => {
  it('a reader that has all is closed as completed', async () => {
    const { channel, follow, publish } = channelOf()
    const reader = follow()
    await publish('a')
    channel.end()
    expect(await reasonOf(reader)).toBe('completed')
    expect(reader.transport.calls.slice(-2)).toEqual(['end', 'detach'])
    expect(reader.data).toEqual(['a'])
    expect(channel.stats()).toMatchObject({ readers: 0, isEnded: true })
  })

  it('a reader gets what was published in that very turn first', async () => {
    const { channel, follow } = channelOf()
    const readers = [follow(), follow()]
    await turns(3)
    for (const data of range(1, 100)) void channel.publish({ data })
    channel.end()
    for (const reader of readers) {
      expect(await reasonOf(reader)).toBe('completed')
      expect(reader.data).toEqual(texts(range(1, 100)))
    }
  })

  it('a reader that lags gets the rest first, however slow it is', async () => {
    const { channel, follow, publish, clock } = channelOf()
    const slow = follow({ isSlow: true, drainMs: 10 })
    await turns(3)
    const large = range(1, 60).map((n) => `${n}:${'x'.repeat(10_000)}`)
    await publish(...large)
    channel.end()
    for (let i = 0; i < 7; i += 1) {
      clock.advance(1000)
      await turns(3)
      expect(slow.sse.phase).toBe('blocked')
      slow.transport.take()
    }
    slow.transport.takesAtOnce = true
    for (let i = 0; i < 30; i += 1) {
      slow.transport.take()
      await turns(2)
    }
    expect(await reasonOf(slow)).toBe('completed')
    expect(slow.data).toEqual(large)
  })

  it('a reader gets its private events too', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    await turns(3)
    reader.sse.trySend({ data: 'private' })
    channel.end()
    expect(await reasonOf(reader)).toBe('completed')
    expect(reader.data).toEqual(['private'])
  })

  it('a reader that some events were not for is told its position, and is answered 204 when it comes back', async () => {
    const { channel, follow, publish } = channelOf()
    const reader = follow({}, { filter: () => false })
    await publish(...range(1, 50))
    channel.end()
    expect(await reasonOf(reader)).toBe('completed')
    expect(reader.events.at(-1)).toEqual({ event: 'position', data: '', id: 'e-50' })
    expect(status(follow({ lastEventId: reader.lastEventId }))).toBe(204)
  })

  it('nobody can publish any more', async () => {
    const unhandled = takeUnhandledRejections()
    const { channel, publish } = channelOf()
    await publish('a')
    const permit = await channel.requestSend()
    channel.end()
    const closed = hasCode('ERR_SSE_CLOSED')
    await expect(channel.publish({ data: 'b' })).rejects.toEqual(closed)
    await expect(channel.publish({ data: 'b' })).rejects.toMatchObject({ reason: 'completed' })
    await expect(channel.send({ data: 'b' })).rejects.toEqual(closed)
    await expect(channel.requestSend()).rejects.toEqual(closed)
    expect(channel.trySend({ data: 'b' })).toBe('closed')
    expect(channel.tryRequestSend()).toBe(null)
    expect(permit.send({ data: 'b' })).toBe('closed')
    for await (const _ of channel.demand()) throw new Error('A permit was given after the end.')
    void channel.publish({ data: 'nobody waits' })
    void channel.send({ data: 'nobody waits' })
    await turns(3)
    expect(unhandled).toEqual([])
    expect(channel.stats()).toMatchObject({ published: 1, lastId: 'e-1', permits: 0, waiters: 0 })
  })

  it('nobody waits any more', async () => {
    const { channel } = channelOf()
    while (channel.trySend({ data: 1 }) === 'queued');
    const waiting = [track<unknown>(channel.send({ data: 2 })), track<unknown>(channel.requestSend())]
    const published = track(channel.publish({ data: 3 }))
    channel.end()
    await turns(3)
    expect(waiting.map(({ error }) => error)).toEqual(Array(2).fill(hasCode('ERR_SSE_CLOSED')))
    expect(published.state).toBe('fulfilled')
  })

  it('an event whose encoding ends the channel is not published', async () => {
    const { channel } = channelOf()
    const data = {
      toJSON() {
        channel.end()
        return 1
      },
    }
    await expect(channel.publish({ data })).rejects.toEqual(hasCode('ERR_SSE_CLOSED'))
    expect(channel.stats().published).toBe(0)
  })

  it('the signal aborts, made before or after, and a second end changes nothing', async () => {
    const [before, after] = [channelOf(), channelOf()]
    const { signal } = before.channel
    expect(signal.aborted).toBe(false)
    for (const { channel } of [before, after]) {
      channel.end()
      channel.end()
      expect(channel.signal.aborted).toBe(true)
      expect(channel.signal.reason).toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'completed' })
    }
    expect(before.channel.signal).toBe(signal)
  })

  it('a reader that was unsubscribed stays open', async () => {
    const { channel, follow } = channelOf()
    const reader = follow()
    await turns(3)
    channel.unsubscribe(reader.sse)
    channel.end()
    await turns(3)
    expect(reader.sse.phase).toBe('flowing')
    channel.subscribe(reader.sse)
    expect(await reasonOf(reader)).toBe('completed')
  })

  it('another channel over the same log goes on', async () => {
    const log = createMemoryLog({ epoch: 'e' })
    const [one, two] = [createChannel({ log }), createChannel({ log })]
    one.end()
    await expect(two.publish({ data: 1 })).resolves.toBe('e-1')
  })
})

describe('after the end of a channel', () => {
  it('a reader that comes back gets the rest and the end, and then 204', async () => {
    const { channel, follow, publish } = channelOf()
    await publish('a', 'b', 'c')
    channel.end()
    const back = follow({ lastEventId: 'e-1' })
    expect(await reasonOf(back)).toBe('completed')
    expect([status(back), back.data]).toEqual([200, ['b', 'c']])
    const again = follow({ lastEventId: back.lastEventId })
    expect(await reasonOf(again)).toBe('completed')
    expect([status(again), again.transport.chunks]).toEqual([204, []])
    expect(again.transport.violations).toEqual([])
    expect(channel.stats().readers).toBe(0)
  })

  it('one whose position is none of the log gets a gap, what is held, and the end; then 204', async () => {
    const { channel, follow, publish } = channelOf()
    await publish('a', 'b')
    channel.end()
    const back = follow({ lastEventId: 'other-7' })
    expect(await reasonOf(back)).toBe('completed')
    expect(back.events.map(({ event, id }) => [event, id])).toEqual([
      ['gap', 'e-0'],
      [undefined, 'e-1'],
      [undefined, 'e-2'],
    ])
    expect(status(follow({ lastEventId: back.lastEventId }))).toBe(204)
  })

  it('one without a position gets all, or 204, as replay.start says', async () => {
    for (const start of ['newest', 'oldest'] as const) {
      const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }), replay: { start } })
      await channel.publish({ data: 1 })
      channel.end()
      const reader = connectReader()
      channel.subscribe(reader.sse)
      expect(await reasonOf(reader)).toBe('completed')
      expect([status(reader), reader.data]).toEqual(start === 'newest' ? [204, []] : [200, ['1']])
    }
  })

  it('one that nothing was published to is answered 204', async () => {
    const { channel, follow } = channelOf()
    channel.end()
    const reader = follow()
    expect([await reasonOf(reader), status(reader)]).toEqual(['completed', 204])
  })

  it('one to which the stream has begun already gets an end, and no 204 in the middle', async () => {
    const { channel, clock, publish } = channelOf()
    await publish('a')
    channel.end()
    const reader = connectReader({ clock })
    await turns(3)
    channel.subscribe(reader.sse)
    expect(await reasonOf(reader)).toBe('completed')
    expect([status(reader), reader.transport.violations]).toEqual([200, []])
  })

  it('several readers read it to the end at once, each at its own speed, none stealing from another', async () => {
    const { channel, follow, publish } = channelOf()
    const all = range(1, 300).map((n) => `${n}:${'x'.repeat(n * 10)}`)
    await publish(...all)
    channel.end()
    const readers = range(0, 9).map((n) => follow({ lastEventId: `e-${n}`, isSlow: n % 2 === 1 }))
    for (let i = 0; i < 100; i += 1) {
      await turns(1)
      for (const [n, { transport }] of readers.entries()) {
        if (i % (n + 1) === 0) transport.take()
        transport.finish()
      }
    }
    for (const [n, reader] of readers.entries()) {
      expect(await reasonOf(reader)).toBe('completed')
      expect(reader.data).toEqual(all.slice(n))
    }
  })

  it('a snapshot is a state like any other: then the end, then 204', async () => {
    const { channel, follow, publish } = channelOf()
    await publish('a')
    channel.end()
    const onSubscribe = () => ({ events: [{ event: 'state', data: 'final' }] })
    const reader = follow({}, { onSubscribe })
    expect(await reasonOf(reader)).toBe('completed')
    expect(reader.events.map(({ event, id }) => [event, id])).toEqual([
      ['state', undefined],
      ['position', 'e-1'],
    ])
    expect(status(follow({ lastEventId: reader.lastEventId }, { onSubscribe }))).toBe(204)
  })
})

describe('over real sockets', () => {
  async function server(options: SSEHandlerOptions = {}, wrap = false) {
    const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }), replay: { start: 'oldest' } })
    const connections: SSEHandler[] = []
    const { url } = await serve((req, res) => {
      if (req.headers.accept !== 'text/event-stream')
        return void res.setHeader('content-type', 'text/html').end('<title>page</title>')
      if (wrap) {
        const write = res.write.bind(res) as (chunk: Uint8Array) => boolean
        res.write = (chunk: Uint8Array) => write(chunk)
      }
      const sse = createSSEHandler(req, res, { retryMs: 5, ...options })
      connections.push(sse)
      channel.subscribe(sse)
    })
    return { channel, connections, url }
  }

  it.each([false, true])('the answer to who has all is 204 without a body (wrapped: %s)', async (wrap) => {
    const { channel, url } = await server({}, wrap)
    await channel.publish({ data: 1 })
    channel.end()
    const first = await connect(url)
    await until(() => first.ended)
    expect([first.response.statusCode, first.events.slice(1).map(({ data }) => data)]).toEqual([200, ['1']])
    const second = await connect(url, { headers: { 'last-event-id': first.lastEventId } })
    await until(() => second.ended)
    expect([second.response.statusCode, second.text]).toEqual([204, ''])
    expect(second.response.headers).toMatchObject({ 'cache-control': 'no-store' })
    expect(second.response.headers['content-type']).toBe(undefined)
  })

  it('the npm eventsource client reads on where it was cut, and does not reconnect for ever', async () => {
    const { channel, connections, url } = await server()
    const source = new EventSource(url)
    onTestFinished(() => source.close())
    const got: string[] = []
    source.addEventListener('message', ({ data }) => got.push(data))
    await until(() => connections.length === 1)
    for (const n of range(1, 10)) await channel.publish({ data: n })
    await until(() => got.length === 10)
    connections[0]?.abort()
    for (const n of range(11, 20)) await channel.publish({ data: n })
    channel.end()
    await until(() => source.readyState === source.CLOSED)
    expect(got).toEqual(texts(range(1, 20)))
    // Cut, then read to the end, then told that there is no more.
    const reasons = await Promise.all(connections.map(async ({ closed }) => (await closed).reason))
    expect(reasons).toEqual(['aborted', 'completed', 'completed'])
    expect(connections.map((sse) => sse.stats().eventsSent).at(-1)).toBe(0)
  })

  it('EventSource of Chromium does not reconnect either, in several tabs', async () => {
    const { channel, connections, url } = await server()
    const page = await openPage()
    await page.goto(`${url}page`)
    const states = page.evaluate<{ got: string[]; state: number }[]>(`Promise.all([1, 2, 3].map(
      (tab) => new Promise((resolve) => {
        const got = []
        const source = new EventSource('/?tab=' + tab)
        source.onmessage = ({ data }) => got.push(data)
        source.onerror = () => {
          if (source.readyState === EventSource.CLOSED) resolve({ got, state: source.readyState })
        }
      }),
    ))`)
    await until(() => connections.length === 3)
    for (const n of range(1, 10)) await channel.publish({ data: n })
    channel.end()
    expect(await states).toEqual(Array(3).fill({ got: texts(range(1, 10)), state: 2 }))
    await turns(3)
    expect(connections).toHaveLength(6)
  })
})
