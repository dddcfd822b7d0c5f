import v8 from 'node:v8'
import vm from 'node:vm'
import fc from 'fast-check'
import type { SendPermit } from 'sluice'
import { expect, it } from 'vitest'
import { connectFake, gateBefore, track, turns } from '../support/fake-transport.js'
import { until } from '../support/until.js'

// The rules of https://github.com/reactive-streams/reactive-streams-jvm (1.0.4) that map to the gate. A producer
// is the subscriber, the gate is the publisher of permission: request(1) is a call of requestSend or send, onNext
// a permit granted or an event accepted, onError the rejection, cancel an abort or the close.

const event = (data: unknown) => ({ data })

it('1.1: never are more permits given than were asked for, nor more than there are slots', async () => {
  const step = fc.constantFrom('ask', 'ask', 'take', 'use')
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(step, { maxLength: 40 }),
      async (slots, steps) => {
        const { gate, queue } = gateBefore(slots)
        const permits: SendPermit[] = []
        let [asked, given] = [0, 0]
        for (const next of steps) {
          if (next === 'take') queue.take()
          gate.serve()
          if (next === 'use') permits.shift()?.send(event('used'))
          if (next === 'ask') {
            asked += 1
            void gate.requestSend().then((permit) => {
              given += 1
              permits.push(permit)
            })
          }
          await turns(1)
          expect(given).toBeLessThanOrEqual(asked)
          expect(gate.granted + queue.length).toBeLessThanOrEqual(slots)
          expect(gate.granted + gate.waiting + (given - permits.length)).toBe(asked)
        }
      },
    ),
  )
})

it('1.3: grants are told one after another, in the order in which they were asked for', async () => {
  const { gate, queue } = gateBefore(3)
  for (let i = 0; i < 3; i += 1) gate.trySend(event('filler'))
  const told: string[] = []
  let isInside = false
  const producers = Array.from({ length: 9 }, async (_, i) => {
    const permit = await gate.requestSend()
    expect(isInside).toBe(false)
    isInside = true
    // A producer that asks again from inside its turn gets its answer in a later one.
    void gate.requestSend().then((again) => {
      expect(isInside).toBe(false)
      told.push(`again ${i}`)
      again.send(event(`again ${i}`))
    })
    permit.send(event(i))
    told.push(String(i))
    isInside = false
  })
  const written: unknown[] = []
  while (written.length < 21) {
    written.push(...queue.takeAll())
    gate.serve()
    await turns()
  }
  await Promise.all(producers)
  const numbers = Array.from({ length: 9 }, (_, i) => String(i))
  expect(told).toEqual([...numbers, ...numbers.map((i) => `again ${i}`)])
  expect(written.slice(3)).toEqual(told.map((text) => `data: ${text}\n\n`))
})

it('1.7: after the close was told nothing else is: no permit, no event, no second reason', async () => {
  const { gate, queue, clock } = gateBefore(1)
  const permit = await gate.requestSend()
  const reasons: unknown[] = []
  const granted: unknown[] = []
  for (let i = 0; i < 5; i += 1) {
    gate.requestSend().then(
      (late) => granted.push(late),
      (error) => reasons.push(error.reason),
    )
  }
  gate.close('completed')
  await turns()
  gate.close('aborted')
  permit.release()
  queue.take()
  gate.serve()
  clock.advance(100_000)
  await turns()
  expect(granted).toEqual([])
  expect(reasons).toEqual(Array(5).fill('completed'))
  expect([permit.send(event('late')), gate.trySend(event('late')), queue.length]).toEqual([
    'closed',
    'closed',
    0,
  ])
})

it('1.8: a request that was aborted gets no permit and no event sent, and the slot goes to the next', async () => {
  const { gate, queue } = gateBefore(1)
  gate.trySend(event('filler'))
  const controller = new AbortController()
  const { signal } = controller
  const cancelled = [
    track<unknown>(gate.requestSend({ signal })),
    track<unknown>(gate.send(event('a'), { signal })),
  ]
  const next = track(gate.send(event('next')))
  controller.abort()
  for (let i = 0; i < 4; i += 1) {
    await turns()
    if (i === 0) expect(queue.take()).toBe('data: filler\n\n')
    gate.serve()
  }
  expect(cancelled.map(({ state }) => state)).toEqual(['rejected', 'rejected'])
  expect(next.state).toBe('fulfilled')
  expect(queue.takeAll()).toEqual(['data: next\n\n'])
  expect([gate.granted, gate.waiting]).toEqual([0, 0])
})

it('3.2: a permit may be asked for from inside a grant, and from inside the encoding of an event', async () => {
  const { gate, queue } = gateBefore(2)
  const asked: Promise<SendPermit>[] = []
  const data = {
    toJSON() {
      asked.push(gate.requestSend())
      return 'outer'
    },
  }
  const first = await gate.requestSend()
  expect(first.send({ data })).toBe('queued')
  const [inner] = await Promise.all(asked)
  expect([gate.granted, queue.length]).toEqual([1, 1])
  const again = gate.requestSend().then((permit) => permit.send(event('again')))
  expect(inner?.send(event('inner'))).toBe('queued')
  expect(queue.takeAll()).toEqual(['data: "outer"\n\n', 'data: inner\n\n'])
  gate.serve()
  await expect(again).resolves.toBe('queued')
})

it('3.3: asking and serving never nest: each grant is told from an empty stack, however many follow', async () => {
  const { gate, queue } = gateBefore(1, { maxWaiters: 50_000 })
  let depth = 0
  let deepest = 0
  let granted = 0
  const askAgain = (): Promise<void> => {
    depth += 1
    const asked = gate.requestSend().then((permit) => {
      deepest = Math.max(deepest, depth)
      granted += 1
      permit.release()
      return granted < 10_000 ? askAgain() : undefined
    })
    depth -= 1
    return asked
  }
  await askAgain()
  expect([granted, deepest]).toEqual([10_000, 0])

  // An event log may free a slot while it keeps an event, which serves the next waiter, and so on.
  gate.trySend(event('filler'))
  for (let i = 0; i < 50_000; i += 1) void gate.send(event(i))
  queue.onAccept = () => {
    depth += 1
    deepest = Math.max(deepest, depth)
    queue.take()
    gate.serve()
    depth -= 1
  }
  queue.take()
  gate.serve()
  expect([gate.waiting, deepest]).toEqual([0, 1])
})

it('3.5: an abort and the close return at once, run no code of the waiters, and may be repeated', async () => {
  const { gate } = gateBefore(1, { maxWaiters: 20_000 })
  await gate.requestSend()
  const controllers = Array.from({ length: 10_000 }, () => new AbortController())
  let told = 0
  const tell = () => {
    told += 1
  }
  for (const { signal } of controllers) gate.requestSend({ signal }).catch(tell)
  for (let i = 0; i < 10_000; i += 1) gate.requestSend().catch(tell)
  for (const controller of [...controllers, ...controllers]) controller.abort()
  expect([told, gate.waiting]).toEqual([0, 10_000])
  for (let i = 0; i < 3; i += 1) gate.close('aborted')
  expect([told, gate.waiting, gate.granted]).toEqual([0, 0, 0])
  await turns()
  expect(told).toBe(20_000)
})

it('3.6: once it is cancelled, asking takes no slot, joins no line and only says that it is over', async () => {
  const { gate, queue, clock } = gateBefore(2)
  const signal = AbortSignal.abort(new Error('cancelled'))
  await expect(gate.requestSend({ signal })).rejects.toThrow('cancelled')
  await expect(gate.send(event('a'), { signal })).rejects.toThrow('cancelled')
  expect([gate.granted, gate.waiting, queue.length, clock.pending]).toEqual([0, 0, 0, 0])
  gate.close('completed')
  for (let i = 0; i < 3; i += 1) {
    await expect(gate.requestSend()).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'completed' })
    await expect(gate.send(event('a'))).rejects.toMatchObject({ code: 'ERR_SSE_CLOSED' })
    expect([gate.tryRequestSend(), gate.trySend(event('a'))]).toEqual([null, 'closed'])
  }
  expect([gate.granted, gate.waiting, queue.length, clock.pending]).toEqual([0, 0, 0, 0])
})

it('3.7: once it is cancelled, cancelling again does nothing', async () => {
  const { sse, transport, clock } = connectFake()
  const controller = new AbortController()
  const permits = await Promise.all([sse.requestSend(), sse.requestSend({ signal: controller.signal })])
  sse.abort('replaced')
  const calls = [...transport.calls]
  sse.abort('aborted')
  controller.abort()
  for (const permit of permits) permit.release()
  const closed = await Promise.all([sse.close({ reason: 'completed' }), sse.sendError(new Error('late'))])
  expect(closed.map(({ reason, error }) => [reason, error])).toEqual(Array(2).fill(['replaced', undefined]))
  expect([transport.calls, transport.violations, clock.pending]).toEqual([calls, [], 0])
})

it('3.9: a demand that is no positive number is refused with an error that says what was expected', async () => {
  for (const maxEvents of [0, -1, -(2 ** 53), 0.5, Number.NaN]) {
    expect(() => connectFake({ maxEvents })).toThrow(
      expect.objectContaining({
        code: 'ERR_SSE_INVALID_OPTION',
        message: `Option maxEvents is ${maxEvents}; expected a whole number of at least 1.`,
      }),
    )
  }
  // Each call asks for one: there is no number to get wrong.
  const { sse } = connectFake({ maxEvents: 1 })
  await sse.requestSend()
  expect(sse.stats()).toMatchObject({ permits: 1, waiters: 0 })
})

it('3.13: the gate forgets an aborted waiter, and after the close everybody', async () => {
  v8.setFlagsFromString('--expose-gc')
  const collectGarbage = vm.runInNewContext('gc') as () => void
  const { gate, queue } = gateBefore(2, { maxWaiters: 10 })
  gate.trySend(event('filler'))
  let held: SendPermit | null = await gate.requestSend()
  const heldPermit = new WeakRef(held)

  const waiting = () => {
    const controller = new AbortController()
    const asked = gate.requestSend({ signal: controller.signal })
    asked.catch(() => {})
    return { controller, signal: new WeakRef(controller.signal), asked: new WeakRef(asked) }
  }
  let aborted: ReturnType<typeof waiting> | null = waiting()
  let closed: ReturnType<typeof waiting> | null = waiting()
  const forgotten = [aborted.signal, aborted.asked]
  const forgottenAtClose = [closed.signal, closed.asked, heldPermit]
  const isGone = (refs: WeakRef<object>[]) => {
    collectGarbage()
    return refs.every((ref) => ref.deref() === undefined)
  }

  aborted.controller.abort()
  aborted = null
  await until(() => isGone(forgotten), 'the aborted waiter is collected')
  expect(gate.waiting).toBe(1)
  held = null
  closed = null
  await turns()
  collectGarbage()
  expect(heldPermit.deref()).toBeDefined()
  gate.close('completed')
  await until(() => isGone(forgottenAtClose), 'what waited and what was granted is collected')
  expect(queue.length).toBe(1)
})
