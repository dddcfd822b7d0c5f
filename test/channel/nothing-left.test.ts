import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import {
  type Channel,
  type ChannelOptions,
  createChannel,
  createMemoryLog,
  type EventLog,
  type SubscribeOptions,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader, type Reader, type ReaderOptions, range, settle } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** How many listen to each log made here. */
const listeners = new WeakMap<EventLog, number>()

function channelOf(options: ChannelOptions & { ring?: number } = {}) {
  const { ring = 1000, ...rest } = options
  const clock = new ManualClock()
  const log = createMemoryLog({ maxEvents: ring, epoch: 'e', clock })
  const onAppend = log.onAppend.bind(log)
  listeners.set(log, 0)
  const count = (by: number) => listeners.set(log, (listeners.get(log) ?? 0) + by)
  log.onAppend = (listener) => {
    count(1)
    const stop = onAppend(listener)
    return () => {
      count(-1)
      stop()
    }
  }
  const channel = createChannel({ log, clock, ...rest })
  return {
    channel,
    clock,
    log,
    follow(select: SubscribeOptions = {}, readerOptions: ReaderOptions = {}): Reader {
      const reader = connectReader({ clock, writeStallMs: 1e6, drainMs: 100, ...readerOptions })
      reader.sse.on('error', () => {})
      channel.subscribe(reader.sse, select)
      return reader
    },
  }
}

/** That a channel which everybody has left holds nothing: listens to nothing, waits for nothing. */
async function expectNothingLeft({ channel, clock, log }: ReturnType<typeof channelOf>): Promise<void> {
  // What was published last is flushed still, though to nobody.
  await settle(clock)
  expect({
    readers: channel.stats().readers,
    listeners: listeners.get(log),
    timers: clock.pending,
    waiters: channel.stats().waiters,
    permits: channel.stats().permits,
  }).toEqual({ readers: 0, listeners: 0, timers: 0, waiters: 0, permits: 0 })
}

type Leave = (reader: Reader, channel: Channel, clock: ManualClock) => unknown
const ways: Record<string, Leave> = {
  'its client leaves': ({ transport }) => transport.lose(),
  'it is aborted': ({ sse }) => sse.abort(),
  'it is closed': async ({ sse, transport }) => {
    transport.takesAtOnce = true
    transport.take()
    await sse.close()
  },
  'it is closed and does not read': async ({ sse }, _, clock) => {
    void sse.close()
    clock.advance(100)
    await sse.closed
  },
  'it ends with an error': async ({ sse, transport }) => {
    transport.takesAtOnce = true
    transport.take()
    await sse.sendError(new Error('of the program'))
  },
  'it unsubscribes and is aborted': ({ sse }, channel) => {
    channel.unsubscribe(sse)
    sse.abort()
  },
  'its transport fails': async ({ sse, transport }, channel) => {
    transport.throwing.set('write', new Error('broken'))
    transport.take()
    void channel.publish({ data: 'x' })
    await turns(3)
    if (sse.phase !== 'closed') sse.abort()
  },
}

const never = () => new Promise<never>(() => {})
const kinds: Record<string, { select?: SubscribeOptions; options?: ReaderOptions }> = {
  'that keeps up': {},
  'that selects': { select: { topics: 'a*', events: 'b' } },
  'that filters': { select: { filter: ({ data }) => data < '5' } },
  'that does not read': { options: { isSlow: true } },
  'that catches up': { options: { isSlow: true, lastEventId: 'e-0' } },
  'that waits for its state': { select: { onSubscribe: never } },
  'that waits for its state after a gap': { select: { onGap: never }, options: { lastEventId: 'other-1' } },
}

describe('when its last reader is gone, a channel holds nothing', () => {
  const cases = Object.keys(kinds).flatMap((kind) => Object.keys(ways).map((way) => [kind, way] as const))

  it.each(cases)('of a reader %s: %s', async (kind, way) => {
    for (const slowConsumer of ['gap', 'close', 'wait'] as const) {
      const made = channelOf({ slowConsumer })
      for (const n of range(1, 30)) void made.channel.publish({ data: n, topic: 'a', event: 'b' })
      await settle(made.clock)
      const { select, options } = kinds[kind] as (typeof kinds)[string]
      const readers = range(1, 3).map(() => made.follow(select, options))
      expect(listeners.get(made.log)).toBe(1)
      await turns(3)
      for (const n of range(1, 10)) void made.channel.publish({ data: n, topic: 'b' })
      await settle(made.clock)
      for (const reader of readers) {
        expect(made.channel.stats().readers).toBeGreaterThan(0)
        await (ways[way] as Leave)(reader, made.channel, made.clock)
        expect(reader.sse.phase).toBe('closed')
      }
      await expectNothingLeft(made)
    }
  })

  it('after the end', async () => {
    const made = channelOf()
    for (const one of [{}, { topics: 'none' }, { onSubscribe: () => ({ events: [] }) }]) made.follow(one)
    for (const n of range(1, 10)) void made.channel.publish({ data: n })
    made.channel.end()
    await settle(made.clock)
    await expectNothingLeft(made)
    made.follow({}, { lastEventId: 'e-10' })
    made.follow({}, { lastEventId: 'e-1' })
    await settle(made.clock)
    await expectNothingLeft(made)
  })

  it('after the end while somebody waited for a reader', async () => {
    const made = channelOf({ slowConsumer: 'wait', maxLag: { events: 5 } })
    const reader = made.follow({}, { isSlow: true })
    await turns(3)
    const sends = range(1, 10).map((n) => track(made.channel.send({ data: n })))
    await turns(3)
    made.channel.end()
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await settle(made.clock)
    expect(sends.map(({ state }) => state)).toEqual([
      ...Array(5).fill('fulfilled'),
      ...Array(5).fill('rejected'),
    ])
    expect((await reader.sse.closed).reason).toBe('completed')
    await expectNothingLeft(made)
  })

  it('after readers were too slow', async () => {
    for (const slowConsumer of ['gap', 'close', 'wait'] as const) {
      const made = channelOf({ slowConsumer, ring: 20, maxLag: { events: 5 } })
      const readers = range(1, 5).map(() => made.follow({}, { isSlow: true }))
      const sends = range(1, 50).map((n) => track(made.channel.send({ data: n })))
      for (const _ of range(1, 30)) {
        await turns(2)
        made.clock.advance(1000)
      }
      for (const { transport } of readers) if (transport.isAttached) transport.lose()
      await turns(5)
      expect([slowConsumer, sends.filter(({ state }) => state === 'pending')]).toEqual([slowConsumer, []])
      await expectNothingLeft(made)
    }
  })

  it.each(['gives up', 'is served'])('after somebody who waited for it %s', async (how) => {
    const made = channelOf({ slowConsumer: 'wait', maxLag: { events: 5 }, flushIntervalMs: 0 })
    const reader = made.follow({}, { isSlow: true })
    await turns(3)
    const controller = new AbortController()
    const sends = range(1, 10).map((n) => track(made.channel.send({ data: n }, controller)))
    await turns(3)
    expect(made.channel.stats().waiters).toBeGreaterThan(0)
    if (how === 'gives up') controller.abort()
    await turns(3)
    reader.transport.lose()
    await turns(5)
    expect(sends.filter(({ state }) => state === 'pending')).toEqual([])
    await expectNothingLeft(made)
  })

  it('after a subscription that was refused', async () => {
    const made = channelOf()
    const bad = connectReader({ clock: made.clock, firstEvent: { data: 1, id: 'own' } })
    expect(() => made.channel.subscribe(bad.sse)).toThrow()
    expect(() => made.channel.subscribe(bad.sse, { events: [] })).toThrow()
    bad.sse.abort()
    await expectNothingLeft(made)
  })

  it('after 2,000 came and went', async () => {
    const made = channelOf()
    const stay = made.follow()
    for (const n of range(1, 2000)) {
      const reader = made.follow(n % 3 === 0 ? { topics: String(n) } : {})
      void made.channel.publish({ data: n })
      if (n % 2 === 0) reader.transport.lose()
      else made.channel.unsubscribe(reader.sse)
      if (n % 2 === 1) reader.sse.abort()
      if (n % 100 === 0) await turns(1)
    }
    expect(made.channel.stats().readers).toBe(1)
    expect(listeners.get(made.log)).toBe(1)
    stay.transport.lose()
    await expectNothingLeft(made)
  })
})

it('a reader that comes after all have left is served like the first', async () => {
  const made = channelOf()
  for (const round of range(1, 3)) {
    const reader = made.follow()
    await settle(made.clock)
    void made.channel.publish({ data: round })
    await settle(made.clock)
    expect(reader.data).toEqual([String(round)])
    reader.transport.lose()
    await expectNothingLeft(made)
  }
})

describe('the garbage collector takes', () => {
  /** Makes something that is then forgotten. */
  async function isCollected(make: () => Promise<object>): Promise<boolean> {
    const reference = new WeakRef(await make())
    for (let i = 0; i < 20; i += 1) {
      await turns(2)
      collectGarbage()
      if (reference.deref() === undefined) return true
    }
    return false
  }

  it('a connection that has left, though its channel goes on', async () => {
    const made = channelOf()
    const stay = made.follow()
    const collected = isCollected(async () => {
      const reader = made.follow({ filter: () => true })
      for (const n of range(1, 10)) void made.channel.publish({ data: n })
      await settle(made.clock)
      reader.transport.lose()
      return reader.sse
    })
    expect(await collected).toBe(true)
    expect(stay.sse.phase).toBe('flowing')
  })

  it('a connection that unsubscribed and left, though its channel goes on', async () => {
    const made = channelOf()
    const collected = isCollected(async () => {
      const reader = made.follow()
      await settle(made.clock)
      made.channel.unsubscribe(reader.sse)
      reader.transport.lose()
      return reader.sse
    })
    expect(await collected).toBe(true)
  })

  it('a channel that nobody refers to, though its log goes on', async () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ clock })
    const collected = isCollected(async () => {
      const channel = createChannel({ log, clock })
      const reader = connectReader({ clock })
      channel.subscribe(reader.sse)
      void channel.publish({ data: 1 })
      await settle(clock)
      reader.transport.lose()
      return channel
    })
    expect(await collected).toBe(true)
    expect(log.next).toBe(2)
  })
})
