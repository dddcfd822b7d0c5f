import { type Channel, type ChannelOptions, createChannel, createMemoryLog } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectReader, hasCode, type Reader, range, settle, texts } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'

interface Told {
  sessionId: string
  lagEvents: number
  lagBytes: number
}

interface Case {
  channel: Channel
  clock: ManualClock
  told: Told[]
  /** A reader that follows the channel and has got all there is; a slow one takes nothing from then on. */
  follow(sessionId: string, isSlow?: boolean, lastEventId?: string): Promise<Reader>
  publish(count: number, data?: string): Promise<void>
}

function channelOf(options: ChannelOptions & { ring?: number }): Case {
  const { ring = 1000, ...rest } = options
  const clock = new ManualClock()
  const log = createMemoryLog({ maxEvents: ring, epoch: 'e', clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0, ...rest })
  const told: Told[] = []
  channel.on('slow', (reader) => told.push(reader))
  return {
    channel,
    clock,
    told,
    async follow(sessionId, isSlow = false, lastEventId = undefined) {
      const reader = connectReader({ sessionId, clock, lastEventId, writeStallMs: 1_000_000 })
      channel.subscribe(reader.sse)
      await turns(3)
      if (isSlow) reader.transport.takesAtOnce = false
      return reader
    },
    async publish(count, data) {
      for (let i = 0; i < count; i += 1) {
        const sequence = log.next
        await channel.publish({ data: data ?? sequence })
        await turns(2)
      }
      await turns(3)
    },
  }
}

/** Has a reader be written one event that it does not take: it owes its transport from here on. */
async function stall({ publish }: Case, reader: Reader): Promise<void> {
  reader.transport.takesAtOnce = false
  await publish(1)
  expect(reader.transport.isWaiting).toBe(true)
}

const BY_EVENTS = { maxLag: { events: 10 } }

describe('a reader that falls behind by more than maxLag', () => {
  it('with the policy gap is told what it lost, and goes on from the oldest that is not too far behind', async () => {
    const made = channelOf({ ...BY_EVENTS })
    const slow = await made.follow('slow', true)
    const fast = await made.follow('fast')
    await stall(made, slow)
    await made.publish(30)
    slow.transport.takesAtOnce = true
    slow.transport.take()
    await settle()
    const [first, gap, ...rest] = slow.events
    expect(first?.data).toBe('1')
    expect(gap).toMatchObject({ event: 'gap', id: 'e-21' })
    expect(JSON.parse(gap?.data ?? '')).toEqual({
      asked: 'e-1',
      oldest: 'e-1',
      cause: 'evicted',
      continues: 'oldest',
    })
    expect(rest.map(({ data }) => data)).toEqual(texts(range(22, 31)))
    expect(fast.data).toEqual(texts(range(1, 31)))
    expect(made.channel.stats()).toMatchObject({
      slow: 1,
      gaps: 1,
      closedSlow: 0,
      readers: 2,
      maxLagEvents: 0,
    })
    expect(slow.transport.violations).toEqual([])
  })

  it('with the policy close is closed as slow-consumer, and misses nothing when it comes back by its id', async () => {
    const made = channelOf({ ...BY_EVENTS, slowConsumer: 'close' })
    const slow = await made.follow('slow', true)
    const fast = await made.follow('fast')
    await stall(made, slow)
    await made.publish(10)
    expect(slow.sse.phase).toBe('blocked')
    await made.publish(1)
    await expect(slow.sse.closed).resolves.toMatchObject({ reason: 'slow-consumer' })
    expect(slow.transport.calls.slice(-2)).toEqual(['reset', 'detach'])
    await made.publish(10)
    const again = await made.follow('again', false, 'e-0')
    expect(again.data).toEqual(texts(range(1, 22)))
    expect(fast.data).toEqual(texts(range(1, 22)))
    expect(made.channel.stats()).toMatchObject({ slow: 1, gaps: 0, closedSlow: 1, readers: 2 })
  })

  it('is not touched one event before that, whatever the policy', async () => {
    for (const slowConsumer of ['gap', 'close', 'wait'] as const) {
      const made = channelOf({ ...BY_EVENTS, slowConsumer })
      const slow = await made.follow('slow', true)
      await stall(made, slow)
      await made.publish(10)
      expect(made.channel.stats()).toMatchObject({ maxLagEvents: 10, slow: 0 })
      slow.transport.takesAtOnce = true
      slow.transport.take()
      await settle()
      expect([slowConsumer, slow.data]).toEqual([slowConsumer, texts(range(1, 11))])
    }
  })

  it('in bytes is behind by the encoded size of what it has not got', async () => {
    const made = channelOf({ maxLag: { bytes: 1000 }, slowConsumer: 'close' })
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    const data = 'x'.repeat(100 - 'id: e-1\ndata: \n\n'.length)
    await made.publish(8, data)
    // With an id of two digits.
    await made.publish(2, data.slice(1))
    expect(slow.sse.stats().queuedBytes).toBe(1000)
    expect(slow.sse.phase).toBe('blocked')
    await made.publish(1, '')
    expect((await slow.sse.closed).reason).toBe('slow-consumer')
  })

  it('in time is behind by the age of the oldest event it has not got, looked at when something is published', async () => {
    const made = channelOf({ maxLag: { ageMs: 800 }, slowConsumer: 'close' })
    const slow = await made.follow('slow', true)
    const fast = await made.follow('fast')
    await stall(made, slow)
    await made.publish(1)
    made.clock.advance(700)
    await made.publish(1)
    expect(slow.sse.phase).toBe('blocked')
    made.clock.advance(1000)
    expect(slow.sse.phase).toBe('blocked')
    await made.publish(1)
    expect((await slow.sse.closed).reason).toBe('slow-consumer')
    expect(fast.data).toEqual(texts(range(1, 4)))
  })

  it('is told of once per crossing, with how far behind it is', async () => {
    const made = channelOf({ ...BY_EVENTS })
    const slow = await made.follow('slow')
    for (const crossing of [1, 2, 3]) {
      await stall(made, slow)
      await made.publish(50)
      expect(made.told).toHaveLength(crossing)
      expect(made.channel.stats().slow).toBe(crossing)
      slow.transport.takesAtOnce = true
      slow.transport.take()
      await settle()
      expect(slow.events.at(-1)?.data).toBe(String(crossing * 51))
    }
    expect(made.told.map(({ sessionId, lagEvents }) => [sessionId, lagEvents])).toEqual(
      Array(3).fill(['slow', 11]),
    )
    expect(made.told[0]?.lagBytes).toBeGreaterThan(11 * 'id: e-1\ndata: 1\n\n'.length)
    expect(made.channel.stats().gaps).toBe(3)
  })

  it('is told of once though it takes a little now and then without catching up', async () => {
    const made = channelOf({ ...BY_EVENTS })
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    for (let i = 0; i < 10; i += 1) {
      await made.publish(30)
      slow.transport.take()
      await turns(1)
      // What it is written now it does not take: more is published before it has caught up.
      expect(slow.transport.isWaiting).toBe(true)
      await made.publish(1)
    }
    expect(made.channel.stats().gaps).toBe(10)
    expect(made.told.length).toBe(made.channel.stats().slow)
  })
})

describe('a reader that falls out of the log', () => {
  it.each(['gap', 'wait'] as const)(
    'with the policy %s gets a gap exactly at the hole',
    async (slowConsumer) => {
      const made = channelOf({ ring: 20, slowConsumer })
      const slow = await made.follow('slow', true)
      await stall(made, slow)
      await made.publish(50)
      slow.transport.takesAtOnce = true
      slow.transport.take()
      await settle()
      expect(slow.events.map(({ event, id }) => `${event ?? ''}${id}`)).toEqual([
        'e-1',
        'gape-31',
        ...range(32, 51).map((n) => `e-${n}`),
      ])
      expect(JSON.parse(slow.data[1] ?? '')).toMatchObject({ asked: 'e-1', oldest: 'e-32', cause: 'evicted' })
      expect(made.channel.stats()).toMatchObject({ gaps: 1, slow: 1 })
    },
  )

  it('with the policy close is closed, and told by a gap when it comes back', async () => {
    const made = channelOf({ ring: 20, slowConsumer: 'close' })
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    await made.publish(20)
    expect(slow.sse.phase).toBe('blocked')
    await made.publish(1)
    expect((await slow.sse.closed).reason).toBe('slow-consumer')
    const again = await made.follow('again', false, 'e-1')
    expect(again.events.map(({ event, id }) => `${event ?? ''}${id}`)).toEqual([
      'gape-2',
      ...range(3, 22).map((n) => `e-${n}`),
    ])
  })

  it('for events that grew too old in the log gets a gap for those', async () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ maxAgeMs: 1000, epoch: 'e', clock })
    const channel = createChannel({ log, clock, flushIntervalMs: 0 })
    const reader = connectReader({ clock, isSlow: true, writeStallMs: 1_000_000 })
    channel.subscribe(reader.sse)
    await turns(3)
    for (const n of [1, 2, 3]) void channel.publish({ data: n })
    clock.advance(1000)
    void channel.publish({ data: 4 })
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await settle()
    expect(reader.events.map(({ event, id }) => `${event ?? ''}${id}`)).toEqual(['gape-3', 'e-4'])
  })
})

describe('a reader that catches up', () => {
  it('may be behind by more than maxLag until it has got what it missed', async () => {
    for (const slowConsumer of ['gap', 'close'] as const) {
      const made = channelOf({ ...BY_EVENTS, slowConsumer })
      await made.publish(100, 'x'.repeat(10_000))
      const late = connectReader({ clock: made.clock, isSlow: true, lastEventId: 'e-0', writeStallMs: 1e6 })
      made.channel.subscribe(late.sse)
      for (let i = 0; i < 20; i += 1) {
        await made.publish(1, 'x'.repeat(10_000))
        expect(late.sse.phase).toBe('replaying')
      }
      expect(made.channel.stats()).toMatchObject({ slow: 0, gaps: 0, maxLagEvents: 113 })
      for (let i = 0; i < 30; i += 1) {
        late.transport.take()
        await turns(1)
      }
      expect(late.events.map(({ id }) => id)).toEqual(range(1, 120).map((n) => `e-${n}`))
    }
  })

  it('and falls out of the log meanwhile is behind by too much', async () => {
    const made = channelOf({ ring: 50, slowConsumer: 'close' })
    await made.publish(50, 'x'.repeat(10_000))
    const late = connectReader({ clock: made.clock, isSlow: true, lastEventId: 'e-0', writeStallMs: 1e6 })
    made.channel.subscribe(late.sse)
    await turns(3)
    // Its first write took seven of them.
    await made.publish(7)
    expect([late.sse.phase, made.channel.stats().maxLagEvents]).toEqual(['replaying', 50])
    await made.publish(1)
    expect((await late.sse.closed).reason).toBe('slow-consumer')
  })
})

describe('with the policy wait, send', () => {
  const options = { slowConsumer: 'wait' as const, maxLag: { events: 10 }, maxWaitMs: 3000 }

  /** Starts as many sends as the limit takes, and some more, which wait. */
  function sendMany({ channel }: Case, count: number) {
    return Array.from({ length: count }, (_, i) => track(channel.send({ data: `sent ${i}` })))
  }
  const settled = (sends: { state: string }[]) => sends.filter(({ state }) => state !== 'pending').length

  it('waits while a reader is at the limit, and goes on when it reads', async () => {
    const made = channelOf(options)
    const slow = await made.follow('slow', true)
    const fast = await made.follow('fast')
    await stall(made, slow)
    const sends = sendMany(made, 25)
    await turns(5)
    expect(settled(sends)).toBe(10)
    expect(made.channel.stats()).toMatchObject({ waiters: 15, maxLagEvents: 10 })
    made.clock.advance(2999)
    await turns(5)
    expect(settled(sends)).toBe(10)
    slow.transport.take()
    await turns(5)
    expect(settled(sends)).toBe(20)
    slow.transport.take()
    await turns(5)
    expect(settled(sends)).toBe(25)
    slow.transport.takesAtOnce = true
    slow.transport.take()
    await turns(5)
    const expected = ['1', ...range(0, 24).map((n) => `sent ${n}`)]
    expect(slow.data).toEqual(expected)
    expect(fast.data).toEqual(expected)
    expect(made.channel.stats()).toMatchObject({ slow: 0, gaps: 0, closedSlow: 0 })
  })

  it('waits for the slowest by bytes, too', async () => {
    const made = channelOf({ ...options, maxLag: { bytes: 1000 } })
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    const data = 'x'.repeat(300)
    const sends = Array.from({ length: 6 }, () => track(made.channel.send({ data })))
    await turns(5)
    expect(settled(sends)).toBe(4)
    slow.transport.take()
    await turns(5)
    expect(settled(sends)).toBe(6)
  })

  it('closes exactly those that it waited for after maxWaitMs, and goes on', async () => {
    const made = channelOf(options)
    const stalled = await made.follow('stalled', true)
    const alsoStalled = await made.follow('also stalled', true)
    const fast = await made.follow('fast')
    await stall(made, stalled)
    // One event closer than the other two.
    const behind = await made.follow('behind', true)
    await made.publish(3)
    expect([stalled, alsoStalled, behind].map(({ sse }) => sse.stats().queuedEvents)).toEqual([3, 3, 2])
    const sends = sendMany(made, 12)
    await turns(5)
    expect(settled(sends)).toBe(7)
    made.clock.advance(2999)
    await turns(5)
    expect([stalled.sse.phase, alsoStalled.sse.phase]).toEqual(['blocked', 'blocked'])
    made.clock.advance(1)
    await turns(5)
    for (const { sse } of [stalled, alsoStalled]) {
      expect(sse.phase).toBe('closed')
      await expect(sse.closed).resolves.toMatchObject({ reason: 'slow-consumer' })
    }
    expect(behind.sse.phase).toBe('blocked')
    expect(fast.sse.phase).toBe('flowing')
    expect(settled(sends)).toBe(8)
    behind.transport.take()
    await turns(5)
    expect(settled(sends)).toBe(12)
    expect(fast.data.slice(4)).toEqual(range(0, 11).map((n) => `sent ${n}`))
    expect(made.channel.stats()).toMatchObject({ slow: 2, closedSlow: 2, gaps: 0, readers: 2 })
    expect(made.told.map(({ sessionId }) => sessionId).sort()).toEqual(['also stalled', 'stalled'])
  })

  it('by bytes closes none that is within the limit', async () => {
    const made = channelOf({ ...options, maxLag: { bytes: 250 } })
    const data = 'x'.repeat(100 - 'id: e-1\ndata: \n\n'.length)
    const stalled = await made.follow('stalled', true)
    await made.publish(1, data)
    expect(stalled.transport.isWaiting).toBe(true)
    await made.publish(1, data)
    const behind = await made.follow('behind', true)
    await made.publish(1, data)
    expect(behind.transport.isWaiting).toBe(true)
    await made.publish(1, data)
    // One is 300 bytes behind and is waited for; the other is 100 behind.
    expect([stalled, behind].map(({ sse }) => sse.stats().queuedBytes)).toEqual([300, 100])
    const send = track(made.channel.send({ data }))
    await turns(5)
    expect(send.state).toBe('pending')
    await made.publish(1, data)
    expect([stalled, behind].map(({ sse }) => sse.stats().queuedBytes)).toEqual([400, 200])
    made.clock.advance(3000)
    await turns(5)
    expect([stalled.sse.phase, behind.sse.phase]).toEqual(['closed', 'blocked'])
    expect(send.state).toBe('fulfilled')
  })

  it('is held up by one stalled reader for maxWaitMs at most, however often it comes back', async () => {
    const made = channelOf(options)
    const fast = await made.follow('fast')
    let waitedMs = 0
    for (let i = 0; i < 5; i += 1) {
      const stalled = await made.follow('stalled', true)
      await stall(made, stalled)
      const sends = sendMany(made, 20)
      await turns(5)
      expect(settled(sends)).toBe(10)
      while (settled(sends) < 20 && waitedMs < 100_000) {
        made.clock.advance(100)
        waitedMs += 100
        await turns(5)
      }
    }
    expect(waitedMs).toBe(5 * 3000)
    expect(fast.data).toHaveLength(5 * 21)
  })

  it('does not wait for a reader that has left', async () => {
    const made = channelOf(options)
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    const sends = sendMany(made, 15)
    await turns(5)
    expect(settled(sends)).toBe(10)
    slow.transport.lose()
    await turns(5)
    expect(settled(sends)).toBe(15)
    expect(made.channel.stats()).toMatchObject({ closedSlow: 0, slow: 0, readers: 0 })
  })

  it('waits for no one afresh with what is left of an older wait', async () => {
    const made = channelOf(options)
    const first = await made.follow('first', true)
    await stall(made, first)
    const sends = sendMany(made, 15)
    await turns(5)
    made.clock.advance(2000)
    first.transport.lose()
    await turns(5)
    expect(settled(sends)).toBe(15)
    const second = await made.follow('second', true)
    await stall(made, second)
    const more = sendMany(made, 15)
    await turns(5)
    expect(settled(more)).toBe(10)
    made.clock.advance(2999)
    await turns(5)
    expect(second.sse.phase).toBe('blocked')
    made.clock.advance(1)
    await turns(5)
    expect(second.sse.phase).toBe('closed')
    expect(settled(more)).toBe(15)
  })

  it.each(['a send that was given up', 'trySend', 'tryRequestSend'])(
    'and nobody who waits closes nobody: after %s',
    async (what) => {
      const made = channelOf(options)
      const slow = await made.follow('slow', true)
      await stall(made, slow)
      await made.publish(10)
      if (what === 'trySend') expect(made.channel.trySend({ data: 'x' })).toBe('dropped')
      else if (what === 'tryRequestSend') expect(made.channel.tryRequestSend()).toBe(null)
      else {
        const controller = new AbortController()
        const send = track(made.channel.send({ data: 'x' }, { signal: controller.signal }))
        await turns(3)
        expect(send.state).toBe('pending')
        made.clock.advance(100)
        controller.abort(new Error('no longer wanted'))
        await turns(3)
        expect(send.state).toBe('rejected')
      }
      made.clock.advance(60_000)
      await turns(5)
      expect(slow.sse.phase).toBe('blocked')
      expect(made.channel.stats()).toMatchObject({ closedSlow: 0, slow: 0 })
    },
  )

  it('leaves it at one word about a reader that was told of already', async () => {
    const made = channelOf(options)
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    await made.publish(20)
    expect(made.told).toHaveLength(1)
    const send = track(made.channel.send({ data: 'x' }))
    await turns(3)
    made.clock.advance(3000)
    await turns(5)
    expect([slow.sse.phase, send.state]).toEqual(['closed', 'fulfilled'])
    expect(made.told).toHaveLength(1)
    expect(made.channel.stats()).toMatchObject({ slow: 1, closedSlow: 1 })
  })

  it('gives permits within the limit only, those that are out counted', async () => {
    const made = channelOf(options)
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    const permits = await Promise.all(range(1, 10).map(() => made.channel.requestSend()))
    const eleventh = track(made.channel.requestSend())
    await turns(3)
    expect(eleventh.state).toBe('pending')
    expect(made.channel.tryRequestSend()).toBe(null)
    expect(made.channel.trySend({ data: 'x' })).toBe('dropped')
    permits[0]?.release()
    await turns(3)
    expect(eleventh.state).toBe('fulfilled')
    for (const permit of permits.slice(1)) expect(permit.send({ data: 'x' })).toBe('queued')
    await turns(3)
    expect(made.channel.stats()).toMatchObject({ maxLagEvents: 9, permits: 1, dropped: 1 })
  })

  it('refuses more who wait than maxWaiters', async () => {
    const made = channelOf({ ...options, maxWaiters: 2 })
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    await made.publish(10)
    const sends = sendMany(made, 3)
    await turns(3)
    expect(sends.map(({ state }) => state)).toEqual(['pending', 'pending', 'rejected'])
    expect(sends[2]?.error).toEqual(hasCode('ERR_SSE_TOO_MANY_WAITERS'))
  })

  it('waits for a client that catches up', async () => {
    const made = channelOf(options)
    await made.publish(30)
    const late = await made.follow('late', true, 'e-0')
    late.transport.takesAtOnce = false
    expect(late.data).toHaveLength(30)
    const stalled = connectReader({ clock: made.clock, isSlow: true, lastEventId: 'e-0', writeStallMs: 1e6 })
    made.channel.subscribe(stalled.sse)
    const send = track(made.channel.send({ data: 'x' }))
    await turns(5)
    // Its first write has the replay: what counts is what it has not been written.
    expect(send.state).toBe('fulfilled')
  })

  it('does not hold up those who publish', async () => {
    const made = channelOf(options)
    const slow = await made.follow('slow', true)
    await stall(made, slow)
    const published = range(1, 200).map((n) => track(made.channel.publish({ data: n })))
    await turns(1)
    expect(published.filter(({ state }) => state === 'fulfilled')).toHaveLength(200)
  })
})

describe('a reader that takes everything', () => {
  it.each([
    ['send', 'gap'],
    ['send', 'close'],
    ['publish', 'gap'],
    ['publish', 'close'],
  ] as const)(
    'is never behind by too much for a loop that awaits %s, however small log and maxLag are: %s',
    async (method, slowConsumer) => {
      for (const limits of [
        { ring: 40 },
        { maxLag: { events: 20 } },
        { ring: 100_000, maxLag: { bytes: 2000 } },
      ]) {
        const made = channelOf({ slowConsumer, ...limits })
        const fast = await made.follow('fast')
        for (let i = 0; i < 1000; i += 1) await made.channel[method]({ data: i })
        await settle()
        expect(made.channel.stats()).toMatchObject({ slow: 0, gaps: 0, closedSlow: 0 })
        expect(fast.data).toEqual(texts(range(0, 999)))
      }
    },
  )
})

it('every policy leaves the fast reader unharmed by 20 stalled ones', async () => {
  for (const slowConsumer of ['gap', 'close', 'wait'] as const) {
    const made = channelOf({ slowConsumer, ring: 400, maxLag: { events: 20 }, maxWaitMs: 1000 })
    const fast = await made.follow('fast')
    for (let i = 0; i < 20; i += 1) await made.follow(`stalled ${i}`, true)
    let sent = 0
    let isOver = false
    onTestFinished(() => {
      isOver = true
    })
    const producer = (async () => {
      while (sent < 200 && !isOver) {
        await made.channel.send({ data: sent })
        sent += 1
        await turns(2)
      }
    })()
    for (let i = 0; i < 5000 && sent < 200; i += 1) {
      made.clock.advance(10)
      await turns(1)
    }
    await producer
    await settle(made.clock)
    expect(fast.data).toEqual(texts(range(0, 199)))
    const { closedSlow, readers } = made.channel.stats()
    expect([slowConsumer, closedSlow, readers]).toEqual(
      slowConsumer === 'gap' ? ['gap', 0, 21] : [slowConsumer, 20, 1],
    )
  }
})
