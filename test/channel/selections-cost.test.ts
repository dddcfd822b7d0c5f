import { createMemoryLog } from 'sluice'
import { describe, expect, it } from 'vitest'
import { Patterns } from '../../src/channel/patterns.js'
import { type Reads, ReadsBySelection } from '../../src/channel/reads.js'
import { Selection } from '../../src/channel/selection.js'
import { range } from '../support/channel.js'

const MAX_BYTES = 64 * 1024
const MAX_KEPT = 64

function readsOf(events: number) {
  const log = createMemoryLog({ epoch: 'e', maxEvents: 10_000 })
  for (const n of range(1, events)) log.append(`data: ${n}\n\n`, { event: 'a', topic: undefined })
  return new ReadsBySelection(log)
}

const selectionOf = (events: string | string[]) => new Selection({ events }, () => {})

/** Whether a read is kept for who comes to the same place. */
function isKept(reads: Reads, from: number): boolean {
  const read = reads.read(from, MAX_BYTES)
  return reads.read(from, MAX_BYTES) === read
}

describe('what is read for a selection', () => {
  it.each([
    ['everything', () => null],
    ['names', () => selectionOf('a')],
    ['a pattern', () => selectionOf(['a*', 'z1'])],
  ])('is kept from the second reader on, not for the first: %s', (_, select) => {
    const reads = readsOf(10)
    const first = reads.for(select())
    expect(isKept(first, 1)).toBe(false)
    const second = reads.for(select())
    expect(second).toBe(first)
    expect(isKept(first, 1)).toBe(true)
    reads.letGo(second)
    expect(isKept(first, 2)).toBe(false)
  })

  it('is kept for none of many clients that each select something else', () => {
    const reads = readsOf(10)
    for (const n of range(1, 200)) expect(isKept(reads.for(selectionOf(['a*', `z${n}`])), 1)).toBe(false)
  })

  it('is bounded for the channel, however many selections are shared', () => {
    const reads = readsOf(10)
    const shared = range(1, 300).map((n) => {
      const of = reads.for(selectionOf(['a*', `z${n}`]))
      expect(reads.for(selectionOf(['a*', `z${n}`]))).toBe(of)
      return { of, read: of.read(1, MAX_BYTES) }
    })
    // The latest first: up to the first that was freed, to look frees none.
    const freed = shared.toReversed().findIndex(({ of, read }) => of.read(1, MAX_BYTES) !== read)
    expect(freed).toBeGreaterThan(0)
    expect(freed).toBeLessThanOrEqual(MAX_KEPT)
  })

  it('is bounded for the channel, however many places are read from', () => {
    const reads = readsOf(2000)
    reads.for(null)
    const all = reads.for(null)
    const kept = range(1, 1000).map((from) => ({ from, read: all.read(from, MAX_BYTES) }))
    const freed = kept.toReversed().findIndex(({ from, read }) => all.read(from, MAX_BYTES) !== read)
    expect(freed).toBeGreaterThan(0)
    expect(freed).toBeLessThanOrEqual(MAX_KEPT)
  })
})

/** The size of the largest map that was added to meanwhile. */
function largestMapOf(act: () => void): number {
  const { set } = Map.prototype
  let largest = 0
  Map.prototype.set = function (this: Map<unknown, unknown>, key: unknown, value: unknown) {
    const map = set.call(this, key, value)
    largest = Math.max(largest, map.size)
    return map
  }
  try {
    act()
  } finally {
    Map.prototype.set = set
  }
  return largest
}

describe('the names that a selection was asked for', () => {
  const ask = (patterns: Patterns) => () => {
    for (let n = 0; n < 2000; n += 1) patterns.matches(`user:${n}`)
  }

  it('are not remembered when it has exact names only', () => {
    const patterns = new Patterns('topics', ['user:7', 'user:8'])
    expect(largestMapOf(ask(patterns))).toBe(0)
    expect(['user:7', 'user:8', 'user:9'].map((name) => patterns.matches(name))).toEqual([true, true, false])
  })

  it('are remembered for patterns, a bounded number of them', () => {
    const patterns = new Patterns('topics', ['user:1*'])
    const largest = largestMapOf(ask(patterns))
    expect(largest).toBeGreaterThan(0)
    expect(largest).toBeLessThanOrEqual(64)
    expect(['user:17', 'user:27'].map((name) => patterns.matches(name))).toEqual([true, false])
  })
})
