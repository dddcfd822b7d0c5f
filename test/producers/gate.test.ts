import { getEventListeners } from 'node:events'
import fc from 'fast-check'
import { createMemoryLog, type EventLog, type SendPermit, SSEError } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Demand } from '../../src/producers/demand.js'
import {
  connectFake,
  type GuardedQueue,
  gateBefore,
  sendUntilFull,
  track,
  turns,
} from '../support/fake-transport.js'
import { takeUnhandledRejections } from '../support/unhandled.js'

const event = (data: unknown) => ({ data })
const block = (data: unknown) => `data: ${data}\n\n`
const hasCode = (code: string) => expect.objectContaining({ name: 'SSEError', code })

function fill(gate: ReturnType<typeof gateBefore>['gate'], queue: GuardedQueue): void {
  sendUntilFull(gate, event('filler'))
  expect(queue.length + gate.granted).toBe(queue.capacity)
}

describe('a slot', () => {
  it('is reserved by a permit: queued and granted together never exceed the capacity', async () => {
    const { gate, queue } = gateBefore(3)
    await gate.requestSend()
    const second = await gate.requestSend()
    expect(gate.trySend(event('c'))).toBe('queued')
    expect(gate.granted + queue.length).toBe(3)
    expect(gate.tryRequestSend()).toBeNull()
    expect(gate.trySend(event('d'))).toBe('dropped')
    expect(second.send(event('b'))).toBe('queued')
    expect(gate.granted + queue.length).toBe(3)
    expect(queue.takeAll()).toEqual([block('c'), block('b')])
  })

  it('that is freed lets exactly one of many waiters in', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const waiters = Array.from({ length: 10 }, () => track(gate.requestSend()))
    queue.take()
    gate.serve()
    await turns()
    expect(waiters.map((waiter) => waiter.state)).toEqual(['fulfilled', ...Array(9).fill('pending')])
    expect([gate.granted, gate.waiting]).toEqual([1, 9])
  })

  it('goes to whoever asked first, for a permit or to send', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const order: string[] = []
    const sendWithPermit = async (name: string) => (await gate.requestSend()).send(event(name))
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) {
      const isSend = name === 'b' || name === 'c' || name === 'f'
      void (isSend ? gate.send(event(name)) : sendWithPermit(name)).then(() => order.push(name))
    }
    const taken: unknown[] = []
    while (gate.waiting + gate.granted + queue.length > 0) {
      taken.push(queue.take())
      gate.serve()
      await turns()
    }
    expect(order).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    expect(taken).toEqual(['filler', 'a', 'b', 'c', 'd', 'e', 'f'].map(block))
  })

  it('that is free and not served yet is taken by nobody who would pass a waiter', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const first = track(gate.requestSend())
    queue.take()
    expect(gate.tryRequestSend()).toBeNull()
    expect(gate.trySend(event('barging'))).toBe('dropped')
    expect(gate.tryAccept(block('barging'))).toBe('dropped')
    const sender = track(gate.send(event('late')))
    const second = track(gate.requestSend())
    await turns()
    expect([first.state, sender.state, second.state]).toEqual(['pending', 'pending', 'pending'])
    gate.serve()
    await turns()
    expect([first.state, sender.state, second.state]).toEqual(['fulfilled', 'pending', 'pending'])
    first.value?.send(event('first'))
    expect(queue.takeAll()).toEqual([block('first')])
  })

  it('is given in the same turn while there is room', () => {
    const { gate, queue } = gateBefore(2)
    void gate.requestSend()
    expect(gate.granted).toBe(1)
    void gate.send(event('a'))
    expect(queue.takeAll()).toEqual([block('a')])
  })

  it('is not given while the bytes that wait are maxBytes or more, and each permit adds one event at most', async () => {
    const { sse, transport } = connectFake({ firstEvent: false, maxBytes: 1000, maxEventBytes: 400 })
    await turns()
    expect(transport.isWaiting).toBe(true)
    const large = { data: 'x'.repeat(390) }
    const permits = [sse.tryRequestSend(), sse.tryRequestSend()]
    for (let i = 0; i < 3; i += 1) expect(sse.trySend(large)).toBe('queued')
    expect(sse.tryRequestSend()).toBeNull()
    expect(sse.trySend({ data: '' })).toBe('dropped')
    for (const permit of permits) expect(permit?.send(large)).toBe('queued')
    const { queuedBytes } = sse.stats()
    expect(queuedBytes).toBe(5 * 398)
    expect(queuedBytes).toBeLessThanOrEqual(1000 + 400 + 2 * 400)
    const waiter = track(sse.requestSend())
    await turns()
    expect(waiter.state).toBe('pending')
    transport.take()
    await turns()
    expect(waiter.state).toBe('fulfilled')
  })
})

describe('waiting', () => {
  it('is refused beyond maxWaiters, for permits and sends alike, until somebody leaves', async () => {
    const { gate, queue } = gateBefore(1, { maxWaiters: 2 })
    fill(gate, queue)
    const first = track(gate.requestSend())
    const second = track(gate.send(event('second')))
    await expect(gate.requestSend()).rejects.toEqual(hasCode('ERR_SSE_TOO_MANY_WAITERS'))
    await expect(gate.send(event('third'))).rejects.toEqual(hasCode('ERR_SSE_TOO_MANY_WAITERS'))
    expect(gate.waiting).toBe(2)
    queue.take()
    gate.serve()
    await turns()
    const fourth = track(gate.requestSend())
    await turns()
    expect([first.state, second.state, fourth.state]).toEqual(['fulfilled', 'pending', 'pending'])
    expect(gate.waiting).toBe(2)
  })

  it('is never done with maxWaiters 0, and needs none while there is room', async () => {
    const { gate } = gateBefore(1, { maxWaiters: 0 })
    const permit = await gate.requestSend()
    await expect(gate.requestSend()).rejects.toEqual(hasCode('ERR_SSE_TOO_MANY_WAITERS'))
    permit.release()
    await expect(gate.requestSend()).resolves.toBeDefined()
  })

  it('sends what the event was at the call, whatever becomes of it meanwhile', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const data = { price: 1 }
    const sent = gate.send({ data })
    data.price = 2
    queue.take()
    gate.serve()
    await expect(sent).resolves.toBe('queued')
    expect(queue.take()).toBe(block('{"price":1}'))
  })

  it('does not begin for an event that cannot be sent', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    await expect(gate.send({ data: 1n })).rejects.toEqual(hasCode('ERR_SSE_INVALID_EVENT'))
    expect(gate.waiting).toBe(0)
    queue.take()
    await expect(gate.send({ event: 'a\nb' })).rejects.toEqual(hasCode('ERR_SSE_INVALID_EVENT'))
    expect([queue.length, gate.granted]).toEqual([0, 0])
  })
})

describe('an abort', () => {
  const reason = new Error('no longer wanted')

  it('before the call rejects with its reason and takes nothing', async () => {
    const { gate, queue } = gateBefore(2)
    const signal = AbortSignal.abort(reason)
    await expect(gate.requestSend({ signal })).rejects.toBe(reason)
    await expect(gate.send(event('a'), { signal })).rejects.toBe(reason)
    expect([gate.granted, gate.waiting, queue.length]).toEqual([0, 0, 0])
  })

  it('while waiting gives the place up, keeps the order of the others and leaves no listener', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const controllers = Array.from({ length: 5 }, () => new AbortController())
    const waiters = controllers.map(({ signal }, i) =>
      track<unknown>(i % 2 === 0 ? gate.requestSend({ signal }) : gate.send(event(i), { signal })),
    )
    for (const i of [0, 2, 3]) controllers[i]?.abort(reason)
    await turns()
    expect(gate.waiting).toBe(2)
    for (const i of [0, 2, 3]) expect(waiters[i]).toEqual({ state: 'rejected', error: reason })
    for (const state of ['pending', 'fulfilled']) {
      expect(waiters[4]?.state).toBe('pending')
      queue.take()
      gate.serve()
      await turns()
      expect(waiters[1]?.state).toBe('fulfilled')
      expect(waiters[4]?.state).toBe(state)
    }
    expect(queue.length).toBe(0)
    for (const { signal } of controllers) expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  it('of one signal gives up the places of all who wait with it, in a process that is warned of no leak', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const warnings: unknown[] = []
    const onWarning = (warning: unknown) => void warnings.push(warning)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const controller = new AbortController()
    const { signal } = controller
    const waiters = Array.from({ length: 30 }, () => track(gate.requestSend({ signal })))
    const other = track(gate.requestSend())
    controller.abort(reason)
    await turns()
    expect(waiters).toEqual(Array(30).fill({ state: 'rejected', error: reason }))
    expect([gate.waiting, other.state]).toEqual([1, 'pending'])
    expect([getEventListeners(signal, 'abort'), warnings]).toEqual([[], []])
  })

  it('after the grant changes nothing', async () => {
    const { gate, queue } = gateBefore(1)
    const controller = new AbortController()
    const atOnce = await gate.requestSend({ signal: controller.signal })
    const waited = gate.requestSend({ signal: controller.signal })
    expect(atOnce.send(event('at once'))).toBe('queued')
    queue.take()
    gate.serve()
    const permit = await waited
    controller.abort(reason)
    expect(gate.granted).toBe(1)
    expect(permit.send(event('waited'))).toBe('queued')
    expect(queue.take()).toBe(block('waited'))
  })

  it.each([0, 1])('from inside the encoding of its event sends nothing (free slots: %i)', async (free) => {
    const { gate, queue } = gateBefore(1)
    if (free === 0) fill(gate, queue)
    const controller = new AbortController()
    const abort = () => {
      controller.abort(reason)
      return 'aborted'
    }
    const sent = track(gate.send({ data: { toJSON: abort } }, { signal: controller.signal }))
    await turns()
    if (free === 0) expect(queue.take()).toBe(block('filler'))
    gate.serve()
    await turns()
    expect(sent).toEqual({ state: 'rejected', error: reason })
    expect([queue.length, gate.waiting]).toEqual([0, 0])
  })
})

describe('the close', () => {
  it('rejects everybody who waits, and each later call, with the reason', async () => {
    const { gate, queue, clock } = gateBefore(2)
    const permit = await gate.requestSend()
    fill(gate, queue)
    const controller = new AbortController()
    const waiters = [
      track<unknown>(gate.requestSend()),
      track<unknown>(gate.send(event('a'))),
      track<unknown>(gate.requestSend({ signal: controller.signal })),
    ]
    gate.close('shutdown')
    await turns()
    const closed = expect.objectContaining({ code: 'ERR_SSE_CLOSED', reason: 'shutdown' })
    for (const waiter of waiters) expect(waiter).toEqual({ state: 'rejected', error: closed })
    await expect(gate.requestSend()).rejects.toEqual(closed)
    await expect(gate.send(event('a'))).rejects.toEqual(closed)
    await expect(gate.send({ data: 1n })).rejects.toEqual(closed)
    expect(gate.tryRequestSend()).toBeNull()
    expect(gate.trySend(event('a'))).toBe('closed')
    expect(gate.tryAccept(block('a'))).toBe('closed')
    expect(permit.send(event('a'))).toBe('closed')
    permit.release()
    expect([gate.granted, gate.waiting, queue.length]).toEqual([0, 0, 1])
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
    expect(clock.pending).toBe(0)
  })

  it('keeps its first reason', async () => {
    const { gate } = gateBefore(1)
    gate.close('completed')
    gate.close('aborted')
    await expect(gate.requestSend()).rejects.toMatchObject({ reason: 'completed' })
  })

  it('rejects with its reason rather than with that of a signal that is aborted too', async () => {
    const { gate } = gateBefore(1)
    gate.close('completed')
    await expect(gate.requestSend({ signal: AbortSignal.abort() })).rejects.toEqual(hasCode('ERR_SSE_CLOSED'))
  })

  it('lets slots that become free go to nobody', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const waiter = track(gate.requestSend())
    gate.close('server-closed')
    queue.take()
    gate.serve()
    await turns()
    expect(waiter.state).toBe('rejected')
    expect(gate.granted).toBe(0)
  })

  it('raises no unhandled rejection in a program that awaits none of its sends', async () => {
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown) => void unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    onTestFinished(() => void process.off('unhandledRejection', onUnhandled))
    const { sse } = connectFake({ maxEvents: 1 })
    void sse.send(event('accepted'))
    void sse.send(event('waits'))
    void sse.requestSend()
    sse.abort()
    void sse.send(event('late'))
    void sse.requestSend()
    await turns(3)
    expect(unhandled).toEqual([])
  })
})

describe('a rejection that nobody catches', () => {
  const reason = new Error('no longer wanted')

  it('is the business of the process, unless it came with the close', async () => {
    const unhandled = takeUnhandledRejections()
    const { gate, queue } = gateBefore(1, { maxWaiters: 4 })
    fill(gate, queue)
    const controller = new AbortController()
    const { signal } = controller
    for (const options of [{ signal }, {}]) {
      void gate.requestSend(options)
      void gate.send(event('waits'), options)
    }
    void gate.requestSend()
    void gate.send(event('one too many'))
    await turns(3)
    const tooMany = hasCode('ERR_SSE_TOO_MANY_WAITERS')
    expect(unhandled).toEqual([tooMany, tooMany])
    controller.abort(reason)
    await turns(3)
    expect(unhandled).toEqual([tooMany, tooMany, reason, reason])
    gate.close('shutdown')
    await turns(3)
    expect(unhandled).toHaveLength(4)
    expect(gate.waiting).toBe(0)
  })

  it('is the business of the process when the log could not keep the event of a send that waited', async () => {
    const unhandled = takeUnhandledRejections()
    const { sse } = withFailingLog(1)
    const permits = Array.from({ length: 4 }, () => sse.tryRequestSend())
    void sse.send(event('a'))
    for (const permit of permits) permit?.release()
    await turns(3)
    expect(unhandled).toEqual([hasCode('ERR_SSE_LOG_FAILED')])
  })
})

describe('a lease', () => {
  it('that ends unused gives the slot to the next, once', async () => {
    const { gate, queue, clock } = gateBefore(1, { leaseMs: 8000 })
    const permit = await gate.requestSend()
    const [second, third] = [track(gate.requestSend()), track(gate.requestSend())]
    clock.advance(9000)
    await turns()
    expect([second.state, third.state]).toEqual(['fulfilled', 'pending'])
    permit.release()
    permit[Symbol.dispose]()
    expect(() => permit.send(event('late'))).toThrow(hasCode('ERR_SSE_PERMIT_EXPIRED'))
    await turns()
    expect(third.state).toBe('pending')
    expect([gate.granted, gate.waiting, queue.length]).toEqual([1, 1, 0])
    expect(second.value?.send(event('second'))).toBe('queued')
    expect(queue.take()).toBe(block('second'))
  })

  it('lasts leaseMs to 9/8 of it, whenever the permit was given', () => {
    const leaseMs = fc.constantFrom(8, 80, 1000, 30_000)
    const offsets = fc.array(fc.double({ min: 0, max: 3, noNaN: true }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(leaseMs, offsets, (lease, givenAt) => {
        const { gate, clock } = gateBefore(100, { leaseMs: lease })
        const held: { permit: SendPermit; at: number }[] = []
        const due = givenAt.map((share) => share * lease).sort((a, b) => a - b)
        const step = lease / 64
        while (due.length > 0 || gate.granted > 0) {
          const now = clock.now()
          while (due[0] !== undefined && due[0] <= now) {
            due.shift()
            held.push({ permit: gate.tryRequestSend() as SendPermit, at: now })
          }
          const ages = held.map(({ at }) => now - at)
          expect(gate.granted).toBeGreaterThanOrEqual(ages.filter((age) => age < lease).length)
          expect(gate.granted).toBeLessThanOrEqual(ages.filter((age) => age <= (lease * 9) / 8).length)
          clock.advance(step)
        }
        for (const { permit } of held) expect(() => permit.send(event(1))).toThrow(/was not used within/)
      }),
    )
  })

  it('asks for one timer, however many permits there are, and for none when all are gone', async () => {
    const { gate, clock } = gateBefore(50, { leaseMs: 8000 })
    const permits = Array.from({ length: 50 }, () => gate.tryRequestSend())
    expect(clock.pending).toBe(1)
    for (const permit of permits) permit?.release()
    clock.advance(1000)
    expect(clock.pending).toBe(0)
    expect(gate.tryRequestSend()).not.toBeNull()
    expect(clock.pending).toBe(1)
  })

  it('that ends while the event is encoded makes the send an error', () => {
    const { gate, queue, clock } = gateBefore(1, { leaseMs: 8000 })
    const permit = gate.tryRequestSend()
    const toJSON = () => {
      clock.advance(9000)
      return 'late'
    }
    expect(() => permit?.send({ data: { toJSON } })).toThrow(hasCode('ERR_SSE_PERMIT_EXPIRED'))
    expect([gate.granted, queue.length]).toEqual([0, 0])
  })
})

describe('a permit', () => {
  it('sends once: a second time is an error and sends nothing', () => {
    const { gate, queue } = gateBefore(2)
    const permit = gate.tryRequestSend()
    expect(permit?.send(event('a'))).toBe('queued')
    expect(() => permit?.send(event('b'))).toThrow(hasCode('ERR_SSE_PERMIT_SPENT'))
    expect(queue.takeAll()).toEqual([block('a')])
    expect(gate.granted).toBe(0)
  })

  it('released twice gives its slot back once', async () => {
    const { gate, queue } = gateBefore(1)
    const permit = await gate.requestSend()
    const waiters = [track(gate.requestSend()), track(gate.requestSend())]
    permit.release()
    permit.release()
    await turns()
    expect(waiters.map(({ state }) => state)).toEqual(['fulfilled', 'pending'])
    expect([gate.granted, queue.length]).toEqual([1, 0])
  })

  it('sent with after its release is an error and sends nothing', () => {
    const { gate, queue } = gateBefore(1)
    const permit = gate.tryRequestSend()
    permit?.release()
    expect(() => permit?.send(event('a'))).toThrow(hasCode('ERR_SSE_PERMIT_SPENT'))
    expect([gate.granted, queue.length]).toEqual([0, 0])
  })

  it('released after it was sent with does not give back the slot that the event took', () => {
    const { gate, queue } = gateBefore(1)
    const permit = gate.tryRequestSend()
    permit?.send(event('a'))
    permit?.release()
    expect(gate.tryRequestSend()).toBeNull()
    expect(queue.length).toBe(1)
  })

  it('gives its slot back at the end of the block that is using it, also when the block throws', async () => {
    const { gate } = gateBefore(1)
    const failing = async () => {
      using permit = await gate.requestSend()
      expect([gate.granted, permit]).toEqual([1, expect.anything()])
      throw new Error('no event after all')
    }
    await expect(failing()).rejects.toThrow('no event after all')
    expect(gate.granted).toBe(0)
  })

  it('is still good after an event that cannot be sent', () => {
    const { sse } = connectFake({ maxEvents: 1, maxEventBytes: 100 })
    const permit = sse.tryRequestSend()
    const circular: Record<string, unknown> = {}
    circular.self = circular
    const throws = () => {
      throw new Error('no JSON')
    }
    for (const data of [circular, 1n, { toJSON: throws }, () => {}]) {
      expect(() => permit?.send({ data })).toThrow(hasCode('ERR_SSE_INVALID_EVENT'))
    }
    expect(() => permit?.send({ event: 'a\rb' })).toThrow(hasCode('ERR_SSE_INVALID_EVENT'))
    expect(() => permit?.send({ data: 'x'.repeat(101) })).toThrow(hasCode('ERR_SSE_EVENT_TOO_LARGE'))
    expect(sse.stats()).toMatchObject({ permits: 1, queuedEvents: 0 })
    expect(permit?.send(event('good'))).toBe('queued')
    expect(sse.stats()).toMatchObject({ permits: 0, queuedEvents: 1 })
  })

  it('is still good after the log failed to keep its event', () => {
    const { sse, log } = withFailingLog(1)
    const permit = sse.tryRequestSend()
    expect(() => permit?.send(event('a'))).toThrow(hasCode('ERR_SSE_LOG_FAILED'))
    expect(sse.stats().permits).toBe(1)
    expect(permit?.send(event('a'))).toBe('queued')
    expect([sse.stats().permits, log.next]).toEqual([0, 2])
  })
})

describe('code of the program that runs inside a send', () => {
  it('may send on the same connection: its event goes first, into a slot of its own', async () => {
    const { gate, queue } = gateBefore(2)
    const permit = gate.tryRequestSend()
    const outcomes: unknown[] = []
    const toJSON = () => {
      outcomes.push(gate.trySend(event('inner')))
      return 'outer'
    }
    const data = { toJSON }
    expect(permit?.send({ data })).toBe('queued')
    expect(queue.takeAll()).toEqual([block('inner'), block('"outer"')])
    const other = gate.tryRequestSend()
    const third = gate.tryRequestSend()
    expect(other?.send({ data })).toBe('queued')
    expect(outcomes).toEqual(['queued', 'dropped'])
    expect(third?.send(event('third'))).toBe('queued')
    expect(queue.takeAll()).toEqual([block('"outer"'), block('third')])
  })

  it('may take the last slot: the outer event then waits, or is dropped', async () => {
    const { gate, queue } = gateBefore(1)
    const toJSON = () => {
      gate.trySend(event('inner'))
      return 'outer'
    }
    const data = { toJSON }
    expect(gate.trySend({ data })).toBe('dropped')
    queue.take()
    const outer = track(gate.send({ data }))
    await turns()
    expect([outer.state, queue.length]).toEqual(['pending', 1])
    expect(queue.take()).toBe(block('inner'))
    gate.serve()
    await turns()
    expect([outer.value, queue.take()]).toEqual(['queued', block('"outer"')])
  })

  it.each(['send', 'release'] as const)('may %s the very permit: then it is spent', (action) => {
    const { gate, queue } = gateBefore(3)
    const permit = gate.tryRequestSend() as SendPermit
    const toJSON = () => {
      if (action === 'send') permit.send(event('inner'))
      else permit.release()
      return 'outer'
    }
    expect(() => permit.send({ data: { toJSON } })).toThrow(hasCode('ERR_SSE_PERMIT_SPENT'))
    expect(gate.granted).toBe(0)
    expect(queue.takeAll()).toEqual(action === 'send' ? [block('inner')] : [])
  })

  describe('may close the connection', () => {
    function closingEvent() {
      const { gate, queue } = gateBefore(2)
      const permit = gate.tryRequestSend() as SendPermit
      const toJSON = () => {
        gate.close('unauthorized')
        return 'secret'
      }
      const nothingIsLeft = () => expect([gate.granted, gate.waiting, queue.length]).toEqual([0, 0, 0])
      return { gate, permit, closing: { data: { toJSON } }, nothingIsLeft }
    }

    it('and a send with a permit then returns closed', () => {
      const { permit, closing, nothingIsLeft } = closingEvent()
      expect(permit.send(closing)).toBe('closed')
      nothingIsLeft()
    })

    it('and trySend then returns closed', () => {
      const { gate, closing, nothingIsLeft } = closingEvent()
      expect(gate.trySend(closing)).toBe('closed')
      nothingIsLeft()
    })

    it('and send then rejects, and waits for nothing', async () => {
      const { gate, closing, nothingIsLeft } = closingEvent()
      const sent = track(gate.send(closing))
      await turns()
      expect(sent).toEqual({ state: 'rejected', error: hasCode('ERR_SSE_CLOSED') })
      nothingIsLeft()
    })
  })

  it('may close the connection when the event is in the log already: no permit is left, and none is owed', () => {
    const log = createMemoryLog()
    const { sse } = connectFake({ log })
    const [permit, other] = [sse.tryRequestSend(), sse.tryRequestSend()]
    log.onAppend(() => sse.abort())
    expect(permit?.send(event('a'))).toBe('queued')
    expect(log.next).toBe(2)
    expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0, phase: 'closed' })
    expect(other?.send(event('b'))).toBe('closed')
    expect(sse.stats().permits).toBe(0)
  })

  it('may not use the very permit a second time from a listener of the log', () => {
    const log = createMemoryLog()
    const { sse } = connectFake({ log, maxEvents: 4 })
    const permit = sse.tryRequestSend()
    const errors: unknown[] = []
    const stop = log.onAppend(() => {
      stop()
      try {
        permit?.send(event('again'))
      } catch (error) {
        errors.push(error)
      }
    })
    expect(permit?.send(event('a'))).toBe('queued')
    expect(errors).toEqual([hasCode('ERR_SSE_PERMIT_SPENT')])
    expect(log.next).toBe(2)
    expect(sse.stats().permits).toBe(0)
  })
})

describe('an event log that fails', () => {
  it('is told to the sender, keeps the cause, and takes no slot', async () => {
    const { sse, log, failure } = withFailingLog(2)
    await expect(sse.send(event('a'))).rejects.toMatchObject({ code: 'ERR_SSE_LOG_FAILED', cause: failure })
    expect(() => sse.trySend(event('a'))).toThrow(hasCode('ERR_SSE_LOG_FAILED'))
    expect(log.next).toBe(1)
    await expect(sse.send(event('a'))).resolves.toBe('queued')
  })

  it('rejects the send that waited and lets the next one in', async () => {
    const { sse, log } = withFailingLog(1)
    const permits = Array.from({ length: 4 }, () => sse.tryRequestSend())
    const waiters = [track(sse.send(event('a'))), track(sse.send(event('b')))]
    for (const permit of permits) permit?.release()
    await turns()
    expect(waiters[0]).toEqual({ state: 'rejected', error: hasCode('ERR_SSE_LOG_FAILED') })
    expect(waiters[1]).toEqual({ state: 'fulfilled', value: 'queued' })
    expect(log.next).toBe(2)
  })
})

describe('an event log that throws when it is asked for room', () => {
  const failure = new Error('the log is not there')

  it('rejects who asks for a permit, and harms nobody who asks later', async () => {
    const log: EventLog = createMemoryLog()
    const { sse } = connectFake({ log, firstEvent: false, maxEvents: 4 })
    expect(sse.trySend(event('a'))).toBe('queued')
    const bytesFrom = log.bytesFrom
    log.bytesFrom = () => {
      throw failure
    }
    const asked = [track<unknown>(sse.requestSend()), track<unknown>(sse.send(event('b')))]
    const demanded = track(sse.demand().next())
    log.bytesFrom = bytesFrom
    const later = track(sse.requestSend())
    await turns()
    const rejected = { state: 'rejected', error: failure }
    expect([...asked, demanded]).toEqual([rejected, rejected, rejected])
    expect(later.state).toBe('fulfilled')
    expect(sse.stats()).toMatchObject({ phase: 'blocked', permits: 1, waiters: 0 })
    expect(log.next).toBe(2)
  })

  it('while others are served rejects those whose turn it is, and nobody else', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const waiters = [track<unknown>(gate.send(event('first'))), track<unknown>(gate.requestSend())]
    const last = track<unknown>(gate.send(event('last')))
    queue.take()
    let failures = 0
    queue.onAsked = () => {
      failures += 1
      if (failures <= waiters.length) throw failure
    }
    gate.serve()
    await turns()
    const rejected = { state: 'rejected', error: failure }
    expect(waiters).toEqual([rejected, rejected])
    expect(last.state).toBe('fulfilled')
    expect(queue.take()).toBe(block('last'))
    expect([gate.waiting, gate.granted]).toEqual([0, 0])
  })
})

describe('demand()', () => {
  it('gives permits one at a time, in line with everybody else', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const before = track(gate.requestSend())
    const demand = new Demand(gate, undefined)
    const next = track(demand.next())
    const after = track(gate.requestSend())
    for (const expected of [
      ['fulfilled', 'pending', 'pending'],
      ['fulfilled', 'fulfilled', 'pending'],
    ]) {
      queue.take()
      gate.serve()
      await turns()
      expect([before.state, next.state, after.state]).toEqual(expected)
      if (next.state === 'pending') before.value?.send(event('before'))
    }
    expect(next.value?.done).toBe(false)
    expect(next.value?.value?.send(event('demanded'))).toBe('queued')
    expect(queue.take()).toBe(block('demanded'))
  })

  it('ends when the connection closes', async () => {
    const { sse, transport } = connectFake({ maxEvents: 2 })
    const sent: number[] = []
    const producer = (async () => {
      for await (const permit of sse.demand()) {
        sent.push(sent.length)
        permit.send(event(sent.length))
      }
      return 'ended'
    })()
    await turns()
    transport.take()
    await turns()
    expect(sent.length).toBeGreaterThanOrEqual(4)
    expect(sse.stats().waiters).toBe(1)
    sse.abort()
    await expect(producer).resolves.toBe('ended')
    await expect(sse.demand().next()).resolves.toEqual({ done: true, value: undefined })
  })

  it('left with return() gives a pending place up and ends the pending next()', async () => {
    const { gate, queue } = gateBefore(1)
    fill(gate, queue)
    const demand = new Demand(gate, undefined)
    const next = track(demand.next())
    const other = track(gate.requestSend())
    expect(gate.waiting).toBe(2)
    await expect(demand.return()).resolves.toEqual({ done: true, value: undefined })
    await turns()
    expect(next).toEqual({ state: 'fulfilled', value: { done: true, value: undefined } })
    expect(gate.waiting).toBe(1)
    queue.take()
    gate.serve()
    await turns()
    expect(other.state).toBe('fulfilled')
    await expect(demand.next()).resolves.toEqual({ done: true, value: undefined })
    expect(gate.waiting).toBe(0)
  })

  it('ends with the reason of its signal when that aborts', async () => {
    const { gate, queue } = gateBefore(1)
    const controller = new AbortController()
    const reason = new Error('enough')
    const seen: unknown[] = []
    const loop = (async () => {
      for await (const permit of new Demand(gate, { signal: controller.signal })) {
        seen.push(permit.send(event('a')))
      }
    })()
    await turns()
    expect([seen, gate.waiting]).toEqual([['queued'], 1])
    controller.abort(reason)
    await expect(loop).rejects.toBe(reason)
    expect([gate.waiting, queue.length]).toEqual([0, 1])
  })

  it.each(['return', 'close', 'abort'] as const)('leaves no listener on its signal after %s', async (end) => {
    const { gate } = gateBefore(1)
    const controller = new AbortController()
    const demand = new Demand(gate, { signal: controller.signal })
    await demand.next()
    const next = track(demand.next())
    if (end === 'return') await demand.return()
    if (end === 'close') gate.close('completed')
    if (end === 'abort') controller.abort()
    await turns()
    expect(next.state).toBe(end === 'abort' ? 'rejected' : 'fulfilled')
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
  })

  it('ends a loop that throws without leaving a waiter', async () => {
    const { gate } = gateBefore(1)
    const loop = (async () => {
      for await (const permit of new Demand(gate, undefined)) {
        permit.release()
        throw new SSEError('ERR_SSE_INVALID_SOURCE', 'no more')
      }
    })()
    await expect(loop).rejects.toThrow('no more')
    expect([gate.granted, gate.waiting]).toEqual([0, 0])
  })
})

/** A connection whose log refuses to keep the first events. */
function withFailingLog(failures: number) {
  const log: EventLog = createMemoryLog()
  const failure = new Error('the disk is full')
  const append = log.append.bind(log)
  let left = failures
  log.append = (text) => {
    left -= 1
    if (left >= 0) throw failure
    return append(text)
  }
  const { sse } = connectFake({ log, maxEvents: 4 })
  return { sse, log, failure }
}
