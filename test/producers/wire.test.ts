import { EventEmitter, getEventListeners } from 'node:events'
import { EventEmitter as EventEmitter3 } from 'eventemitter3'
import fc from 'fast-check'
import {
  createSSEHandler,
  pipe,
  type SSEHandler,
  type SSEHandlerOptions,
  type Wired,
  type WireOptions,
  wire,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { connectFake, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

type Policy = WireOptions<unknown>['policy']

const POLICIES: Policy[] = ['drop-newest', 'drop-oldest', 'keep-latest', 'close']

async function open(options: SSEHandlerOptions = {}): Promise<{ sse: SSEHandler; client: TestClient }> {
  const opened: SSEHandler[] = []
  const { url } = await serve((req, res) =>
    opened.push(createSSEHandler(req, res, { firstEvent: false, ...options })),
  )
  const client = await connect(url)
  return { sse: opened[0] as SSEHandler, client }
}

/** A connection whose only slot is held by the test, so that all that is wired waits. */
async function openHeld() {
  const { sse, client } = await open({ maxEvents: 1 })
  const permit = sse.tryRequestSend()
  return { sse, client, letGo: () => permit?.release() }
}

function dataOf(client: TestClient): string[] {
  return client.events.map((event) => event.data)
}

async function expectReceived(client: TestClient, expected: unknown[]): Promise<void> {
  await client.until((events) => events.length >= expected.length)
  expect(dataOf(client)).toEqual(
    expected.map((data) => (typeof data === 'string' ? data : JSON.stringify(data))),
  )
}

function countsOf({ sent, dropped, waiting }: Wired): Pick<Wired, 'sent' | 'dropped' | 'waiting'> {
  return { sent, dropped, waiting }
}

function noteWarnings(): Error[] {
  const warnings: Error[] = []
  const note = (warning: Error) => void warnings.push(warning)
  process.on('warning', note)
  onTestFinished(() => void process.off('warning', note))
  return warnings
}

describe('wire listens to', () => {
  it('an EventEmitter, under the names it is told', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    const wired = wire(emitter, sse, { policy: 'close', events: ['tick', 'note'] })
    emitter.emit('tick', 1)
    emitter.emit('other', 'not listened to')
    emitter.emit('note', { text: 'hello' })
    await expectReceived(client, [1, { text: 'hello' }])
    expect(client.events.map(({ event }) => event)).toEqual(['tick', 'note'])
    expect(countsOf(wired)).toMatchObject({ sent: 2, dropped: 0, waiting: 0 })
    wired.stop()
    expect(emitter.eventNames()).toEqual([])
  })

  it('an emitter of another make', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter3<{ tick: (n: number) => void }>()
    const wired = wire(emitter, sse, { policy: 'close', events: ['tick'] })
    emitter.emit('tick', 1)
    await expectReceived(client, [1])
    wired.stop()
    expect(emitter.listenerCount('tick')).toBe(0)
  })

  it('an EventTarget', async () => {
    const { sse, client } = await open()
    const target = new EventTarget()
    const wired = wire<CustomEvent<number>>(target, sse, {
      policy: 'close',
      events: ['tick'],
      map: ({ detail }, name) => ({ event: name, data: detail }),
    })
    target.dispatchEvent(new CustomEvent('tick', { detail: 7 }))
    await expectReceived(client, [7])
    expect(client.events[0]?.event).toBe('tick')
    wired.stop()
    expect(getEventListeners(target, 'tick')).toHaveLength(0)
  })

  it('a callback, whose events have no name', async () => {
    const { sse, client } = await open()
    let emit: (item: string) => void = () => {}
    let unsubscribed = 0
    const wired = wire<string>(
      (callback) => {
        emit = callback
        return () => {
          unsubscribed += 1
        }
      },
      sse,
      { policy: 'close' },
    )
    emit('hello')
    await expectReceived(client, ['hello'])
    expect(client.events[0]?.event).toBe(undefined)
    wired.stop()
    wired.stop()
    emit('too late')
    await sse.send({ data: 'one more' })
    await expectReceived(client, ['hello', 'one more'])
    expect(unsubscribed).toBe(1)
  })

  it('a callback that is called while it subscribes', async () => {
    const { sse, client } = await open()
    const wired = wire<string>(
      (callback) => {
        callback('at once')
        return () => {}
      },
      sse,
      { policy: 'close' },
    )
    await expectReceived(client, ['at once'])
    expect(wired.sent).toBe(1)
  })
})

describe('wire makes of what is emitted', () => {
  it('whatever event map makes of it and its name, and nothing of null and undefined', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, {
      policy: 'close',
      events: ['a', 'b'],
      map: (n, name) => [null, undefined, { event: name.toUpperCase(), data: n, id: `i${n}` }][n % 3],
    })
    for (const n of [0, 1, 2, 3, 4, 5]) emitter.emit(n < 3 ? 'a' : 'b', n)
    await client.until((events) => events.length === 2)
    expect(client.events).toEqual([
      { event: 'A', data: '2', id: 'i2' },
      { event: 'B', data: '5', id: 'i5' },
    ])
    expect(countsOf(wired)).toMatchObject({ sent: 2, dropped: 0 })
  })
})

describe('when the client is slower than the source, the policy', () => {
  /** Emits 1 to 10 within one turn, in which no client can read: two go to the queue and up to three wait. */
  async function burst(policy: Policy) {
    const drops: number[] = []
    const { sse, client } = await open({ maxEvents: 2 })
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, {
      policy,
      events: ['tick'],
      maxEvents: 3,
      onDrop: ({ dropped }) => drops.push(dropped),
    })
    for (let n = 1; n <= 10; n += 1) emitter.emit('tick', n)
    return { sse, client, emitter, wired, drops, afterBurst: countsOf(wired) }
  }

  it('drop-newest keeps what waits', async () => {
    const { client, wired, drops, afterBurst } = await burst('drop-newest')
    expect(afterBurst).toEqual({ sent: 2, waiting: 3, dropped: 5 })
    await expectReceived(client, [1, 2, 3, 4, 5])
    expect(countsOf(wired)).toMatchObject({ sent: 5, waiting: 0, dropped: 5 })
    expect(drops).toEqual([1])
  })

  it('drop-oldest keeps what came last', async () => {
    const { client, wired, drops, afterBurst } = await burst('drop-oldest')
    expect(afterBurst).toEqual({ sent: 2, waiting: 3, dropped: 5 })
    await expectReceived(client, [1, 2, 8, 9, 10])
    expect(countsOf(wired)).toMatchObject({ sent: 5, waiting: 0, dropped: 5 })
    expect(drops).toEqual([1])
  })

  it('keep-latest keeps the latest of each name', async () => {
    const { client, wired, drops, afterBurst } = await burst('keep-latest')
    expect(afterBurst).toEqual({ sent: 2, waiting: 1, dropped: 7 })
    await expectReceived(client, [1, 2, 10])
    expect(countsOf(wired)).toMatchObject({ sent: 3, waiting: 0, dropped: 7 })
    expect(drops).toEqual([1])
  })

  it('close closes the connection with the reason slow-consumer', async () => {
    const { sse, client, emitter, wired, drops } = await burst('close')
    expect(await sse.closed).toMatchObject({ reason: 'slow-consumer', eventsSent: 2 })
    expect(await wired.done).toEqual({ outcome: 'closed', sent: 2, dropped: 1 })
    expect(drops).toEqual([1])
    expect(emitter.listenerCount('tick')).toBe(0)
    await until(() => client.ended)
    expect(dataOf(client)).toEqual(['1', '2'])
  })

  it.each(POLICIES)('%s drops nothing for a client that keeps up', async (policy) => {
    const { sse, client } = await open({ maxEvents: 2 })
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, { policy, events: ['tick'], maxEvents: 1 })
    const numbers = [...Array(50).keys()]
    for (const n of numbers) {
      emitter.emit('tick', n)
      await client.until((events) => events.length === n + 1)
    }
    await expectReceived(client, numbers)
    expect(countsOf(wired)).toMatchObject({ sent: 50, dropped: 0, waiting: 0 })
  })

  it('keep-latest replaces the event with the same key where it stands', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<string>(emitter, sse, {
      policy: 'keep-latest',
      events: ['quote'],
      key: ({ data }) => String(data).charAt(0),
      maxEvents: 3,
    })
    for (const quote of ['a1', 'b1', 'c1', 'a2', 'b2', 'a3']) emitter.emit('quote', quote)
    expect(countsOf(wired)).toMatchObject({ sent: 0, waiting: 3, dropped: 3 })
    letGo()
    await expectReceived(client, ['a3', 'b2', 'c1'])
    expect(countsOf(wired)).toMatchObject({ sent: 3, waiting: 0, dropped: 3 })
  })

  it('keep-latest drops the key that waits longest when there is one too many', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<string>(emitter, sse, {
      policy: 'keep-latest',
      events: ['quote'],
      key: ({ data }) => String(data).charAt(0),
      maxEvents: 2,
    })
    for (const quote of ['a1', 'b1', 'a2', 'c1']) emitter.emit('quote', quote)
    expect(countsOf(wired)).toMatchObject({ waiting: 2, dropped: 2 })
    letGo()
    await expectReceived(client, ['b1', 'c1'])
  })

  it('keep-latest has one key for all events without a name', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    wire<number>(emitter, sse, { policy: 'keep-latest', events: ['tick'], map: (n) => ({ data: n }) })
    for (const n of [1, 2, 3]) emitter.emit('tick', n)
    letGo()
    await expectReceived(client, [3])
  })

  it('is told once per series of drops, with the count of all', async () => {
    const drops: number[] = []
    const { sse, client } = await open({ maxEvents: 1 })
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, {
      policy: 'drop-newest',
      events: ['tick'],
      maxEvents: 1,
      onDrop: ({ dropped }) => drops.push(dropped),
    })
    for (let series = 1; series <= 3; series += 1) {
      for (let n = 0; n < 6; n += 1) emitter.emit('tick', n)
      await client.until((events) => events.length === series * 2)
      await until(() => wired.waiting === 0 && sse.stats().queuedEvents === 0)
    }
    expect(wired.dropped).toBe(12)
    expect(drops).toEqual([1, 5, 9])
  })

  it('holds 64 events unless told otherwise', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, { policy: 'drop-newest', events: ['tick'] })
    for (let n = 0; n < 100; n += 1) emitter.emit('tick', n)
    expect(countsOf(wired)).toMatchObject({ waiting: 64, dropped: 36 })
    letGo()
    await expectReceived(client, [...Array(64).keys()])
  })
})

describe('to a client that does not read', () => {
  const text = 'x'.repeat(100_000)

  interface Item {
    n: number
    text: string
  }

  /** Emits, one item a turn, until the client has been blocked for a while; returns how many were emitted. */
  async function emitToStandstill(policy: Policy, options: Partial<WireOptions<Item>> = {}) {
    const { sse, client } = await open({ maxEvents: 4 })
    client.pause()
    const emitter = new EventEmitter()
    const wired = wire<Item>(emitter, sse, { policy, events: ['item'], maxEvents: 8, ...options })
    const kept: number[] = []
    let emitted = 0
    const emit = () => {
      const { dropped } = wired
      emitter.emit('item', { n: emitted, text })
      if (wired.dropped === dropped) kept.push(emitted)
      emitted += 1
    }
    return { sse, client, emitter, wired, kept, emit, emitted: () => emitted }
  }

  function numbersOf(client: TestClient): number[] {
    return client.events.map(({ data }) => (JSON.parse(data) as Item).n)
  }

  it('drop-newest sends what waited, exactly, when it reads again', async () => {
    const { client, wired, kept, emit } = await emitToStandstill('drop-newest')
    while (wired.dropped < 100) {
      emit()
      await turns(1)
    }
    expect(wired.waiting).toBe(8)
    client.resume()
    await client.until((events) => events.length >= kept.length)
    expect(numbersOf(client)).toEqual(kept)
  })

  it('drop-oldest sends the last ones, exactly, when it reads again', async () => {
    const { client, wired, emit, emitted } = await emitToStandstill('drop-oldest')
    while (wired.dropped < 100) {
      emit()
      await turns(1)
    }
    client.resume()
    await client.until((events) => events.length >= emitted() - wired.dropped)
    const received = numbersOf(client)
    expect(received).toHaveLength(emitted() - wired.dropped)
    expect(received).toEqual([...new Set(received)].sort((a, b) => a - b))
    expect(received.slice(-8)).toEqual(Array.from({ length: 8 }, (_, i) => emitted() - 8 + i))
  })

  it('keep-latest sends the latest of each key, exactly, when it reads again', async () => {
    const { client, wired, emit, emitted } = await emitToStandstill('keep-latest', {
      key: ({ data }) => String((data as Item).n % 3),
    })
    while (wired.dropped < 100) {
      emit()
      await turns(1)
    }
    expect(wired.waiting).toBe(3)
    client.resume()
    await client.until((events) => events.length >= emitted() - wired.dropped)
    const received = numbersOf(client)
    expect(received).toHaveLength(emitted() - wired.dropped)
    for (const key of [0, 1, 2]) {
      const ofKey = received.filter((n) => n % 3 === key)
      expect(ofKey).toEqual([...new Set(ofKey)].sort((a, b) => a - b))
    }
    expect(received.slice(-3).sort((a, b) => a - b)).toEqual([1, 2, 3].map((i) => emitted() - 4 + i))
  })

  it('close sends what was accepted before it ends the stream', async () => {
    const { sse, client, wired, emit } = await emitToStandstill('close')
    while (sse.phase !== 'draining') {
      emit()
      await turns(1)
    }
    client.resume()
    expect(await sse.closed).toMatchObject({ reason: 'slow-consumer', eventsUnsent: 0 })
    await until(() => client.ended)
    const { sent, outcome } = await wired.done
    expect(outcome).toBe('closed')
    expect(numbersOf(client)).toEqual([...Array(sent).keys()])
  })

  it.each(POLICIES)('%s ends with the connection when that client leaves', async (policy) => {
    const { sse, client, emitter, wired, emit } = await emitToStandstill(policy)
    while (wired.waiting < 1) {
      emit()
      await turns(1)
    }
    client.leave()
    expect((await wired.done).outcome).toBe('closed')
    expect(emitter.eventNames()).toEqual([])
    expect(wired.waiting).toBe(0)
    expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0 })
  })
})

describe('what throws is kept from the source:', () => {
  const failure = new Error('of the user')

  it('map, whose item is left out and told to onError', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    const errors: unknown[] = []
    const wired = wire<number>(emitter, sse, {
      policy: 'close',
      events: ['tick'],
      map(n) {
        if (n === 2) throw failure
        return { data: n }
      },
      onError: (error, item) => errors.push([error, item]),
    })
    for (const n of [1, 2, 3]) emitter.emit('tick', n)
    await expectReceived(client, [1, 3])
    expect(errors).toEqual([[failure, 2]])
    expect(countsOf(wired)).toMatchObject({ sent: 2, dropped: 0 })
  })

  it('key, whose item is left out and told to onError', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const errors: unknown[] = []
    wire<number>(emitter, sse, {
      policy: 'keep-latest',
      events: ['tick'],
      key({ data }) {
        if (data === 2) throw failure
        return String(data)
      },
      onError: (error, item) => errors.push([error, item]),
    })
    for (const n of [1, 2, 3]) emitter.emit('tick', n)
    letGo()
    await expectReceived(client, [1, 3])
    expect(errors).toEqual([[failure, 2]])
  })

  it.each([
    ['at once', false],
    ['after it has waited', true],
  ])('an event that cannot be sent, %s, which leaves no permit behind', async (_when, isHeld) => {
    const { sse, client } = await open({ maxEvents: 4 })
    const held = isHeld ? [1, 2, 3, 4].map(() => sse.tryRequestSend()) : []
    const emitter = new EventEmitter()
    const errors: unknown[] = []
    const wired = wire<unknown>(emitter, sse, {
      policy: 'drop-newest',
      events: ['tick'],
      onError: (error, item) => errors.push([error, item]),
    })
    for (const item of [1, 2n, 3]) emitter.emit('tick', item)
    for (const permit of held) permit?.release()
    await expectReceived(client, [1, 3])
    expect(errors).toEqual([[expect.objectContaining({ code: 'ERR_SSE_INVALID_EVENT' }), 2n]])
    expect(countsOf(wired)).toMatchObject({ sent: 2, dropped: 0, waiting: 0 })
    await until(() => sse.stats().permits === 0 && sse.stats().waiters === 0)
  })

  it('whatever there is no onError for becomes a process warning', async () => {
    const warnings = noteWarnings()
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    wire<number>(emitter, sse, {
      policy: 'close',
      events: ['tick'],
      map(n) {
        if (n === 1) throw failure
        return { data: n }
      },
    })
    emitter.emit('tick', 1)
    emitter.emit('tick', 2)
    await expectReceived(client, [2])
    expect(warnings).toMatchObject([
      { name: 'SSEWarning', message: String(failure), detail: 'in a source wired to a connection' },
    ])
  })

  const refuse = () => {
    throw new Error('no text')
  }
  it.each([
    ['an object without a prototype', Object.create(null)],
    ['an object that refuses', { toString: refuse }],
  ] as [string, unknown][])(
    'what has no text, which becomes a process warning too: %s',
    async (_, thrown) => {
      const warnings = noteWarnings()
      const { sse, client } = await open()
      const emitter = new EventEmitter()
      const wired = wire<number>(emitter, sse, {
        policy: 'close',
        events: ['tick'],
        map(n) {
          if (n === 1) throw thrown
          return { data: n }
        },
      })
      emitter.emit('tick', 1)
      emitter.emit('tick', 2)
      await expectReceived(client, [2])
      expect(countsOf(wired)).toMatchObject({ sent: 1, dropped: 0 })
      expect(warnings).toMatchObject([
        {
          name: 'SSEWarning',
          message: expect.stringMatching(/cannot be shown/),
          detail: 'in a source wired to a connection',
        },
      ])
    },
  )

  it('onError itself, which becomes a process warning', async () => {
    const warnings = noteWarnings()
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    wire<unknown>(emitter, sse, {
      policy: 'close',
      events: ['tick'],
      onError() {
        throw failure
      },
    })
    emitter.emit('tick', 1n)
    emitter.emit('tick', 2)
    await expectReceived(client, [2])
    expect(warnings).toMatchObject([{ name: 'SSEWarning', message: String(failure) }])
  })

  it.each([
    ['drop-newest', ['1']],
    ['drop-oldest', ['3']],
    ['keep-latest', ['3']],
  ] as [Policy, string[]][])('onDrop, while %s is carried out all the same', async (policy, expected) => {
    const warnings = noteWarnings()
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, {
      policy,
      events: ['tick'],
      maxEvents: 1,
      key: ({ data }) => String(data),
      onDrop() {
        throw failure
      },
    })
    emitter.emit('tick', 1)
    emitter.emit('tick', 3)
    expect(countsOf(wired)).toEqual({ sent: 0, dropped: 1, waiting: 1 })
    letGo()
    await expectReceived(client, expected)
    expect(warnings).toMatchObject([{ name: 'SSEWarning', message: String(failure) }])
  })

  it('onDrop, while close is carried out all the same', async () => {
    const warnings = noteWarnings()
    const { sse } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, {
      policy: 'close',
      events: ['tick'],
      maxEvents: 1,
      onDrop() {
        throw failure
      },
    })
    emitter.emit('tick', 1)
    emitter.emit('tick', 2)
    expect((await sse.closed).reason).toBe('slow-consumer')
    expect(await wired.done).toEqual({ outcome: 'closed', sent: 0, dropped: 1 })
    expect(warnings).toMatchObject([{ name: 'SSEWarning', message: String(failure) }])
  })

  it('what unsubscribes, which becomes a process warning', async () => {
    const warnings = noteWarnings()
    const { sse } = await open()
    const wired = wire(
      () => () => {
        throw failure
      },
      sse,
      { policy: 'close' },
    )
    wired.stop()
    expect(await wired.done).toEqual({ outcome: 'stopped', sent: 0, dropped: 0 })
    await until(() => warnings.length === 1)
    expect(warnings[0]?.message).toBe(String(failure))
  })
})

describe('wire listens no more', () => {
  it('after stop(), and forgets what waits', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    const { signal } = new AbortController()
    const wired = wire<number>(emitter, sse, {
      policy: 'drop-newest',
      events: ['tick'],
      maxEvents: 2,
      signal,
    })
    for (const n of [1, 2, 3]) emitter.emit('tick', n)
    wired.stop()
    expect(emitter.eventNames()).toEqual([])
    expect(countsOf(wired)).toMatchObject({ sent: 0, waiting: 0, dropped: 1 })
    expect(await wired.done).toEqual({ outcome: 'stopped', sent: 0, dropped: 1 })
    emitter.emit('tick', 4)
    letGo()
    await sse.send({ data: 'one more' })
    await expectReceived(client, ['one more'])
    for (const of of [signal, sse.signal]) expect(getEventListeners(of, 'abort')).toHaveLength(0)
    expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0 })
  })

  it('after stop(), and leaves its place in line', async () => {
    const { sse } = await openHeld()
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, { policy: 'drop-newest', events: ['tick'] })
    emitter.emit('tick', 1)
    expect(sse.stats().waiters).toBe(1)
    wired.stop()
    await wired.done
    expect(sse.stats().waiters).toBe(0)
  })

  it('after its signal has aborted', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    const stop = new AbortController()
    const wired = wire<number>(emitter, sse, { policy: 'close', events: ['tick'], signal: stop.signal })
    emitter.emit('tick', 1)
    stop.abort()
    emitter.emit('tick', 2)
    expect(await wired.done).toEqual({ outcome: 'stopped', sent: 1, dropped: 0 })
    expect(emitter.eventNames()).toEqual([])
    for (const of of [stop.signal, sse.signal]) expect(getEventListeners(of, 'abort')).toHaveLength(0)
    await sse.send({ data: 'one more' })
    await expectReceived(client, [1, 'one more'])
  })

  it.each(POLICIES)('after stop() from inside onDrop, and keeps nothing (%s)', async (policy) => {
    const { sse } = await openHeld()
    const emitter = new EventEmitter()
    const wired: Wired = wire<number>(emitter, sse, {
      policy,
      events: ['tick'],
      maxEvents: 1,
      onDrop: () => wired.stop(),
    })
    emitter.emit('tick', 1)
    emitter.emit('tick', 2)
    expect((await wired.done).outcome).toBe('stopped')
    expect(countsOf(wired)).toEqual({ sent: 0, dropped: 1, waiting: 0 })
    expect(sse.stats().waiters).toBe(0)
  })

  it('when its signal had aborted before', async () => {
    const { sse } = await open()
    const emitter = new EventEmitter()
    const wired = wire(emitter, sse, { policy: 'close', events: ['tick'], signal: AbortSignal.abort() })
    expect(await wired.done).toEqual({ outcome: 'stopped', sent: 0, dropped: 0 })
    expect(emitter.eventNames()).toEqual([])
    expect(getEventListeners(sse.signal, 'abort')).toHaveLength(0)
  })

  it('after the client has left', async () => {
    const { sse, client } = await open()
    const emitter = new EventEmitter()
    const { signal } = new AbortController()
    const wired = wire<number>(emitter, sse, { policy: 'close', events: ['a', 'b'], signal })
    emitter.emit('a', 1)
    await client.until((events) => events.length === 1)
    client.leave()
    expect(await wired.done).toEqual({ outcome: 'closed', sent: 1, dropped: 0 })
    expect(emitter.eventNames()).toEqual([])
    for (const of of [signal, sse.signal]) expect(getEventListeners(of, 'abort')).toHaveLength(0)
    emitter.emit('a', 2)
    wired.stop()
    expect(countsOf(wired)).toMatchObject({ sent: 1, waiting: 0 })
  })

  it('as soon as the connection begins to close, and what waits there is not sent', async () => {
    const { sse, client } = await open({ maxEvents: 1 })
    const emitter = new EventEmitter()
    const wired = wire<number>(emitter, sse, { policy: 'close', events: ['tick'] })
    for (const n of [1, 2, 3]) emitter.emit('tick', n)
    const closed = sse.close()
    expect(emitter.eventNames()).toEqual([])
    expect(await wired.done).toEqual({ outcome: 'closed', sent: 1, dropped: 0 })
    await closed
    await until(() => client.ended)
    expect(dataOf(client)).toEqual(['1'])
  })

  it('when the connection had closed before', async () => {
    const { sse, client } = await open()
    client.leave()
    await sse.closed
    const emitter = new EventEmitter()
    const wired = wire(emitter, sse, { policy: 'close', events: ['tick'] })
    expect(await wired.done).toEqual({ outcome: 'closed', sent: 0, dropped: 0 })
    expect(emitter.eventNames()).toEqual([])
  })
})

describe('the order is kept', () => {
  it('when an event could be sent at once while others still wait', async () => {
    const { sse, client, letGo } = await openHeld()
    const emitter = new EventEmitter()
    wire<number>(emitter, sse, { policy: 'drop-newest', events: ['tick'] })
    emitter.emit('tick', 1)
    letGo()
    // The permit is granted already, but what waits has not been sent with it.
    emitter.emit('tick', 2)
    emitter.emit('tick', 3)
    await expectReceived(client, [1, 2, 3])
  })

  it('whatever holds the queue, and whenever the client reads', async () => {
    const step = fc.constantFrom('emit', 'emit', 'hold', 'release', 'take', 'turn')
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: 1, max: 4 }),
        async (steps, maxEvents) => {
          const { sse, transport } = connectFake({ firstEvent: false, maxEvents })
          const emitter = new EventEmitter()
          const wired = wire<number>(emitter, sse, { policy: 'close', events: ['tick'], maxEvents: 1000 })
          const held = []
          let emitted = 0
          for (const next of steps) {
            if (next === 'emit') emitter.emit('tick', emitted++)
            else if (next === 'hold') held.push(sse.tryRequestSend())
            else if (next === 'release') held.shift()?.release()
            else if (next === 'take') transport.take()
            else await turns(1)
          }
          for (const permit of held) permit?.release()
          while (wired.waiting > 0 || sse.stats().queuedEvents > 0 || transport.pendingBytes > 0) {
            transport.take()
            await turns(1)
          }
          const received = Array.from(transport.text.matchAll(/^data: (\d+)$/gm), ([, n]) => Number(n))
          expect(received).toEqual([...Array(emitted).keys()])
          expect(countsOf(wired)).toMatchObject({ sent: emitted, dropped: 0 })
          wired.stop()
          expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0 })
          expect(transport.violations).toEqual([])
          sse.abort()
        },
      ),
      { numRuns: 300 },
    )
  })
})

describe('beside other producers', () => {
  it('wire and pipe share a connection', async () => {
    const { sse, client } = await open({ maxEvents: 1 })
    const emitter = new EventEmitter()
    const wired = wire<string>(emitter, sse, { policy: 'close', events: ['tick'] })
    function* endless() {
      for (;;) yield 'of pipe'
    }
    const piped = pipe(endless(), sse)
    await client.until((events) => events.length > 10)
    for (let n = 0; n < 20; n += 1) emitter.emit('tick', 'of wire')
    await until(() => wired.waiting === 0)
    await client.until((events) => events.filter(({ data }) => data === 'of wire').length === 20)
    expect(countsOf(wired)).toMatchObject({ sent: 20, dropped: 0 })
    client.leave()
    expect((await piped).outcome).toBe('closed')
  })

  it('an event is sent or counted as dropped, though as many wait for the connection as may', async () => {
    const { sse, client } = await open({ maxEvents: 1, maxWaiters: 1 })
    const permit = sse.tryRequestSend()
    const other = sse.send({ data: 'of another' })
    const emitter = new EventEmitter()
    const wired = wire<string>(emitter, sse, { policy: 'drop-newest', events: ['tick'], onError: () => {} })
    emitter.emit('tick', 'of wire')
    await turns()
    permit?.release()
    await other
    await client.until((events) => events.length >= 1)
    await until(() => wired.waiting === 0)
    expect(wired.sent + wired.dropped).toBe(1)
  })

  it('many are wired to one connection without a warning of Node that listeners leak', async () => {
    const warnings = noteWarnings()
    const { sse } = await open()
    const { signal } = new AbortController()
    const wired = Array.from({ length: 20 }, () => wire(() => () => {}, sse, { policy: 'close', signal }))
    await turns()
    for (const each of wired) each.stop()
    expect(warnings).toEqual([])
  })
})

describe('wire refuses', () => {
  const { sse } = connectFake()
  const emitter = new EventEmitter()
  const option = 'ERR_SSE_INVALID_OPTION'
  const source = 'ERR_SSE_INVALID_SOURCE'

  it.each([
    ['no options', option, () => wire(emitter, sse, undefined as never)],
    ['no policy', option, () => wire(emitter, sse, { events: ['a'] } as never)],
    ['an unknown policy', option, () => wire(emitter, sse, { events: ['a'], policy: 'drop' as never })],
    ['an emitter without names', option, () => wire(emitter, sse, { policy: 'close' })],
    ['an emitter with no names', option, () => wire(emitter, sse, { policy: 'close', events: [] })],
    ['an EventTarget without names', option, () => wire(new EventTarget(), sse, { policy: 'close' })],
    ['maxEvents 0', option, () => wire(emitter, sse, { policy: 'close', events: ['a'], maxEvents: 0 })],
    [
      'an unknown option',
      option,
      () => wire(emitter, sse, { policy: 'close', events: ['a'], maxItems: 1 } as never),
    ],
    ['null', source, () => wire(null as never, sse, { policy: 'close', events: ['a'] })],
    ['undefined', source, () => wire(undefined as never, sse, { policy: 'close', events: ['a'] })],
    ['a number', source, () => wire(5 as never, sse, { policy: 'close', events: ['a'] })],
    ['a string', source, () => wire('text' as never, sse, { policy: 'close', events: ['a'] })],
    ['a plain object', source, () => wire({} as never, sse, { policy: 'close', events: ['a'] })],
    [
      'an emitter without off()',
      source,
      () => wire({ on() {} } as never, sse, { policy: 'close', events: ['a'] }),
    ],
  ])('%s with %s, and listens to nothing', (_what, code, attempt) => {
    expect(attempt).toThrow(expect.objectContaining({ name: 'SSEError', code }))
    expect(emitter.eventNames()).toEqual([])
  })
})
