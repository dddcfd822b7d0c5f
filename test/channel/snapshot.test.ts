import fc from 'fast-check'
import {
  type Channel,
  type ChannelOptions,
  createChannel,
  createMemoryLog,
  type EventLog,
  type Snapshot,
  type SnapshotHook,
  type SnapshotRequest,
  type SSEError,
  type SubscribeOptions,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import {
  connectReader,
  hasCode,
  parsed,
  type Reader,
  type ReaderOptions,
  range,
  settle,
} from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'

interface Case {
  channel: Channel
  clock: ManualClock
  log: EventLog
  follow(options: SubscribeOptions, reader?: ReaderOptions): Reader
  /** Counts a turn for each: a reader with room gets it. */
  publish(...data: unknown[]): Promise<void>
}

function channelOf(options: ChannelOptions & { ring?: number } = {}): Case {
  const { ring = 1000, ...rest } = options
  const clock = new ManualClock()
  const log = createMemoryLog({ maxEvents: ring, epoch: 'e', clock })
  const channel = createChannel({ log, clock, flushIntervalMs: 0, ...rest })
  return {
    channel,
    clock,
    log,
    follow(select, readerOptions) {
      const reader = connectReader({ clock, writeStallMs: 1e6, ...readerOptions })
      channel.subscribe(reader.sse, select)
      return reader
    },
    async publish(...data) {
      for (const one of data) {
        await channel.publish({ data: one })
        await turns(3)
      }
    },
  }
}

/** A hook that is answered by hand. */
function handAnswered() {
  const asked: {
    request: SnapshotRequest
    answer(snapshot: Snapshot): void
    fail(error: unknown): void
  }[] = []
  const hook: SnapshotHook = (request) =>
    new Promise((resolve, reject) => asked.push({ request, answer: resolve, fail: reject }))
  return { asked, hook }
}

const inShort = (reader: Reader) => reader.events.map(({ event, id, data }) => [event, id, data])
const state = (data: unknown) => ({ events: [{ event: 'state', data }] })

describe('onSubscribe', () => {
  it('is asked for a client without a position, and what it gives comes before what follows, at its position', async () => {
    const { follow, publish } = channelOf()
    await publish('a', 'b')
    const requests: SnapshotRequest[] = []
    const reader = follow({
      onSubscribe(request) {
        requests.push(request)
        return {
          events: [
            { event: 'row', data: 1 },
            { event: 'row', data: 2 },
          ],
        }
      },
    })
    await publish('c')
    expect(inShort(reader)).toEqual([
      ['row', undefined, '1'],
      ['row', undefined, '2'],
      ['position', 'e-2', ''],
      [undefined, 'e-3', '"c"'.slice(1, -1)],
    ])
    expect(requests.map(({ id, gap }) => [id, gap])).toEqual([['e-2', null]])
    expect(requests[0]?.signal).toBe(reader.sse.signal)
    expect(parsed(reader.transport.text)[0]).toMatchObject({ event: 'connected', id: undefined })
  })

  it('is not asked for a client that comes back with a position', async () => {
    const { follow, publish } = channelOf()
    await publish('a', 'b')
    let asked = 0
    const onSubscribe = () => {
      asked += 1
      return state(0)
    }
    for (const lastEventId of ['e-1', 'e-0', 'e-2', 'other-1']) follow({ onSubscribe }, { lastEventId })
    await turns(3)
    expect(asked).toBe(0)
  })

  it('may be answered later: what is published meanwhile waits, and follows', async () => {
    const { follow, publish, channel } = channelOf()
    const { asked, hook } = handAnswered()
    await publish('a')
    const reader = follow({ onSubscribe: hook })
    await publish('b', 'c')
    expect(inShort(reader)).toEqual([])
    expect(asked[0]?.request.id).toBe('e-1')
    asked[0]?.answer(state('as of a'))
    await publish('d')
    expect(inShort(reader)).toEqual([
      ['state', undefined, 'as of a'],
      ['position', 'e-1', ''],
      [undefined, 'e-2', 'b'],
      [undefined, 'e-3', 'c'],
      [undefined, 'e-4', 'd'],
    ])
    expect(channel.stats().maxLagEvents).toBe(0)
  })

  it('may be answered with the state of another position, earlier or later', async () => {
    const { follow, publish, channel } = channelOf()
    const { asked, hook } = handAnswered()
    await publish('a', 'b', 'c')
    const readers = [follow({ onSubscribe: hook }), follow({ onSubscribe: hook })]
    await publish('d', 'e')
    asked[0]?.answer({ ...state('as of a'), id: 'e-1' })
    asked[1]?.answer({ ...state('as of e'), id: channel.lastId })
    await publish('f')
    expect(readers.map(inShort)).toEqual([
      [
        ['state', undefined, 'as of a'],
        ['position', 'e-1', ''],
        ...['b', 'c', 'd', 'e', 'f'].map((data, i) => [undefined, `e-${i + 2}`, data]),
      ],
      [
        ['state', undefined, 'as of e'],
        ['position', 'e-5', ''],
        [undefined, 'e-6', 'f'],
      ],
    ])
  })

  it('may give no events: the position is told', async () => {
    const { follow, publish } = channelOf()
    await publish('a')
    const reader = follow({ onSubscribe: () => ({ events: [] }) })
    await publish('b')
    expect(inShort(reader)).toEqual([
      ['position', 'e-1', ''],
      [undefined, 'e-2', 'b'],
    ])
  })

  it('may publish, and that follows the snapshot', async () => {
    const { follow, channel } = channelOf()
    const reader = follow({
      onSubscribe({ id }) {
        void channel.publish({ data: 'joined' })
        return state(id)
      },
    })
    await turns(3)
    expect(inShort(reader)).toEqual([
      ['state', undefined, 'e-0'],
      ['position', 'e-0', ''],
      [undefined, 'e-1', 'joined'],
    ])
  })

  it('lets private events pass while it is waited for, and heartbeats too', async () => {
    const { follow, clock } = channelOf()
    const { asked, hook } = handAnswered()
    const reader = follow({ onSubscribe: hook }, { heartbeat: { intervalMs: 1000 } })
    await reader.sse.send({ event: 'private', data: 1 })
    await turns(3)
    clock.advance(1000)
    await turns(3)
    expect(inShort(reader)).toEqual([['private', undefined, '1']])
    expect(reader.transport.chunks.at(-1)).toBe(': \n\n')
    asked[0]?.answer(state(1))
    await turns(3)
    expect(inShort(reader).slice(1)).toEqual([
      ['state', undefined, '1'],
      ['position', 'e-0', ''],
    ])
  })

  it('gives the snapshot to a selecting reader whole, and then what is selected', async () => {
    const { follow, channel } = channelOf()
    const reader = follow({ topics: 'a', onSubscribe: () => state('all') })
    void channel.publish({ data: 1, topic: 'b' })
    void channel.publish({ data: 2, topic: 'a' })
    await turns(3)
    expect(inShort(reader)).toEqual([
      ['state', undefined, 'all'],
      ['position', 'e-0', ''],
      [undefined, 'e-2', '2'],
    ])
  })

  it('starts from there whatever replay.start says', async () => {
    const { follow, publish } = channelOf({ replay: { start: 'oldest' } })
    await publish('a', 'b')
    const reader = follow({ onSubscribe: () => state('as of b') })
    await publish('c')
    expect(inShort(reader)).toEqual([
      ['state', undefined, 'as of b'],
      ['position', 'e-2', ''],
      [undefined, 'e-3', 'c'],
    ])
  })

  it('whose answer comes after the end still gets it, then the rest, then the end', async () => {
    const { follow, publish, channel } = channelOf()
    const { asked, hook } = handAnswered()
    const reader = follow({ onSubscribe: hook })
    await publish('a')
    channel.end()
    await turns(3)
    expect(reader.sse.phase).toBe('flowing')
    asked[0]?.answer(state(0))
    await expect(reader.sse.closed).resolves.toMatchObject({ reason: 'completed' })
    expect(inShort(reader)).toEqual([
      ['state', undefined, '0'],
      ['position', 'e-0', ''],
      [undefined, 'e-1', 'a'],
    ])
  })
})

describe('onGap', () => {
  it('is asked in place of what is left, for a client that missed events, and told as continues: snapshot', async () => {
    const { follow, publish, channel } = channelOf({ ring: 3 })
    await publish('a', 'b', 'c', 'd', 'e', 'f')
    const requests: SnapshotRequest[] = []
    const reader = follow(
      {
        onGap(request) {
          requests.push(request)
          return state('as of f')
        },
      },
      { lastEventId: 'e-1' },
    )
    await turns(3)
    await publish('g')
    const gap = { asked: 'e-1', oldest: 'e-4', cause: 'evicted', continues: 'snapshot' }
    expect(inShort(reader)).toEqual([
      ['gap', undefined, JSON.stringify(gap)],
      ['state', undefined, 'as of f'],
      ['position', 'e-6', ''],
      [undefined, 'e-7', 'g'],
    ])
    expect(requests).toMatchObject([{ id: 'e-6', gap }])
    expect(channel.stats().gaps).toBe(1)
    expect(reader.sse.stats().gaps).toBe(1)
  })

  it.each(['unknown', 'other-1', 'e-99'])(
    'is asked for a position that is none of the log: %s',
    async (id) => {
      const { follow, publish } = channelOf()
      await publish('a')
      const reader = follow({ onGap: ({ gap }) => state(gap?.asked) }, { lastEventId: id })
      await turns(3)
      await publish('b')
      expect(inShort(reader).slice(1)).toEqual([
        ['state', undefined, id],
        ['position', 'e-1', ''],
        [undefined, 'e-2', 'b'],
      ])
    },
  )

  it('is asked when a reader falls out of the log while it follows, each time', async () => {
    const { follow, publish, channel } = channelOf({ ring: 5 })
    const { asked, hook } = handAnswered()
    const reader = follow({ onGap: hook })
    await turns(3)
    for (const round of [1, 2, 3]) {
      reader.transport.takesAtOnce = false
      await publish(...range(1, 20))
      reader.transport.takesAtOnce = true
      reader.transport.take()
      await turns(3)
      expect(asked).toHaveLength(round)
      expect(asked[round - 1]?.request.id).toBe(channel.lastId)
      expect(reader.events.at(-1)?.event).toBe('gap')
      asked[round - 1]?.answer(state(round))
      await turns(3)
      expect(inShort(reader).slice(-2)).toEqual([
        ['state', undefined, String(round)],
        ['position', channel.lastId, ''],
      ])
    }
    expect(channel.stats()).toMatchObject({ gaps: 3, slow: 3 })
  })

  it('is not asked again for the client that is cut behind the position', async () => {
    const { follow, publish } = channelOf({ ring: 3 })
    await publish(...range(1, 9))
    let asked = 0
    const onGap = () => {
      asked += 1
      return state(asked)
    }
    const first = follow({ onGap }, { lastEventId: 'e-1' })
    await turns(3)
    const second = follow({ onGap }, { lastEventId: first.lastEventId })
    await publish('x')
    expect([asked, inShort(second)]).toEqual([1, [[undefined, 'e-10', 'x']]])
  })

  it('takes the place of what afterGap says', async () => {
    const { follow, publish } = channelOf({ ring: 3, replay: { afterGap: 'close' } })
    await publish(...range(1, 9))
    const reader = follow({ onGap: () => state(9) }, { lastEventId: 'e-1' })
    const other = follow({}, { lastEventId: 'e-1' })
    await turns(3)
    expect(reader.sse.phase).toBe('flowing')
    await expect(other.sse.closed).resolves.toMatchObject({ reason: 'gap' })
  })
})

describe('a snapshot hook', () => {
  const failures: [string, SnapshotHook][] = [
    [
      'throws',
      () => {
        throw new Error('no state')
      },
    ],
    ['rejects', () => Promise.reject(new Error('no state'))],
    [
      'rejects later',
      async () => {
        await turns(1)
        throw new Error('no state')
      },
    ],
    ['gives nothing', () => undefined as unknown as Snapshot],
    ['gives null', () => null as unknown as Snapshot],
    ['gives a number', () => 5 as unknown as Snapshot],
    ['gives null later', async () => null as unknown as Snapshot],
    ['gives no events', () => ({}) as unknown as Snapshot],
    ['gives an event with an id', () => ({ events: [{ data: 1, id: 'x' }] })],
    ['gives an event with a topic', () => ({ events: [{ data: 1, topic: 'x' }] })],
    ['gives an event that cannot be sent', () => ({ events: [{ data: 1n }] })],
    ['gives an id that is no string', () => ({ events: [], id: 5 as unknown as string })],
    ['gives an unknown id', () => ({ events: [], id: 'what' })],
    ['gives an id of another log', () => ({ events: [], id: 'f-1' })],
    ['gives an id that is not given out yet', () => ({ events: [], id: 'e-99' })],
    ['gives an id that was evicted', () => ({ events: [], id: 'e-1' })],
    [
      'gives events that are too large together',
      () => ({ events: range(1, 3).map(() => ({ data: 'x'.repeat(400) })) }),
    ],
    ['gives an event that is too large', () => ({ events: [{ data: 'x'.repeat(600) }] })],
  ]
  const limits = { maxBytes: 1000, maxEventBytes: 500 }

  it.each(failures)('that %s ends its connection with an error, and is told to error', async (_, hook) => {
    for (const at of ['onSubscribe', 'onGap'] as const) {
      const { follow, publish, channel, clock } = channelOf({ ring: 3 })
      await publish(...range(1, 9))
      const other = follow({})
      const reader = connectReader({ clock, lastEventId: at === 'onGap' ? 'e-1' : undefined, ...limits })
      const told: unknown[][] = []
      reader.sse.on('error', (...told_) => told.push(told_))
      channel.subscribe(reader.sse, { [at]: hook })
      await expect(reader.sse.closed).resolves.toMatchObject({ reason: 'error', error: expect.any(Error) })
      expect(told).toEqual([[(await reader.sse.closed).error, 'a snapshot']])
      expect(reader.events.slice(at === 'onGap' ? 1 : 0).map(({ event, id }) => [event, id])).toEqual([
        ['error', undefined],
        ['close', undefined],
      ])
      expect(reader.lastEventId).toBe(at === 'onGap' ? 'e-1' : '')
      expect(reader.transport.text).not.toContain('no state')
      await publish('on')
      expect(other.data).toEqual(['on'])
      expect(clock.pending).toBe(0)
    }
  })

  it.each([
    'gives nothing',
    'gives null',
    'gives a number',
    'gives null later',
    'gives no events',
    'gives an unknown id',
  ])('that %s is told what is expected of it', async (what) => {
    const { channel, clock } = channelOf()
    const reader = connectReader({ clock })
    const errors: unknown[] = []
    reader.sse.on('error', (error) => errors.push(error))
    channel.subscribe(reader.sse, { onSubscribe: new Map(failures).get(what) })
    await reader.sse.closed
    expect(errors).toEqual([hasCode('ERR_SSE_INVALID_EVENT')])
    expect((errors[0] as SSEError).message).toMatch(/expected/)
  })

  it('may give as much as maxBytes in all', async () => {
    const { follow } = channelOf()
    const block = 'data: \n\n'.length
    const events = range(1, 10).map(() => ({ data: 'x'.repeat(100 - block) }))
    const reader = follow({ onSubscribe: () => ({ events }) }, { maxBytes: 1000 })
    const over = follow({ onSubscribe: () => ({ events }) }, { maxBytes: 999 })
    const errors: unknown[] = []
    over.sse.on('error', (error) => errors.push(error))
    await turns(3)
    expect(reader.events).toHaveLength(11)
    await expect(over.sse.closed).resolves.toMatchObject({
      reason: 'error',
      error: hasCode('ERR_SSE_EVENT_TOO_LARGE'),
    })
  })

  it('that never answers is given up after snapshotTimeoutMs, and a late answer changes nothing', async () => {
    const { follow, publish, clock, channel } = channelOf({ snapshotTimeoutMs: 5000 })
    const { asked, hook } = handAnswered()
    const other = follow({})
    const reader = follow({ onSubscribe: hook })
    const errors: unknown[] = []
    reader.sse.on('error', (error) => errors.push(error))
    await publish('a')
    clock.advance(4999)
    await turns(3)
    expect([reader.sse.phase, errors]).toEqual(['flowing', []])
    clock.advance(1)
    await expect(reader.sse.closed).resolves.toMatchObject({ reason: 'error' })
    expect(errors).toMatchObject([{ message: 'The snapshot took too long.' }])
    asked[0]?.answer(state('late'))
    await publish('b')
    expect(other.data).toEqual(['a', 'b'])
    expect([errors.length, channel.stats().readers, clock.pending]).toEqual([1, 1, 0])
    expect(reader.transport.text).not.toContain('late')
  })

  it.each(['answers', 'fails'])('that %s after its client left is heard by nobody', async (how) => {
    const { follow, publish, channel, clock } = channelOf()
    const { asked, hook } = handAnswered()
    const reader = follow({ onSubscribe: hook })
    const errors: unknown[] = []
    reader.sse.on('error', (error) => errors.push(error))
    await turns(3)
    reader.transport.lose()
    expect(asked[0]?.request.signal.aborted).toBe(true)
    expect([channel.stats().readers, clock.pending]).toEqual([0, 0])
    if (how === 'answers') asked[0]?.answer(state(1))
    else asked[0]?.fail(new Error('aborted'))
    await publish('a')
    expect([errors, inShort(reader), reader.transport.violations]).toEqual([[], [], []])
  })

  it('may close or abort its connection, or unsubscribe it', async () => {
    for (const how of ['close', 'abort', 'unsubscribe'] as const) {
      const { follow, publish, channel, clock } = channelOf({ ring: 3 })
      await publish(...range(1, 9))
      const reader = follow(
        {
          onGap() {
            if (how === 'close') void reader.sse.close()
            if (how === 'abort') reader.sse.abort()
            if (how === 'unsubscribe') channel.unsubscribe(reader.sse)
            return state('not wanted')
          },
        },
        { lastEventId: 'e-1' },
      )
      await publish('a')
      expect(reader.events.map(({ event }) => event)).toEqual(['gap'])
      expect(reader.sse.phase).toBe(how === 'unsubscribe' ? 'flowing' : 'closed')
      expect(channel.stats().readers).toBe(0)
      expect(clock.pending).toBe(0)
      expect(reader.transport.violations).toEqual([])
    }
  })
})

describe('a snapshot that is out of date when it arrives', () => {
  it.each(['without an id', 'with its id'])(
    'because the log has been overrun meanwhile is not given for the state: %s',
    async (how) => {
      const { follow, publish } = channelOf({ ring: 5 })
      const { asked, hook } = handAnswered()
      const reader = follow({ onSubscribe: hook })
      await publish(...range(1, 20))
      asked[0]?.answer({ ...state('as of 0'), ...(how === 'with its id' && { id: 'e-0' }) })
      await publish('on')
      // A gap behind the state says that it is stale; one before the state would not; nor would none.
      const told = reader.events.map(({ event }) => event)
      if (told.includes('state')) expect(told.lastIndexOf('gap')).toBeGreaterThan(told.lastIndexOf('state'))
      else expect(told).toEqual(['error', 'close'])
    },
  )

  it('because its client did not read is not given for the state', async () => {
    const { follow, publish } = channelOf({ ring: 5 })
    const { asked, hook } = handAnswered()
    const reader = follow({ onSubscribe: hook }, { isSlow: true })
    await turns(3)
    asked[0]?.answer(state('as of 0'))
    await publish(...range(1, 20))
    reader.transport.takesAtOnce = true
    reader.transport.take()
    await settle()
    const told = reader.events.map(({ event }) => event)
    if (told.includes('state')) expect(told.lastIndexOf('gap')).toBeGreaterThan(told.lastIndexOf('state'))
    else expect(told).toEqual(['error', 'close'])
  })

  it('for that very reason is replaced by that of onGap', async () => {
    const { follow, publish } = channelOf({ ring: 5 })
    const { asked, hook } = handAnswered()
    const reader = follow({ onSubscribe: hook, onGap: () => state('as of 20') })
    await publish(...range(1, 20))
    asked[0]?.answer(state('as of 0'))
    await turns(3)
    await publish('on')
    expect(inShort(reader).slice(-3)).toEqual([
      ['state', undefined, 'as of 20'],
      ['position', 'e-20', ''],
      [undefined, 'e-21', 'on'],
    ])
  })
})

/** The state: how often each key was counted. An event counts one key up. */
class Counters {
  readonly counts: Record<string, number> = {}

  count(key: string): void {
    this.counts[key] = (this.counts[key] ?? 0) + 1
  }

  /** What a client makes of what it was told. */
  tell(event: string | undefined, data: string): void {
    if (event === 'reset') for (const key of Object.keys(this.counts)) delete this.counts[key]
    if (event === 'entry') {
      const [key, count] = JSON.parse(data)
      this.counts[key] = count
    }
    if (event === undefined) this.count(data)
  }
}

type Step =
  | { what: 'count'; keys: string[] }
  | { what: 'answer'; as: 'begun' | 'done' | 'between' | 'unnamed' }
  | { what: 'turn' | 'take' | 'slow' | 'fast' }
  /** The client has got a part of what was written since it was last looked at, and comes back. */
  | { what: 'cut'; part: number }

const key = fc.constantFrom('a', 'b', 'c')
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ what: fc.constant('count' as const), keys: fc.array(key, { maxLength: 8 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('answer' as const),
      as: fc.constantFrom('begun' as const, 'done' as const, 'between' as const, 'unnamed' as const),
    }),
  },
  { weight: 6, arbitrary: fc.record({ what: fc.constantFrom('turn' as const, 'take', 'slow', 'fast') }) },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant('cut' as const),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
)

const scenario = fc.record({
  ring: fc.constantFrom(1, 3, 3, 8, 1000),
  isSync: fc.boolean(),
  steps: fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
})

const totals = { snapshots: 0, gaps: 0, cuts: 0, counted: 0 }

async function play({ ring, isSync, steps }: typeof scenario extends fc.Arbitrary<infer T> ? T : never) {
  const { channel, clock } = channelOf({ ring })
  const server = new Counters()
  const client = new Counters()
  /** The state behind each event, to be answered with: a database that is read at some moment. */
  const history = [new Counters()]
  const pending: { begun: number; resolve(snapshot: Snapshot): void }[] = []
  const published = () => history.length - 1
  const entries = (of: number) => Object.entries((history[of] as Counters).counts)
  const snapshotOf = (at: number, id: string | undefined): Snapshot => ({
    events: [{ event: 'reset', data: '' }, ...entries(at).map((data) => ({ event: 'entry', data }))],
    id,
  })
  const hook: SnapshotHook = () => {
    totals.snapshots += 1
    const begun = published()
    if (isSync) return snapshotOf(begun, undefined)
    return new Promise((resolve) => pending.push({ begun, resolve }))
  }
  const answer = (as: 'begun' | 'done' | 'between' | 'unnamed') => {
    for (const { begun, resolve } of pending.splice(0)) {
      const done = published()
      const at = as === 'done' ? done : as === 'between' ? Math.ceil((begun + done) / 2) : begun
      resolve(snapshotOf(at, as === 'unnamed' ? undefined : `e-${at}`))
    }
  }
  let reader = connectReader()
  let lastEventId: string | undefined
  let seen = 0
  const connect = () => {
    reader = connectReader({ clock, lastEventId, writeStallMs: 1e6 })
    reader.sse.on('error', () => {})
    seen = 0
    channel.subscribe(reader.sse, { onSubscribe: hook, onGap: hook })
  }
  /** The client reads what was written up to a byte. */
  const note = (end = Buffer.byteLength(reader.transport.text) - reader.transport.pendingBytes) => {
    const events = parsed(Buffer.from(reader.transport.text).subarray(0, end).toString())
    for (const { event, id, data } of events.slice(seen)) {
      client.tell(event, data)
      lastEventId = id ?? lastEventId
      if (event === 'gap') totals.gaps += 1
    }
    seen = events.length
  }
  connect()
  for (const current of steps) {
    if (current.what === 'count') {
      for (const one of current.keys) {
        server.count(one)
        void channel.publish({ data: one })
        const after = new Counters()
        Object.assign(after.counts, server.counts)
        history.push(after)
        totals.counted += 1
      }
    }
    if (current.what === 'answer') answer(current.as)
    if (current.what === 'turn') await turns(1)
    if (current.what === 'take') {
      reader.transport.take()
      reader.transport.finish()
    }
    if (current.what === 'slow') reader.transport.takesAtOnce = false
    if (current.what === 'fast') {
      reader.transport.takesAtOnce = true
      reader.transport.take()
      reader.transport.finish()
    }
    if (current.what === 'cut' || reader.sse.phase === 'closed') {
      totals.cuts += 1
      const { transport } = reader
      const written = Buffer.byteLength(transport.text)
      note(current.what === 'cut' ? Math.floor(written * current.part) : written)
      transport.lose()
      expect(transport.violations).toEqual([])
      connect()
    }
  }
  for (let i = 0; i < 10; i += 1) {
    reader.transport.takesAtOnce = true
    reader.transport.take()
    reader.transport.finish()
    answer('done')
    await turns(3)
    if (reader.sse.phase !== 'closed') continue
    note()
    connect()
  }
  note()
  expect(client.counts).toEqual(server.counts)
  expect(lastEventId ?? 'e-0').toBe(channel.lastId)
  reader.transport.lose()
  expect([clock.pending, channel.stats().readers]).toEqual([0, 0])
}

it('a snapshot and what follows it make exactly the state, whatever happens meanwhile', async () => {
  await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 400 })
  expect(totals.snapshots).toBeGreaterThan(400)
  expect(totals.gaps).toBeGreaterThan(20)
  expect(totals.cuts).toBeGreaterThan(200)
})
