import {
  type Channel,
  type ChannelEvent,
  type ChannelOptions,
  type ChannelStats,
  createChannel,
  createMemoryLog,
  type EventMap,
  type EventNameFor,
  type Gap,
  type PipeTarget,
  pipe,
  type SelectOptions,
  type SendOutcome,
  type SendPermit,
  type Snapshot,
  type SnapshotHook,
  type SnapshotRequest,
  type SSEHandler,
  type SubscribeOptions,
  type Subscriber,
  type WireTarget,
  wire,
} from 'sluice'
import { describe, expectTypeOf, it } from 'vitest'

type Events = { tick: number; note: { text: string } }

declare const sse: SSEHandler<Events>

const channel = createChannel<Events>()

describe('a channel with an event map', () => {
  it('takes the events of the map, with a topic or without', () => {
    void channel.publish({ event: 'tick', data: 1 })
    void channel.publish({ event: 'note', data: { text: 'hello' }, topic: 'room:1', retry: 2000 })
    void channel.send({ event: 'tick', data: 1, topic: undefined })
    channel.trySend({ event: 'tick', data: 1 })
  })

  it('refuses data of another type', () => {
    // @ts-expect-error: a tick is a number
    void channel.publish({ event: 'tick', data: '1' })
    // @ts-expect-error: a note is an object with a text
    void channel.send({ event: 'note', data: { words: 'hello' } })
    // @ts-expect-error: the data of another event
    channel.trySend({ event: 'note', data: 1 })
  })

  it('refuses an event that is not in the map, or has no name', () => {
    // @ts-expect-error: no such event
    void channel.publish({ event: 'tock', data: 1 })
    // @ts-expect-error: an event without a name is none of the map
    void channel.publish({ data: 1 })
    // @ts-expect-error: a tick without its number
    void channel.publish({ event: 'tick' })
  })

  it('refuses a topic of another type, and a field that is misspelt', () => {
    // @ts-expect-error: a topic is a string
    void channel.publish({ event: 'tick', data: 1, topic: 5 })
    // @ts-expect-error: one topic
    void channel.publish({ event: 'tick', data: 1, topic: ['a'] })
    // @ts-expect-error: misspelt
    void channel.publish({ event: 'tick', data: 1, topics: 'a' })
  })

  it('gives the id of what was published, and says what became of what was sent', () => {
    expectTypeOf(channel.publish({ event: 'tick', data: 1 })).toEqualTypeOf<Promise<string>>()
    expectTypeOf(channel.send({ event: 'tick', data: 1 })).toEqualTypeOf<Promise<SendOutcome>>()
    expectTypeOf(channel.trySend({ event: 'tick', data: 1 })).toEqualTypeOf<SendOutcome>()
    expectTypeOf(channel.lastId).toEqualTypeOf<string>()
    expectTypeOf(channel.signal).toEqualTypeOf<AbortSignal>()
    expectTypeOf(channel.stats()).toEqualTypeOf<ChannelStats>()
    expectTypeOf(channel.end()).toBeVoid()
  })

  it('gives permits for the events of the map', async () => {
    expectTypeOf(channel.requestSend()).resolves.toEqualTypeOf<SendPermit<Events>>()
    expectTypeOf(channel.tryRequestSend()).toEqualTypeOf<SendPermit<Events> | null>()
    for await (const permit of channel.demand()) expectTypeOf(permit).toEqualTypeOf<SendPermit<Events>>()
    const permit = await channel.requestSend({ signal: new AbortController().signal })
    permit.send({ event: 'tick', data: 1 })
    // @ts-expect-error: a tick is a number
    permit.send({ event: 'tick', data: '1' })
  })
})

describe('a channel without an event map', () => {
  const untyped = createChannel()

  it('takes any event', () => {
    expectTypeOf(untyped).toEqualTypeOf<Channel<EventMap>>()
    void untyped.publish({ event: 'anything', data: { n: 1 }, topic: 'a' })
    void untyped.publish({ data: 1 })
    void untyped.publish({})
    // @ts-expect-error: a name is a string
    void untyped.publish({ event: 5 })
  })
})

describe('an event map', () => {
  it('may be an interface', () => {
    interface Named {
      tick: number
    }
    void createChannel<Named>().publish({ event: 'tick', data: 1 })
    // @ts-expect-error: a tick is a number
    void createChannel<Named>().publish({ event: 'tick', data: '1' })
  })

  it('comes from options that carry it', () => {
    const options: ChannelOptions<Events> = { maxWaitMs: 5 }
    expectTypeOf(createChannel(options)).toEqualTypeOf<Channel<Events>>()
  })
})

describe('subscribe', () => {
  it('takes a connection with whatever events', () => {
    channel.subscribe(sse)
    channel.subscribe({} as SSEHandler)
    channel.subscribe({} as SSEHandler<{ other: Date }>)
    channel.unsubscribe({} as SSEHandler<{ other: Date }>)
    expectTypeOf<SSEHandler<{ other: Date }>>().toExtend<Subscriber>()
    // @ts-expect-error: no connection
    channel.subscribe({})
    // @ts-expect-error: nothing
    channel.subscribe()
    // @ts-expect-error: a channel is no connection
    channel.subscribe(channel)
  })

  it('takes a selection', () => {
    channel.subscribe(sse, { events: 'tick' })
    channel.subscribe(sse, { events: ['t*', 'note'] as const, topics: 'room:*' })
    channel.subscribe(sse, { events: undefined, topics: undefined, filter: undefined, authorize: undefined })
    expectTypeOf<SelectOptions['events']>().toEqualTypeOf<string | readonly string[] | undefined>()
    // @ts-expect-error: a regular expression is no pattern
    channel.subscribe(sse, { events: /t.*/ })
    // @ts-expect-error: misspelt
    channel.subscribe(sse, { topic: 'a' })
  })

  it('shows a filter the event as it is', () => {
    channel.subscribe(sse, {
      filter(event) {
        expectTypeOf(event).toEqualTypeOf<ChannelEvent>()
        expectTypeOf(event.data).toEqualTypeOf<string>()
        expectTypeOf(event.topic).toEqualTypeOf<string | undefined>()
        // @ts-expect-error: it is not the filter's to change
        event.data = 'other'
        return true
      },
      authorize(topic) {
        expectTypeOf(topic).toEqualTypeOf<string>()
        return true
      },
    })
  })

  it('refuses a filter or authorize that cannot answer at once', () => {
    // @ts-expect-error: a promise is no answer
    channel.subscribe(sse, { filter: async () => true })
    // @ts-expect-error: a promise is no answer
    channel.subscribe(sse, { authorize: async () => true })
    // @ts-expect-error: neither true nor false
    channel.subscribe(sse, { authorize: (topic) => topic })
    // @ts-expect-error: no answer
    channel.subscribe(sse, { filter: () => {} })
  })

  it('takes hooks that give a snapshot of the events of the map, at once or later', () => {
    channel.subscribe(sse, { onSubscribe: () => ({ events: [{ event: 'tick', data: 1 }] }) })
    channel.subscribe(sse, {
      async onSubscribe({ id, gap, signal }) {
        expectTypeOf(id).toEqualTypeOf<string>()
        expectTypeOf(gap).toEqualTypeOf<Gap | null>()
        expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
        return { events: [{ event: 'note', data: { text: 'state' } }], id }
      },
    })
    const hook: SnapshotHook<Events> = () => ({ events: [], id: undefined })
    channel.subscribe(sse, { onSubscribe: hook, onGap: hook })
    expectTypeOf<Parameters<SnapshotHook<Events>>>().toEqualTypeOf<[SnapshotRequest]>()
    expectTypeOf<Snapshot<Events>['id']>().toEqualTypeOf<string | undefined>()
  })

  it('refuses a snapshot of other events', () => {
    // @ts-expect-error: a tick is a number
    channel.subscribe(sse, { onSubscribe: () => ({ events: [{ event: 'tick', data: '1' }] }) })
    // @ts-expect-error: no such event
    channel.subscribe(sse, { onGap: () => ({ events: [{ event: 'tock', data: 1 }] }) })
    // @ts-expect-error: no events
    channel.subscribe(sse, { onGap: () => ({}) })
    // @ts-expect-error: a position is an id
    channel.subscribe(sse, { onGap: () => ({ events: [], id: 5 }) })
    // @ts-expect-error: nothing
    channel.subscribe(sse, { onSubscribe: () => {} })
  })

  it('takes options that were made elsewhere for such a channel', () => {
    const options: SubscribeOptions<Events> = { topics: 'a', onGap: () => ({ events: [] }) }
    channel.subscribe(sse, options)
    const untyped: SubscribeOptions = { topics: 'a' }
    createChannel().subscribe(sse, untyped)
  })
})

describe('the options of createChannel', () => {
  it('may be undefined, each of them', () => {
    createChannel({
      log: undefined,
      slowConsumer: undefined,
      maxLag: { events: undefined, bytes: undefined, ageMs: undefined },
      maxWaitMs: undefined,
      flushIntervalMs: undefined,
      replay: { start: undefined, afterGap: undefined },
      clock: undefined,
    })
    createChannel({ log: createMemoryLog(), slowConsumer: 'wait' })
  })

  it('are those that there are', () => {
    // @ts-expect-error: no such policy
    createChannel({ slowConsumer: 'drop' })
    // @ts-expect-error: that is what onGap is for
    createChannel({ replay: { afterGap: 'snapshot' } })
    // @ts-expect-error: a number has no unit
    createChannel({ maxLag: 100 })
    // @ts-expect-error: misspelt
    createChannel({ flushInterval: 2 })
  })
})

describe('channel.on', () => {
  it('knows its events and what they tell', () => {
    channel.on('slow', ({ sessionId, lagEvents, lagBytes }) => {
      expectTypeOf(sessionId).toEqualTypeOf<string>()
      expectTypeOf(lagEvents).toEqualTypeOf<number>()
      expectTypeOf(lagBytes).toEqualTypeOf<number>()
    })
    // @ts-expect-error: no such event
    channel.on('gap', () => {})
  })
})

describe('a channel as a target', () => {
  it('is one of pipe, whose items have to be events of the map', () => {
    expectTypeOf<Channel<Events>>().toExtend<PipeTarget<Events>>()
    void pipe([1, 2], channel, { event: 'tick' })
    void pipe([1, 2], channel, { map: (n) => ({ event: 'note', data: { text: String(n) }, topic: 'a' }) })
    // @ts-expect-error: a note is an object with a text
    void pipe([1, 2], channel, { event: 'note' })
    // @ts-expect-error: no such event
    void pipe([1], channel, { map: (n) => ({ event: 'tock', data: n }) })
    expectTypeOf<EventNameFor<number, Events>>().toEqualTypeOf<'tick'>()
  })

  it('is none of wire, which drops what one slow client does not take', () => {
    expectTypeOf<Channel<Events>>().not.toExtend<WireTarget<Events>>()
    // @ts-expect-error: a channel
    wire(() => () => {}, channel, { policy: 'close' })
  })
})
