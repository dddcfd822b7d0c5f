import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type ClosedInfo,
  type CloseReason,
  createMemoryLog,
  createSSEHandler,
  type EventLog,
  type Gap,
  type Phase,
  type SendOutcome,
  type SendPermit,
  SSEError,
  type SSEErrorCode,
  type SSEHandler,
  type SSEHandlerOptions,
  type SSEHandlerStats,
} from 'sluice'
import { describe, expectTypeOf, it } from 'vitest'

declare const req: IncomingMessage
declare const res: ServerResponse

type Events = { tick: number; note: { text: string } }

describe('a connection with an event map', () => {
  const sse = createSSEHandler<Events>(req, res)

  it('takes the events of the map', () => {
    void sse.send({ event: 'tick', data: 1 })
    void sse.send({ event: 'note', data: { text: 'hello' }, id: '1', retry: 2000 })
    sse.trySend({ event: 'tick', data: 1 })
  })

  it('refuses data of another type', () => {
    // @ts-expect-error: a tick is a number
    void sse.send({ event: 'tick', data: '1' })
    // @ts-expect-error: a note is an object with a text
    void sse.send({ event: 'note', data: { words: 'hello' } })
    // @ts-expect-error: the data of another event
    sse.trySend({ event: 'note', data: 1 })
  })

  it('refuses an event that is not in the map', () => {
    // @ts-expect-error: no such event
    void sse.send({ event: 'tock', data: 1 })
    // @ts-expect-error: an event without a name is none of the map
    void sse.send({ data: 1 })
    // @ts-expect-error: a tick without its number
    void sse.send({ event: 'tick' })
  })

  it('refuses fields that an event does not have, or of another type', () => {
    // @ts-expect-error: misspelt
    void sse.send({ event: 'tick', data: 1, identifier: '1' })
    // @ts-expect-error: an id is a string
    void sse.send({ event: 'tick', data: 1, id: 1 })
    // @ts-expect-error: milliseconds are a number
    void sse.send({ event: 'tick', data: 1, retry: '2000' })
  })

  it('gives permits for the events of the map', async () => {
    expectTypeOf(sse.requestSend()).resolves.toEqualTypeOf<SendPermit<Events>>()
    expectTypeOf(sse.tryRequestSend()).toEqualTypeOf<SendPermit<Events> | null>()
    for await (const permit of sse.demand()) expectTypeOf(permit).toEqualTypeOf<SendPermit<Events>>()
    const permit = await sse.requestSend()
    permit.send({ event: 'tick', data: 1 })
    // @ts-expect-error: a tick is a number
    permit.send({ event: 'tick', data: '1' })
    // @ts-expect-error: no such event
    permit.send({ event: 'tock', data: 1 })
  })
})

describe('an event whose data may be undefined', () => {
  type Optional = {
    ping: undefined
    note: { text: string } | undefined
    any: unknown
    tick: number
    cleared: null
  }
  const sse = createSSEHandler<Optional>(req, res)

  it('may go without', () => {
    void sse.send({ event: 'ping' })
    void sse.send({ event: 'note' })
    void sse.send({ event: 'any', id: '1' })
    sse.trySend({ event: 'ping' })
    sse.tryRequestSend()?.send({ event: 'ping' })
  })

  it('may have it all the same, of its type', () => {
    void sse.send({ event: 'ping', data: undefined })
    void sse.send({ event: 'note', data: undefined })
    void sse.send({ event: 'note', data: { text: 'hello' } })
    void sse.send({ event: 'any', data: 1 })
    // @ts-expect-error: a ping has no data
    void sse.send({ event: 'ping', data: 1 })
    // @ts-expect-error: a note is an object with a text
    void sse.send({ event: 'note', data: { words: 'hello' } })
  })

  it('does not let another one go without', () => {
    // @ts-expect-error: a tick without its number
    void sse.send({ event: 'tick' })
    // @ts-expect-error: nor may that be undefined
    void sse.send({ event: 'tick', data: undefined })
    // @ts-expect-error: null is data
    void sse.send({ event: 'cleared' })
    void sse.send({ event: 'cleared', data: null })
    // @ts-expect-error: a name is not optional with an event map
    void sse.send({})
  })
})

describe('an event map', () => {
  it('may be an interface', () => {
    interface Declared {
      tick: number
    }
    const sse = createSSEHandler<Declared>(req, res)
    void sse.send({ event: 'tick', data: 1 })
    // @ts-expect-error: a tick is a number
    void sse.send({ event: 'tick', data: '1' })
  })

  it('may be left out: then any event goes', () => {
    const sse = createSSEHandler(req, res)
    expectTypeOf(sse).toEqualTypeOf<SSEHandler>()
    void sse.send({})
    void sse.send({ data: 1 })
    void sse.send({ event: 'anything', data: { at: 'all' } })
    // @ts-expect-error: a name is a string
    void sse.send({ event: 1 })
  })

  it('can be given by the options', () => {
    const options: SSEHandlerOptions<Events> = { maxEvents: 8 }
    const sse = createSSEHandler(req, res, options)
    // @ts-expect-error: a tick is a number
    void sse.send({ event: 'tick', data: '1' })
  })
})

describe('outcomes', () => {
  const sse = createSSEHandler(req, res)

  it('of sending are a closed set', () => {
    expectTypeOf<SendOutcome>().toEqualTypeOf<'queued' | 'dropped' | 'closed'>()
    expectTypeOf(sse.trySend({})).toEqualTypeOf<'queued' | 'dropped' | 'closed'>()
    expectTypeOf(sse.send({})).resolves.toEqualTypeOf<SendOutcome>()
    expectTypeOf(sse.comment('')).toEqualTypeOf<SendOutcome>()
  })

  it('of what never drops have no dropped', () => {
    expectTypeOf<SendPermit['send']>().returns.toEqualTypeOf<'queued' | 'closed'>()
    expectTypeOf<SendPermit<Events>['send']>().returns.toEqualTypeOf<'queued' | 'closed'>()
    expectTypeOf(sse.retry(1)).toEqualTypeOf<'queued' | 'closed'>()
  })

  it('of a connection say how it closed', () => {
    expectTypeOf(sse.closed).toEqualTypeOf<Promise<ClosedInfo>>()
    expectTypeOf(sse.close()).toEqualTypeOf<Promise<ClosedInfo>>()
    expectTypeOf(sse.sendError(new Error())).toEqualTypeOf<Promise<ClosedInfo>>()
    expectTypeOf<ClosedInfo>().toEqualTypeOf<{
      sessionId: string
      reason: CloseReason
      at: number
      durationMs: number
      eventsSent: number
      bytesSent: number
      eventsUnsent: number
      error?: unknown
    }>()
  })

  it('of a misuse have a code out of a closed set', () => {
    expectTypeOf(new SSEError('ERR_SSE_CLOSED', '').code).toEqualTypeOf<SSEErrorCode>()
    // @ts-expect-error: no such code
    new SSEError('ERR_SSE_OTHER', '')
  })
})

describe('a permit', () => {
  it('can be declared with using', () => {
    expectTypeOf<SendPermit>().toExtend<Disposable>()
    expectTypeOf<SendPermit['release']>().toEqualTypeOf<() => void>()
  })
})

describe('close reasons', () => {
  const sse = createSSEHandler(req, res)

  it('are a closed set', () => {
    void sse.close({ reason: 'completed' })
    sse.abort('replaced')
    // @ts-expect-error: no such reason
    void sse.close({ reason: 'bored' })
    // @ts-expect-error: no such reason
    sse.abort('bored')
    // @ts-expect-error: the reason goes into an object
    void sse.close('completed')
  })
})

describe('listeners', () => {
  const sse = createSSEHandler(req, res)

  it('get the arguments of their event', () => {
    sse.on('phase', (...args) => expectTypeOf(args).toEqualTypeOf<[phase: Phase, previous: Phase]>())
    sse.on('blocked', (...args) => expectTypeOf(args).toEqualTypeOf<[]>())
    sse.on('unblocked', (...args) => expectTypeOf(args).toEqualTypeOf<[]>())
    sse.on('gap', (...args) => expectTypeOf(args).toEqualTypeOf<[gap: Gap]>())
    sse.on('dropped', (...args) => expectTypeOf(args).toEqualTypeOf<[info: { dropped: number }]>())
    sse.on('closed', (...args) => expectTypeOf(args).toEqualTypeOf<[info: ClosedInfo]>())
    sse.on('error', (...args) => expectTypeOf(args).toEqualTypeOf<[error: unknown, during: string]>())
  })

  it('of an event that there is not are refused', () => {
    // @ts-expect-error: no such event
    sse.on('drain', () => {})
    // @ts-expect-error: a phase is no number
    sse.once('phase', (phase: number) => phase)
  })

  it('know the phases', () => {
    expectTypeOf<Phase>().toEqualTypeOf<
      'opening' | 'replaying' | 'flowing' | 'blocked' | 'draining' | 'closed'
    >()
    expectTypeOf(sse.phase).toEqualTypeOf<Phase>()
  })
})

describe('what a connection tells of itself', () => {
  const sse = createSSEHandler(req, res)

  it('can be read and not written', () => {
    expectTypeOf(sse.sessionId).toEqualTypeOf<string>()
    expectTypeOf(sse.lastEventId).toEqualTypeOf<string | null>()
    expectTypeOf(sse.signal).toEqualTypeOf<AbortSignal>()
    expectTypeOf(sse.stats()).toEqualTypeOf<SSEHandlerStats>()
    // @ts-expect-error: the machine decides it
    sse.phase = 'closed'
    // @ts-expect-error: fixed from the start
    sse.sessionId = 'other'
  })
})

describe('options of a connection', () => {
  it('are all optional', () => {
    createSSEHandler(req, res, {})
    createSSEHandler(req, res, {
      sessionId: 'a',
      log: createMemoryLog({ maxEvents: 10, maxBytes: 1000, maxAgeMs: 1000 }),
      replay: { start: 'oldest', afterGap: 'close' },
      firstEvent: { data: 'hello' },
      retryMs: 1000,
      heartbeat: { intervalMs: 1000, format: 'event' },
      maxEvents: 1,
      maxBytes: 1,
      maxEventBytes: 1,
      maxWaiters: 0,
      leaseMs: 1,
      writeStallMs: 1,
      drainMs: 0,
      clock: { now: () => 0, setTimeout: () => null, clearTimeout: () => {} },
    })
    createSSEHandler(req, res, { firstEvent: false })
  })

  it('may be undefined, as those that a program passes on from its own options are', () => {
    createSSEHandler(req, res, {
      sessionId: undefined,
      log: undefined,
      replay: undefined,
      firstEvent: undefined,
      retryMs: undefined,
      heartbeat: undefined,
      maxEvents: undefined,
      maxBytes: undefined,
      maxEventBytes: undefined,
      maxWaiters: undefined,
      leaseMs: undefined,
      writeStallMs: undefined,
      drainMs: undefined,
      clock: undefined,
    })
    createSSEHandler(req, res, {
      replay: { start: undefined, afterGap: undefined },
      firstEvent: { event: undefined, data: undefined, id: undefined, retry: undefined },
      heartbeat: { intervalMs: undefined, format: undefined },
      log: createMemoryLog({
        maxEvents: undefined,
        maxBytes: undefined,
        maxAgeMs: undefined,
        epoch: undefined,
        clock: undefined,
      }),
    })
    type MayBeUndefined<T> = { [Name in keyof T]-?: undefined extends T[Name] ? Name : never }[keyof T]
    type Options = Required<Omit<SSEHandlerOptions, '_events'>>
    expectTypeOf<MayBeUndefined<Options>>().toEqualTypeOf<keyof Options>()
  })

  it('of an event may be undefined too', () => {
    const typed = createSSEHandler<Events>(req, res)
    void typed.send({ event: 'tick', data: 1, id: undefined, retry: undefined })
    const sse = createSSEHandler(req, res)
    void sse.send(
      { event: undefined, data: undefined, id: undefined, retry: undefined },
      { signal: undefined },
    )
  })

  it('are checked', () => {
    // @ts-expect-error: misspelt
    createSSEHandler(req, res, { maxEvent: 1 })
    // @ts-expect-error: milliseconds are a number
    createSSEHandler(req, res, { leaseMs: '1s' })
    // @ts-expect-error: no such format
    createSSEHandler(req, res, { heartbeat: { format: 'ping' } })
    // @ts-expect-error: no such choice
    createSSEHandler(req, res, { replay: { afterGap: 'all' } })
    // @ts-expect-error: no first event is false
    createSSEHandler(req, res, { firstEvent: true })
    // @ts-expect-error: misspelt
    createMemoryLog({ maxEvent: 1 })
  })

  it('take any log that implements the port', () => {
    expectTypeOf(createMemoryLog).returns.toEqualTypeOf<EventLog>()
    expectTypeOf<SSEHandlerOptions['log']>().toEqualTypeOf<EventLog | undefined>()
  })
})
