import fc from 'fast-check'
import type { SendPermit } from 'sluice'
import { expect, it } from 'vitest'
import type { CloseReason } from '../../src/index.js'
import type { Permit } from '../../src/producers/permit.js'
import { type GuardedGate, gateBefore, type Tracked, track, turns } from '../support/fake-transport.js'

const LEASE_MS = 800
/** The gate counts leases in turns; no step is longer, so that a step ends each lease in one moment. */
const LEASE_TURN_MS = LEASE_MS / 8

type Fate = 'waiting' | 'granted' | 'queued' | 'aborted' | 'closed' | 'too many'

/** What a caller should have seen so far. */
interface Caller {
  number: number
  wants: 'permit' | 'send'
  fate: Fate
}

/** The gate as one would explain it: a queue, permits, and people in line. */
interface Model {
  readonly capacity: number
  readonly maxWaiters: number
  queued: number[]
  held: Caller[]
  line: Caller[]
  callers: Caller[]
  closed: CloseReason | null
}

interface Real extends GuardedGate {
  outcomes: Map<number, Tracked<unknown>>
  controllers: Map<number, AbortController>
  /** Permits by the number of their caller, with the moment they were given. */
  permits: Map<number, { permit: SendPermit; at: number }>
  /** Callers in the order in which the gate served them after a wait. */
  served: number[]
}

const hasRoom = (model: Model) => model.queued.length + model.held.length < model.capacity

function serveLine(model: Model): void {
  while (model.closed === null && hasRoom(model)) {
    const first = model.line.shift()
    if (first === undefined) return
    admit(model, first)
  }
}

function admit(model: Model, caller: Caller): void {
  if (caller.wants === 'permit') model.held.push(caller)
  else model.queued.push(caller.number)
  caller.fate = caller.wants === 'permit' ? 'granted' : 'queued'
}

function fateOf(outcome: Tracked<unknown> | undefined): Fate {
  if (outcome?.state === 'pending') return 'waiting'
  if (outcome?.state === 'fulfilled') return outcome.value === 'queued' ? 'queued' : 'granted'
  const { code } = (outcome?.error ?? {}) as { code?: unknown }
  if (code === 'ERR_SSE_CLOSED') return 'closed'
  if (code === 'ERR_SSE_TOO_MANY_WAITERS') return 'too many'
  return 'aborted'
}

/** Compares after each step, when all that is to settle has settled. */
async function compare(model: Model, real: Real): Promise<void> {
  await turns(1)
  const { gate, queue, clock } = real
  for (const [number, outcome] of real.outcomes) {
    if (fateOf(outcome) === 'granted' && !real.permits.has(number)) {
      real.permits.set(number, { permit: outcome.value as SendPermit, at: clock.now() })
    }
  }
  expect(queue.length + gate.granted).toBeLessThanOrEqual(model.capacity)
  expect(gate.waiting).toBeLessThanOrEqual(model.maxWaiters)
  const fates = model.callers.map(({ number }) => [number, fateOf(real.outcomes.get(number))])
  expect(fates).toEqual(model.callers.map(({ number, fate }) => [number, fate]))
  expect(real.served).toEqual([...real.served].sort((a, b) => a - b))
  expect(gate.granted).toBe(model.held.length)
  expect(gate.waiting).toBe(model.line.length)
  expect(queue.length).toBe(model.queued.length)
  if (model.closed === null && model.line.length > 0) expect(hasRoom(model)).toBe(false)
}

type Command = fc.AsyncCommand<Model, Real>

function command(name: string, run: (model: Model, real: Real) => void, check?: (model: Model) => boolean) {
  return (): Command => ({
    check: (model) => check?.(model) ?? true,
    run: async (model, real) => {
      run(model, real)
      await compare(model, real)
    },
    toString: () => name,
  })
}

function ask(wants: Caller['wants']): (model: Model, real: Real) => void {
  return (model, real) => {
    const number = model.callers.length
    const caller: Caller = { number, wants, fate: 'waiting' }
    const mayPass = model.line.length === 0 && hasRoom(model)
    model.callers.push(caller)
    if (model.closed !== null) caller.fate = 'closed'
    else if (mayPass) admit(model, caller)
    else if (model.line.length >= model.maxWaiters) caller.fate = 'too many'
    else model.line.push(caller)

    const controller = new AbortController()
    const { signal } = controller
    const asked: Promise<unknown> =
      wants === 'permit' ? real.gate.requestSend({ signal }) : real.gate.send({ data: number }, { signal })
    real.controllers.set(number, controller)
    real.outcomes.set(number, track(asked))
    if (caller.fate !== 'waiting') return
    asked.then(
      () => real.served.push(number),
      () => {},
    )
  }
}

/** One of several, by a random number. */
const pick = <T>(all: readonly T[], at: number): T | undefined => all[at % Math.max(1, all.length)]

const requestSend = command('requestSend', ask('permit'))
const send = command('send', ask('send'))
const trySend = command('trySend', (model, real) => {
  const mayPass = model.line.length === 0 && hasRoom(model)
  const expected = model.closed !== null ? 'closed' : mayPass ? 'queued' : 'dropped'
  if (expected === 'queued') model.queued.push(-1)
  expect(real.gate.trySend({ data: -1 })).toBe(expected)
})
const tryRequestSend = command('tryRequestSend', (model, real) => {
  const caller: Caller = { number: model.callers.length, wants: 'permit', fate: 'granted' }
  const permit = real.gate.tryRequestSend()
  const mayPass = model.closed === null && model.line.length === 0 && hasRoom(model)
  expect(permit !== null).toBe(mayPass)
  if (permit === null) return
  model.callers.push(caller)
  model.held.push(caller)
  real.outcomes.set(caller.number, { state: 'fulfilled', value: permit })
})
const sendWithPermit = (at: number) =>
  command(`permit.send(${at})`, (model, real) => {
    const caller = pick(
      model.callers.filter(({ fate }) => fate === 'granted'),
      at,
    )
    if (caller === undefined) return
    const { permit } = real.permits.get(caller.number) as { permit: SendPermit }
    if (model.closed !== null && (permit as Permit<Record<string, unknown>>).state === 'closed') {
      expect(permit.send({ data: caller.number })).toBe('closed')
    } else if (model.held.includes(caller)) {
      model.held.splice(model.held.indexOf(caller), 1)
      model.queued.push(caller.number)
      expect(permit.send({ data: caller.number })).toBe('queued')
    } else {
      expect(() => permit.send({ data: caller.number })).toThrow(/already sent with|was not used within/)
    }
  })()
const release = (at: number) =>
  command(`permit.release(${at})`, (model, real) => {
    const caller = pick(
      model.callers.filter(({ fate }) => fate === 'granted'),
      at,
    )
    if (caller === undefined) return
    if (model.held.includes(caller)) model.held.splice(model.held.indexOf(caller), 1)
    serveLine(model)
    real.permits.get(caller.number)?.permit.release()
  })()
const abort = (at: number) =>
  command(`abort(${at})`, (model, real) => {
    const caller = pick(model.callers, at)
    if (caller === undefined) return
    if (model.line.includes(caller)) {
      model.line.splice(model.line.indexOf(caller), 1)
      caller.fate = 'aborted'
    }
    real.controllers.get(caller.number)?.abort()
  })()
/** Lets time pass in steps of a lease turn at most, so that the gate ends leases in one moment of each step. */
const passTime = (ms: number): Command => ({
  check: () => true,
  run: async (model, real) => {
    const { clock } = real
    for (let left = ms; left > 0; left -= LEASE_TURN_MS) {
      clock.advance(Math.min(left, LEASE_TURN_MS))
      model.held = model.held.filter(({ number }) => {
        const { permit, at } = real.permits.get(number) as { permit: SendPermit; at: number }
        const { state } = permit as Permit<Record<string, unknown>>
        if (clock.now() - at < LEASE_MS) expect(state).toBe('held')
        if (clock.now() - at >= (LEASE_MS * 9) / 8) expect(state).toBe('expired')
        return state === 'held'
      })
      serveLine(model)
      await compare(model, real)
    }
  },
  toString: () => `passTime(${ms})`,
})
const take = command('take', (model, real) => {
  const first = model.queued.shift()
  expect(real.queue.take()).toBe(first === undefined ? undefined : `data: ${first}\n\n`)
  serveLine(model)
  real.gate.serve()
})
const close = command('close', (model, real) => {
  if (model.closed === null) {
    model.closed = 'completed'
    for (const caller of model.line) caller.fate = 'closed'
    model.line = []
    model.held = []
  }
  real.gate.close(model.closed)
})

const place = fc.nat({ max: 50 })
const time = fc.integer({ min: 1, max: LEASE_MS / 2 })
const always = fc.constant(null)
const commands = fc.commands(
  [
    fc.oneof(
      { weight: 20, arbitrary: always.map(requestSend) },
      { weight: 10, arbitrary: always.map(send) },
      { weight: 5, arbitrary: always.map(trySend) },
      { weight: 5, arbitrary: always.map(tryRequestSend) },
      { weight: 15, arbitrary: place.map(sendWithPermit) },
      { weight: 5, arbitrary: place.map(release) },
      { weight: 10, arbitrary: place.map(abort) },
      { weight: 15, arbitrary: time.map(passTime) },
      { weight: 20, arbitrary: always.map(take) },
      { weight: 1, arbitrary: always.map(close) },
    ),
  ],
  { size: '+2', maxCommands: 100 },
)

it('does what a queue, permits and a line of people would do, whatever is asked of it', async () => {
  const seen = { waits: 0, closes: 0, expiries: 0, refusals: 0 }
  const limits = fc.record({ capacity: fc.integer({ min: 1, max: 5 }), maxWaiters: fc.nat({ max: 6 }) })
  await fc.assert(
    fc.asyncProperty(limits, commands, async ({ capacity, maxWaiters }, steps) => {
      const guarded = gateBefore(capacity, { maxWaiters, leaseMs: LEASE_MS })
      const real: Real = {
        ...guarded,
        outcomes: new Map(),
        controllers: new Map(),
        permits: new Map(),
        served: [],
      }
      const model: Model = {
        capacity,
        maxWaiters,
        queued: [],
        held: [],
        line: [],
        callers: [],
        closed: null,
      }
      await fc.asyncModelRun(() => ({ model, real }), steps)

      const expired = [...real.permits.values()].filter(
        ({ permit }) => (permit as Permit<Record<string, unknown>>).state === 'expired',
      )
      seen.waits += real.served.length
      seen.closes += model.closed === null ? 0 : 1
      seen.expiries += expired.length
      seen.refusals += model.callers.filter(({ fate }) => fate === 'too many').length

      await close().run(model, real)
      await requestSend().run(model, real)
      expect([...real.outcomes.values()].map(({ state }) => state)).not.toContain('pending')
      expect(real.clock.pending).toBe(0)
    }),
    { numRuns: 400 },
  )
  // A model that is never led into a corner proves nothing.
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50)
})
