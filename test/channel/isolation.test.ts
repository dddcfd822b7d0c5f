import {
  type Channel,
  type ChannelOptions,
  createChannel,
  createMemoryLog,
  createSSEHandler,
  type SSEHandler,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectReader, hasCode, type Reader, range, settle, texts } from '../support/channel.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

function channelOf(options: ChannelOptions = {}) {
  const clock = new ManualClock()
  const log = createMemoryLog({ epoch: 'e', clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0, ...options })
  return { clock, log, channel }
}

function follow(channel: Channel, reader: Reader, select: Parameters<Channel['subscribe']>[1] = {}) {
  const errors: unknown[][] = []
  reader.sse.on('error', (...told) => errors.push(told))
  channel.subscribe(reader.sse, select)
  return { ...reader, reader, errors }
}

function noteWarnings(): Error[] {
  const warnings: Error[] = []
  const note = (warning: Error) => void warnings.push(warning)
  process.on('warning', note)
  onTestFinished(() => void process.off('warning', note))
  return warnings
}

const failure = new Error('of the user')
const fail = () => {
  throw failure
}

describe('what throws withholds an event from its own reader only, and is told to that:', () => {
  it.each([
    ['filter', { filter: ({ data }: { data: string }) => (data === '2' ? fail() : true) }],
    ['authorize', { authorize: (topic: string) => (topic === '2' ? fail() : true) }],
  ])('%s', async (_, select) => {
    const { channel, clock } = channelOf()
    const [before, thrower, after] = [{}, select, {}].map((one) =>
      follow(channel, connectReader({ clock }), one),
    )
    for (const n of range(1, 4)) await channel.publish({ data: n, topic: String(n) })
    await settle()
    expect(thrower?.reader.data).toEqual(['1', '3', '4'])
    expect(thrower?.errors).toEqual([[failure, 'the selection of an event']])
    for (const other of [before, after]) {
      expect(other?.reader.data).toEqual(['1', '2', '3', '4'])
      expect(other?.errors).toEqual([])
    }
    expect(channel.stats()).toMatchObject({ readers: 3, gaps: 0, maxLagEvents: 0 })
    expect(thrower?.sse.phase).toBe('flowing')
  })

  it('a filter that throws for each event, whose reader still gets its private ones', async () => {
    const { channel, clock } = channelOf()
    const thrower = follow(channel, connectReader({ clock }), { filter: fail })
    for (const n of range(1, 100)) await channel.publish({ data: n })
    await thrower.sse.send({ event: 'private', data: 'still here' })
    await settle()
    expect(thrower.errors).toHaveLength(100)
    expect(thrower.reader.events.filter(({ event }) => event !== 'position')).toEqual([
      { event: 'private', data: 'still here', id: undefined },
    ])
  })

  it('a filter that returns a promise, which is told', async () => {
    const { channel, clock } = channelOf()
    const filter = (async () => true) as unknown as () => boolean
    const thrower = follow(channel, connectReader({ clock }), { filter })
    await channel.publish({ data: 1 })
    await settle()
    expect(thrower.reader.data).toEqual([])
    expect(thrower.errors).toEqual([[hasCode('ERR_SSE_INVALID_OPTION'), 'the selection of an event']])
  })

  it('and without a listener of error it is a warning of the process', async () => {
    const warnings = noteWarnings()
    const { channel, clock } = channelOf()
    const reader = connectReader({ clock })
    channel.subscribe(reader.sse, { filter: fail })
    await channel.publish({ data: 1 })
    await until(() => warnings.length > 0)
    expect(warnings).toMatchObject([
      { name: 'SSEWarning', message: 'Error: of the user', detail: 'during the selection of an event' },
    ])
  })
})

it.each(['error', 'gap', 'blocked', 'phase', 'closed'] as const)(
  'a listener of %s that throws disturbs no other reader',
  async (name) => {
    const warnings = noteWarnings()
    const { channel, clock } = channelOf()
    await channel.publish({ data: 'before' })
    const others = range(1, 3).map(() => follow(channel, connectReader({ clock })))
    const thrower = connectReader({ clock, lastEventId: 'other-1', writeStallMs: 1e6 })
    thrower.sse.on(name, fail)
    channel.subscribe(thrower.sse, { filter: ({ data }) => (data === 'bad' ? fail() : true) })
    others.push(follow(channel, connectReader({ clock })))
    await settle()
    thrower.transport.takesAtOnce = false
    for (const data of ['a', 'bad', 'b']) await channel.publish({ data })
    await settle()
    thrower.transport.take()
    await settle()
    thrower.sse.abort()
    await channel.publish({ data: 'c' })
    await settle()
    for (const other of others) expect(other.reader.data).toEqual(['a', 'bad', 'b', 'c'])
    expect(channel.stats().readers).toBe(4)
    await until(() => warnings.length > 0)
    expect(warnings.map(({ name: kind }) => kind)).toEqual(warnings.map(() => 'SSEWarning'))
  },
)

it('a listener of slow that throws is a warning, and the reader is dealt with all the same', async () => {
  for (const slowConsumer of ['gap', 'close'] as const) {
    const warnings = noteWarnings()
    const { channel, clock } = channelOf({ slowConsumer, maxLag: { events: 3 } })
    channel.on('slow', fail)
    const slow = follow(channel, connectReader({ clock, isSlow: true, writeStallMs: 1e6 }))
    const fast = follow(channel, connectReader({ clock }))
    await turns(3)
    for (const n of range(1, 10)) {
      await channel.publish({ data: n })
      await turns(2)
    }
    expect(fast.reader.data).toEqual(texts(range(1, 10)))
    expect(channel.stats()).toMatchObject({ slow: 1, closedSlow: slowConsumer === 'close' ? 1 : 0 })
    expect(slow.sse.phase).toBe(slowConsumer === 'close' ? 'closed' : 'blocked')
    await until(() => warnings.length > 0)
    expect(warnings).toMatchObject([
      { name: 'SSEWarning', message: 'Error: of the user', detail: "in a listener of 'slow'" },
    ])
  }
})

it('a listener of slow may publish, unsubscribe and close', async () => {
  const { channel, clock } = channelOf({ maxLag: { events: 3 } })
  const slow = follow(channel, connectReader({ clock, isSlow: true, writeStallMs: 1e6 }))
  const fast = follow(channel, connectReader({ clock }))
  channel.on('slow', ({ sessionId }) => {
    expect(sessionId).toBe(slow.sse.sessionId)
    void channel.publish({ data: 'told' })
    channel.unsubscribe(slow.sse)
    slow.sse.abort()
  })
  await turns(3)
  for (const n of range(1, 6)) {
    await channel.publish({ data: n })
    await turns(2)
  }
  expect(fast.reader.data).toEqual(['1', '2', '3', '4', 'told', '5', '6'])
  expect(channel.stats()).toMatchObject({ readers: 1, slow: 1 })
})

it.each(['write', 'reset', 'end', 'detach'] as const)(
  'a transport whose %s throws takes no other reader with it',
  async (name) => {
    const { channel, clock } = channelOf()
    const others = [follow(channel, connectReader({ clock }))]
    const broken = follow(channel, connectReader({ clock }))
    others.push(follow(channel, connectReader({ clock })))
    await turns(3)
    broken.transport.throwing.set(name, failure)
    for (const n of range(1, 3)) {
      await channel.publish({ data: n })
      await turns(2)
    }
    if (name === 'reset' || name === 'detach') broken.sse.abort()
    if (name === 'end') channel.unsubscribe(broken.sse)
    if (name === 'end') void broken.sse.close()
    await channel.publish({ data: 4 })
    await settle()
    if (name === 'end') clock.advance(5000)
    for (const other of others) expect(other.reader.data).toEqual(['1', '2', '3', '4'])
    expect(broken.sse.phase).toBe('closed')
    expect(channel.stats().readers).toBe(2)
    if (name === 'write')
      await expect(broken.sse.closed).resolves.toMatchObject({ reason: 'transport-error' })
  },
)

describe('a log whose append throws', () => {
  function failing() {
    const made = channelOf()
    const append = made.log.append.bind(made.log)
    const state = { isFailing: true, asked: 0 }
    made.log.append = (...args) => {
      state.asked += 1
      if (state.isFailing) throw failure
      return append(...args)
    }
    return { ...made, state }
  }
  const failed = hasCode('ERR_SSE_LOG_FAILED')

  it('rejects the one who publishes, with the cause, and the next publish works', async () => {
    const { channel, clock, state } = failing()
    const reader = follow(channel, connectReader({ clock }))
    await expect(channel.publish({ data: 1 })).rejects.toEqual(failed)
    await expect(channel.publish({ data: 1 })).rejects.toMatchObject({ cause: failure })
    await expect(channel.send({ data: 1 })).rejects.toEqual(failed)
    expect(() => channel.trySend({ data: 1 })).toThrow(failed)
    const permit = await channel.requestSend()
    expect(() => permit.send({ data: 1 })).toThrow(failed)
    state.isFailing = false
    expect(permit.send({ data: 'permit' })).toBe('queued')
    await expect(channel.publish({ data: 'publish' })).resolves.toBe('e-2')
    await settle()
    expect(reader.reader.data).toEqual(['permit', 'publish'])
    expect(channel.stats()).toMatchObject({ published: 2, permits: 0, waiters: 0 })
  })

  it.each([300, 3000])('%i times in a row blocks nobody for ever', async (times) => {
    const { channel, clock, state } = failing()
    const reader = follow(channel, connectReader({ clock }))
    const sends = range(1, times).map(() => track(channel.send({ data: 'x'.repeat(100) })))
    const published = range(1, times).map(() => track(channel.publish({ data: 1 })))
    await turns(20)
    expect([...sends, ...published].filter(({ state }) => state !== 'rejected')).toEqual([])
    state.isFailing = false
    const later = track(channel.send({ data: 'works' }))
    await turns(5)
    expect(later.state).toBe('fulfilled')
    expect(reader.reader.data).toEqual(['works'])
    expect(channel.stats().waiters).toBe(0)
  })

  it('for a send that waited rejects that, and serves the next', async () => {
    const { channel, state } = failing()
    state.isFailing = false
    while (channel.trySend({ data: 1 }) === 'queued');
    const sends = range(1, 3).map((n) => track(channel.send({ data: n })))
    const { asked } = state
    state.isFailing = true
    await turns(2)
    state.isFailing = false
    expect(state.asked).toBe(asked + 3)
    expect(sends.map(({ error }) => error)).toEqual(Array(3).fill(failed))
    await expect(channel.send({ data: 1 })).resolves.toBe('queued')
  })
})

describe('a dead socket', () => {
  it('in the middle of a flush disturbs no other reader', async () => {
    const channel = createChannel({ log: createMemoryLog({ epoch: 'e' }) })
    const connections: SSEHandler[] = []
    const { url } = await serve((req, res) => {
      const sse = createSSEHandler(req, res)
      connections.push(sse)
      channel.subscribe(sse)
    })
    const clients = []
    for (let i = 0; i < 12; i += 1) clients.push(await connect(url))
    await until(() => connections.length === 12)
    for (let n = 1; n <= 300; n += 1) {
      void channel.publish({ data: n })
      // Every third one dies: by its client, by a reset, or in its server.
      if (n % 50 === 0) clients[(n / 50 - 1) * 2]?.leave()
      if (n % 75 === 0) clients[(n / 75 - 1) * 2 + 1]?.request.socket?.resetAndDestroy()
      if (n % 10 === 0) await turns(1)
    }
    const living = clients.slice(-1)
    for (const client of living) {
      await client.until((events) => events.at(-1)?.data === '300')
      expect(client.events.slice(1).map(({ data }) => data)).toEqual(texts(range(1, 300)))
    }
    await until(() => channel.stats().readers < 6)
    channel.end()
    await until(() => channel.stats().readers === 0)
    const reasons = await Promise.all(connections.map(async ({ closed }) => (await closed).reason))
    expect(new Set(reasons)).toEqual(new Set(['client-closed', 'completed']))
  })
})
