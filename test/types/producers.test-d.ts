import { EventEmitter } from 'node:events'
import { EventEmitter as EventEmitter3 } from 'eventemitter3'
import {
  batch,
  conflate,
  createProducerPool,
  debounce,
  type EventInput,
  type ProducerResult,
  pipe,
  type SSEHandler,
  throttle,
  type Wired,
  type WireResult,
  wire,
} from 'sluice'
import { describe, expectTypeOf, it } from 'vitest'

type Events = { tick: number; note: { text: string } }

declare const sse: SSEHandler<Events>

describe('wire', () => {
  const emitter = new EventEmitter()

  it('requires a policy out of four', () => {
    for (const policy of ['drop-newest', 'drop-oldest', 'keep-latest', 'close'] as const) {
      wire(emitter, sse, { events: ['tick'], policy })
    }
    // @ts-expect-error: no policy
    wire(emitter, sse, { events: ['tick'] })
    // @ts-expect-error: no options at all
    wire(emitter, sse)
    // @ts-expect-error: no such policy
    wire(emitter, sse, { events: ['tick'], policy: 'drop' })
  })

  it('takes emitters of several makes, an EventTarget and a function that subscribes', () => {
    wire(new EventEmitter(), sse, { events: ['tick'], policy: 'close' })
    wire(new EventEmitter<{ tick: [number] }>(), sse, { events: ['tick'], policy: 'close' })
    wire(new EventEmitter3(), sse, { events: ['tick'], policy: 'close' })
    wire(new EventEmitter3<{ tick: (n: number) => void }>(), sse, { events: ['tick'], policy: 'close' })
    wire(new EventTarget(), sse, { events: ['tick'], policy: 'close' })
    wire(() => () => {}, sse, { policy: 'close' })
    // @ts-expect-error: nothing can be listened to
    wire({}, sse, { policy: 'close' })
    // @ts-expect-error: a function must return what unsubscribes
    wire(() => {}, sse, { policy: 'close' })
  })

  it('knows the item of a function that subscribes', () => {
    wire((emit: (n: number) => void) => () => emit(1), sse, {
      policy: 'close',
      map(item, name) {
        expectTypeOf(item).toEqualTypeOf<number>()
        expectTypeOf(name).toEqualTypeOf<string>()
        return { event: 'tick', data: item }
      },
      onError: (error, item) => {
        expectTypeOf(error).toBeUnknown()
        expectTypeOf(item).toEqualTypeOf<number>()
      },
    })
  })

  it('lets map and key be typed by the item and the events', () => {
    wire<CustomEvent<number>, Events>(new EventTarget(), sse, {
      policy: 'keep-latest',
      events: ['tick'],
      map: ({ detail }) => (detail > 1 ? { event: 'tick', data: detail } : null),
      key(event) {
        expectTypeOf(event).toEqualTypeOf<EventInput<Events>>()
        return event.event
      },
      onDrop: ({ dropped }) => expectTypeOf(dropped).toEqualTypeOf<number>(),
    })
    wire<number, Events>(emitter, sse, {
      policy: 'close',
      events: ['tick'],
      // @ts-expect-error: a tick is a number
      map: (n) => ({ event: 'tick', data: String(n) }),
    })
  })

  it('takes options that are undefined, but for the policy', () => {
    wire(() => () => {}, sse, {
      policy: 'close',
      events: undefined,
      map: undefined,
      key: undefined,
      maxEvents: undefined,
      onDrop: undefined,
      onError: undefined,
      signal: undefined,
    })
    // @ts-expect-error: required
    wire(emitter, sse, { events: ['tick'], policy: undefined })
  })

  it('refuses an option that there is not', () => {
    // @ts-expect-error: misspelt
    wire(emitter, sse, { policy: 'close', event: ['tick'] })
  })

  it('can be stopped, and says how it ended', () => {
    const wired = wire(emitter, sse, { policy: 'close', events: ['tick'] })
    expectTypeOf(wired).toEqualTypeOf<Wired>()
    expectTypeOf(wired.done).toEqualTypeOf<Promise<WireResult>>()
    expectTypeOf<WireResult>().toEqualTypeOf<{
      outcome: 'closed' | 'stopped'
      sent: number
      dropped: number
    }>()
    // @ts-expect-error: counted by wire
    wired.sent = 0
  })
})

describe('an operator', () => {
  it('gives the items of its source', () => {
    expectTypeOf(throttle([1], { intervalMs: 1 })).toEqualTypeOf<AsyncIterableIterator<number>>()
    expectTypeOf(debounce(new ReadableStream<string>(), { waitMs: 1 })).toEqualTypeOf<
      AsyncIterableIterator<string>
    >()
    expectTypeOf(batch([1])).toEqualTypeOf<AsyncIterableIterator<number[]>>()
    expectTypeOf(conflate([{ id: 1 }], { key: ({ id }) => id })).toEqualTypeOf<
      AsyncIterableIterator<{ id: number }>
    >()
  })

  it('requires what it cannot do without', () => {
    // @ts-expect-error: intervalMs
    throttle([1], {})
    // @ts-expect-error: waitMs
    debounce([1], { maxWaitMs: 1 })
    // @ts-expect-error: key
    conflate([1], {})
    // @ts-expect-error: misspelt
    batch([1], { maxItem: 1 })
  })

  it('takes options that are undefined, but for those that it requires', () => {
    throttle([1], { intervalMs: 1, clock: undefined })
    debounce([1], { waitMs: 1, maxWaitMs: undefined, clock: undefined })
    conflate([1], { key: (n) => n, maxKeys: undefined })
    batch([1], { maxItems: undefined, maxWaitMs: undefined, clock: undefined })
    // @ts-expect-error: required
    throttle([1], { intervalMs: undefined })
    // @ts-expect-error: required
    debounce([1], { waitMs: undefined })
    // @ts-expect-error: required
    conflate([1], { key: undefined })
  })

  it('goes between a source and pipe, and into another', () => {
    void pipe(throttle([1], { intervalMs: 1 }), sse, { map: (n) => ({ event: 'tick', data: n }) })
    void pipe(batch(debounce([1], { waitMs: 1 })), sse, {
      map(items) {
        expectTypeOf(items).toEqualTypeOf<number[]>()
        return { event: 'tick', data: items.length }
      },
    })
  })
})

describe('a pool', () => {
  const pool = createProducerPool({ concurrency: 2, maxWaiting: 3 })

  it('gives the result of the producer, by how it ended', async () => {
    const result = await pool.run(async () => 5)
    expectTypeOf(result).toEqualTypeOf<ProducerResult<number>>()
    if (result.status === 'completed') expectTypeOf(result.value).toEqualTypeOf<number>()
    if (result.status === 'failed') expectTypeOf(result.error).toBeUnknown()
    // @ts-expect-error: only what completed has a value
    result.value
  })

  it('takes options that are undefined', () => {
    createProducerPool({ concurrency: undefined, maxWaiting: undefined })
    void pool.run(() => 5, { signal: undefined })
  })

  it('takes sync producers too, and gives each a signal', () => {
    expectTypeOf(pool.run(() => 'text')).resolves.toEqualTypeOf<ProducerResult<string>>()
    void pool.run((signal) => {
      expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
    })
    // @ts-expect-error: a promise has started already
    void pool.run(Promise.resolve(5))
    // @ts-expect-error: misspelt
    createProducerPool({ concurency: 2 })
  })
})
