import fc from 'fast-check'
import { createMemoryLog } from 'sluice'
import { describe, expect, it } from 'vitest'
import { LagLimit } from '../../src/channel/lag-limit.js'
import { ManualClock } from '../support/clock.js'

const NONE = Number.POSITIVE_INFINITY

function limitOf(bounds: { ring?: number; events?: number; bytes?: number; ms?: number }) {
  const clock = new ManualClock()
  const log = createMemoryLog({ epoch: 'e', maxEvents: bounds.ring ?? 10_000, clock })
  const { events = NONE, bytes = NONE, ms = NONE } = bounds
  const limit = new LagLimit({ log, clock, maxLagEvents: events, maxLagBytes: bytes, maxLagMs: ms })
  return { clock, log, limit }
}

describe('the first event that is not too far behind', () => {
  it('is the oldest held, without any limit', () => {
    const { log, limit } = limitOf({ ring: 5 })
    expect(limit.floor()).toBe(1)
    for (let n = 1; n <= 12; n += 1) log.append('data: x\n\n')
    expect([log.oldest, limit.floor()]).toEqual([8, 8])
  })

  it('is at most so many events from the end, and at most so many bytes', () => {
    const scenario = fc.record({
      ring: fc.integer({ min: 1, max: 50 }),
      events: fc.option(fc.integer({ min: 1, max: 60 }), { nil: NONE }),
      bytes: fc.option(fc.integer({ min: 1, max: 3000 }), { nil: NONE }),
      sizes: fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 100 }),
    })
    const property = fc.property(scenario, ({ ring, events, bytes, sizes }) => {
      const { log, limit } = limitOf({ ring, events, bytes })
      for (const size of sizes) {
        log.append(`data: ${'x'.repeat(size)}\n\n`)
        let expected = Math.max(log.oldest, log.next - events)
        while (expected < log.next && log.bytesFrom(expected) > bytes) expected += 1
        expect(limit.floor()).toBe(expected)
      }
    })
    fc.assert(property, { numRuns: 300 })
  })

  it('is younger than the limit and an eighth of it, and none is given up that is younger than the limit', () => {
    const scenario = fc.record({
      ms: fc.integer({ min: 1, max: 10_000 }),
      pauses: fc.array(
        // Parts of the limit: many short ones, some long.
        fc.oneof(
          { weight: 5, arbitrary: fc.double({ min: 0, max: 0.2, noNaN: true }) },
          { weight: 1, arbitrary: fc.double({ min: 0, max: 3, noNaN: true }) },
        ),
        { maxLength: 80, size: 'max' },
      ),
    })
    const property = fc.property(scenario, ({ ms, pauses }) => {
      const { log, limit, clock } = limitOf({ ms })
      const publishedAt: number[] = []
      for (const pause of pauses) {
        clock.advance(pause * ms)
        log.append('data: x\n\n')
        publishedAt.push(clock.now())
        const floor = limit.floor()
        const ages = publishedAt.map((at) => clock.now() - at)
        expect(ages.slice(0, floor - 1).filter((age) => age < ms)).toEqual([])
        expect(ages.slice(floor - 1).filter((age) => age > ms * 1.13)).toEqual([])
      }
    })
    fc.assert(property, { numRuns: 500 })
  })

  it('never goes back', () => {
    const { log, limit, clock } = limitOf({ ring: 20, events: 15, bytes: 500, ms: 1000 })
    let last = 0
    for (let n = 0; n < 200; n += 1) {
      clock.advance((n * 37) % 400)
      log.append(`data: ${'x'.repeat((n * 53) % 120)}\n\n`)
      const floor = limit.floor()
      expect(floor).toBeGreaterThanOrEqual(last)
      last = floor
    }
    expect(last).toBeGreaterThan(180)
  })
})
