import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Clock } from '../../src/clock.js'
import { WheelClock } from '../../src/runtime/wheel-clock.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'
import { until } from '../support/until.js'

const SLOT_MS = 1000

/** A wheel on a clock that stands still, and what was called, with the time. */
function wheelAt(startMs = 0) {
  const base = new ManualClock()
  base.advance(startMs)
  const wheel = new WheelClock(base)
  const calls: { name: string; at: number }[] = []
  const callAfter = (delayMs: number, name = String(delayMs)) =>
    wheel.setTimeout(() => void calls.push({ name, at: base.now() }), delayMs)
  return { base, wheel, calls, callAfter }
}

/** A clock whose time is set, and whose timers fire late, when they are asked to. */
class LeapingClock implements Clock {
  time = 0
  readonly timers = new Set<{ at: number; callback: () => void }>()

  now(): number {
    return this.time
  }

  setTimeout(callback: () => void, delayMs: number) {
    const timer = { at: this.time + delayMs, callback }
    this.timers.add(timer)
    return timer
  }

  clearTimeout(timer: unknown): void {
    this.timers.delete(timer as { at: number; callback: () => void })
  }

  fire(): void {
    for (const timer of [...this.timers]) {
      if (timer.at > this.time || !this.timers.delete(timer)) continue
      timer.callback()
    }
  }
}

function takeWarnings(): Error[] {
  const taken: Error[] = []
  const take = (warning: Error) => void taken.push(warning)
  process.on('warning', take)
  onTestFinished(() => void process.off('warning', take))
  return taken
}

describe('a timer of the wheel', () => {
  it.each([1000, 1001, 1500, 15_000, 600_000])(
    'of %d ms is called once, never early, late by less than a slot',
    (delayMs) => {
      for (const startMs of [0, 1, 499, 999]) {
        const { base, calls, callAfter } = wheelAt(startMs)
        callAfter(delayMs)
        base.advance(delayMs + SLOT_MS)
        expect(calls).toHaveLength(1)
        const lateMs = (calls[0]?.at ?? 0) - startMs - delayMs
        expect(lateMs).toBeGreaterThanOrEqual(0)
        expect(lateMs).toBeLessThan(SLOT_MS)
        base.advance(10 * SLOT_MS)
        expect(calls).toHaveLength(1)
      }
    },
  )

  it.each([0, 1, 10, 999])('shorter than a slot is exact: %d ms', (delayMs) => {
    const { base, calls, callAfter } = wheelAt(300)
    callAfter(delayMs)
    base.advance(2000)
    expect(calls).toEqual([{ name: String(delayMs), at: 300 + delayMs }])
  })

  it.each([1, 999, 1000, 15_000])(
    'that is cleared is not called, and clearing it again is no error: %d ms',
    (delayMs) => {
      const { base, wheel, calls, callAfter } = wheelAt()
      const timer = callAfter(delayMs)
      callAfter(delayMs, 'other')
      wheel.clearTimeout(timer)
      wheel.clearTimeout(timer)
      base.advance(20_000)
      expect(calls.map(({ name }) => name)).toEqual(['other'])
      wheel.clearTimeout(timer)
    },
  )

  it('may be cleared by another one of its slot, which is called first', () => {
    const { base, wheel, calls, callAfter } = wheelAt()
    wheel.setTimeout(() => wheel.clearTimeout(second), 1000)
    const second = callAfter(1000)
    base.advance(3000)
    expect(calls).toEqual([])
  })

  it('may set another one, which waits its own time', () => {
    const { base, wheel, calls, callAfter } = wheelAt()
    wheel.setTimeout(() => void callAfter(1000, 'next'), 1000)
    base.advance(10_000)
    expect(calls).toEqual([{ name: 'next', at: 2000 }])
  })

  it('that throws disturbs no other, and becomes a warning', async () => {
    const warnings = takeWarnings()
    const { base, wheel, calls, callAfter } = wheelAt()
    wheel.setTimeout(() => {
      throw new Error('no time today')
    }, 1000)
    callAfter(1000, 'same slot')
    callAfter(2000, 'next slot')
    base.advance(3000)
    expect(calls.map(({ name }) => name)).toEqual(['same slot', 'next slot'])
    await until(() => warnings.length > 0)
    expect(warnings.map(({ name, message }) => `${name}: ${message}`)).toEqual([
      'SSEWarning: Error: no time today',
    ])
  })
})

describe('the wheel', () => {
  it('turns with one timer of the system, whatever the number of its own', () => {
    const { base, callAfter } = wheelAt()
    for (let i = 0; i < 10_000; i += 1) callAfter(1000 + (i % 20_000))
    expect(base.pending).toBe(1)
  })

  it('stands still when nothing waits', () => {
    const { base, wheel, callAfter } = wheelAt()
    wheel.clearTimeout(callAfter(5000))
    base.advance(SLOT_MS)
    expect(base.pending).toBe(0)
    callAfter(1000)
    base.advance(3 * SLOT_MS)
    expect(base.pending).toBe(0)
  })

  it('calls 10,000 of one slot in many turns of the event loop, at most 128 in each', async () => {
    const { base, wheel } = wheelAt()
    let calls = 0
    for (let i = 0; i < 10_000; i += 1) {
      wheel.setTimeout(() => {
        calls += 1
      }, 15_000)
    }
    base.advance(15_000)
    const perTurn = [calls]
    while (calls < 10_000 && perTurn.length < 1000) {
      const before = calls
      await turns(1)
      perTurn.push(calls - before)
    }
    expect(calls).toBe(10_000)
    // The test's own turn may see two of the wheel's.
    expect(perTurn[0]).toBe(128)
    expect(Math.max(...perTurn)).toBeLessThanOrEqual(128)
  })

  it('calls 1,000 that wait less than a slot, and are due at once, in many turns, too', async () => {
    const { base, wheel } = wheelAt()
    let calls = 0
    for (let i = 0; i < 1000; i += 1) {
      wheel.setTimeout(() => {
        calls += 1
      }, 500)
    }
    base.advance(500)
    expect(calls).toBe(128)
    await until(() => calls === 1000)
    expect(base.pending).toBe(0)
  })

  it('calls a slot that falls due meanwhile behind it, not beside it', async () => {
    const { base, calls, callAfter } = wheelAt()
    for (let i = 0; i < 300; i += 1) callAfter(1000, 'first')
    callAfter(2000, 'second')
    base.advance(1000)
    base.advance(1000)
    expect(calls).toHaveLength(128)
    await until(() => calls.length === 301)
    expect(calls.at(-1)?.name).toBe('second')
    expect(calls.filter(({ name }) => name === 'second')).toHaveLength(1)
  })

  it.each([
    ['a minute', 60_000],
    ['hours', 7 * 3_600_000],
    ['a year', 365 * 86_400_000],
  ])('calls everything in order, once, after the clock leapt by %s', (_, leapMs) => {
    const base = new LeapingClock()
    const wheel = new WheelClock(base)
    const calls: number[] = []
    for (const delayMs of [40_000, 1000, 3000, 2000])
      wheel.setTimeout(() => void calls.push(delayMs), delayMs)
    base.time += leapMs
    const startedAt = performance.now()
    base.fire()
    expect(performance.now() - startedAt).toBeLessThan(1000)
    expect(calls).toEqual([1000, 2000, 3000, 40_000])
    expect(base.timers.size).toBe(0)
    wheel.setTimeout(() => void calls.push(0), 1000)
    base.time += 2000
    base.fire()
    expect(calls.at(-1)).toBe(0)
  })

  it('says how late it was', () => {
    const base = new LeapingClock()
    const wheel = new WheelClock(base)
    wheel.setTimeout(() => {}, 2000)
    expect(wheel.lagMs).toBe(0)
    base.time = 1250
    base.fire()
    expect(wheel.lagMs).toBe(250)
    base.time = 2000
    base.fire()
    expect(wheel.lagMs).toBe(0)
  })

  it('calls nothing while the clock stands still, though its timer fires', () => {
    const base = new LeapingClock()
    const wheel = new WheelClock(base)
    let calls = 0
    wheel.setTimeout(() => {
      calls += 1
    }, 1000)
    for (let i = 0; i < 5; i += 1) {
      const [tick] = base.timers
      base.timers.clear()
      tick?.callback()
    }
    expect({ calls, timers: base.timers.size }).toEqual({ calls: 0, timers: 1 })
    base.time = 1000
    base.fire()
    expect(calls).toBe(1)
  })

  it('leaves nothing after stop, and works again when it is used again', async () => {
    const { base, wheel, calls, callAfter } = wheelAt()
    for (let i = 0; i < 300; i += 1) callAfter(1000)
    callAfter(5000)
    base.advance(1000)
    wheel.stop()
    expect({ calls: calls.length, pending: base.pending }).toEqual({ calls: 128, pending: 0 })
    await turns(5)
    base.advance(10_000)
    expect(calls).toHaveLength(128)
    callAfter(1000, 'again')
    base.advance(2000)
    expect(calls.at(-1)?.name).toBe('again')
  })

  it('calls no other of the slot when one of it stops the wheel', () => {
    const { base, wheel, calls, callAfter } = wheelAt()
    wheel.setTimeout(() => wheel.stop(), 1000)
    callAfter(1000)
    base.advance(5000)
    expect(calls).toEqual([])
  })
})

it('the wheel does what a plain list of timers does, within a slot', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), delayMs: fc.integer({ min: 0, max: 5000 }) }),
    fc.record({ kind: fc.constant('clear' as const), nth: fc.nat({ max: 40 }) }),
    fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 3000 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), fc.integer({ min: 0, max: 5000 }), (steps, startMs) => {
      const base = new ManualClock()
      base.advance(startMs)
      const wheel = new WheelClock(base)
      const timers: { handle: unknown; due: number; calledAt: number[]; clearedAt: number | null }[] = []
      for (const it of steps) {
        if (it.kind === 'set') {
          const timer = {
            handle: null as unknown,
            due: base.now() + it.delayMs,
            calledAt: [] as number[],
            clearedAt: null,
          }
          timer.handle = wheel.setTimeout(() => void timer.calledAt.push(base.now()), it.delayMs)
          timers.push(timer)
        } else if (it.kind === 'clear') {
          const timer = timers[it.nth]
          if (timer === undefined) continue
          wheel.clearTimeout(timer.handle)
          timer.clearedAt ??= base.now()
        } else base.advance(it.ms)
      }
      base.advance(10_000)
      for (const { due, calledAt, clearedAt } of timers) {
        const lateMs = calledAt.map((at) => at - due)
        expect(lateMs.every((ms) => ms >= 0 && ms < SLOT_MS)).toBe(true)
        if (clearedAt === null) expect(calledAt).toHaveLength(1)
        else if (clearedAt < due) expect(calledAt).toEqual([])
        else expect(calledAt.length).toBeLessThanOrEqual(1)
      }
      expect(base.pending).toBe(0)
    }),
  )
})
