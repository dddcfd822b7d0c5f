import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ring } from '../../src/buffer/ring.js'
import { until } from '../support/until.js'

interface Model {
  capacity: number
  items: number[]
}

type RingCommand = fc.Command<Model, Ring<number>>

function command(name: string, run: (model: Model, ring: Ring<number>) => void): RingCommand {
  return { check: () => true, run, toString: () => name }
}

function push(item: number, times: number): RingCommand {
  return command(`push(${item}) × ${times}`, (model, ring) => {
    for (let i = 0; i < times; i += 1) {
      const fits = model.items.length < model.capacity
      if (fits) model.items.push(item + i)
      expect(ring.push(item + i)).toBe(fits)
    }
  })
}

function shift(times: number): RingCommand {
  return command(`shift() × ${times}`, (model, ring) => {
    for (let i = 0; i < times; i += 1) expect(ring.shift()).toBe(model.items.shift())
  })
}

const readAll = command('read all', (model, ring) => {
  expect(ring.length).toBe(model.items.length)
  expect(ring.length).toBeLessThanOrEqual(ring.capacity)
  expect(model.items.map((_, index) => ring.at(index))).toEqual(model.items)
})

function readAt(index: number): RingCommand {
  return command(`at(${index})`, (model, ring) => {
    expect(ring.at(index)).toBe(model.items[index])
  })
}

const clear = command('clear()', (model, ring) => {
  model.items = []
  ring.clear()
})

const times = fc.integer({ min: 1, max: 12 })
const commands = fc.commands(
  [
    fc.tuple(fc.nat(), times).map(([item, count]) => push(item, count)),
    times.map(shift),
    fc.integer({ min: -3, max: 80 }).map(readAt),
    fc.constant(readAll),
    // Cleared seldom, or it would never get long.
    fc.integer({ min: 0, max: 9 }).map((dice) => (dice === 0 ? clear : readAll)),
  ],
  { maxCommands: 100, size: 'max' },
)
const capacities = fc.oneof(
  fc.integer({ min: 1, max: 5 }),
  fc.integer({ min: 1, max: 70 }),
  fc.constant(Number.POSITIVE_INFINITY),
)

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Pushes an object that nothing but the ring holds. */
function pushWeakly(ring: Ring<object>): WeakRef<object> {
  const item = {}
  ring.push(item)
  return new WeakRef(item)
}

describe('a ring', () => {
  it('does what an array of bounded length does', () => {
    fc.assert(
      fc.property(capacities, commands, (capacity, history) => {
        const ring = new Ring<number>(capacity)
        const model: Model = { capacity, items: [] }
        fc.modelRun(() => ({ model, real: ring }), history)
        readAll.run(model, ring)
        shift(model.items.length + 1).run(model, ring)
      }),
      { numRuns: 500 },
    )
  })

  it('refuses one item more than its capacity, and changes nothing', () => {
    const ring = new Ring<string>(3)
    expect(['a', 'b', 'c', 'd'].map((item) => ring.push(item))).toEqual([true, true, true, false])
    expect([ring.length, ring.at(0), ring.at(2), ring.at(3)]).toEqual([3, 'a', 'c', undefined])
  })

  it('takes one item more for each that is removed', () => {
    const ring = new Ring<number>(1)
    for (let item = 0; item < 100; item += 1) {
      expect(ring.push(item)).toBe(true)
      expect(ring.push(-1)).toBe(false)
      expect(ring.shift()).toBe(item)
    }
    expect(ring.shift()).toBeUndefined()
  })

  it('keeps the order when it grows while it is wrapped around', () => {
    const ring = new Ring<number>(100)
    for (let item = 0; item < 4; item += 1) ring.push(item)
    for (let item = 0; item < 3; item += 1) ring.shift()
    for (let item = 4; item < 40; item += 1) ring.push(item)
    const expected = Array.from({ length: 37 }, (_, index) => index + 3)
    expect(expected.map((_, index) => ring.at(index))).toEqual(expected)
    expect(expected.map(() => ring.shift())).toEqual(expected)
  })

  it('has nothing outside of what it holds', () => {
    const ring = new Ring<string>(8)
    expect([ring.at(0), ring.at(-1), ring.at(Number.POSITIVE_INFINITY)]).toEqual([
      undefined,
      undefined,
      undefined,
    ])
    ring.push('a')
    ring.push('b')
    ring.shift()
    expect([ring.at(-1), ring.at(0), ring.at(1)]).toEqual([undefined, 'b', undefined])
  })

  it('can be used again after it was cleared', () => {
    const ring = new Ring<number>(2)
    ring.push(1)
    ring.push(2)
    ring.clear()
    expect([ring.length, ring.at(0), ring.shift()]).toEqual([0, undefined, undefined])
    expect([ring.push(3), ring.push(4), ring.push(5)]).toEqual([true, true, false])
    expect([ring.shift(), ring.shift()]).toEqual([3, 4])
  })

  it.each([
    ['removed', (ring: Ring<object>) => void ring.shift()],
    ['cleared', (ring: Ring<object>) => ring.clear()],
  ])('holds no reference to an item that was %s', async (_, remove) => {
    const ring = new Ring<object>(4)
    const item = pushWeakly(ring)
    remove(ring)
    await until(() => {
      collectGarbage()
      return item.deref() === undefined
    }, 'the item is collected')
    expect(ring.length).toBe(0)
  })
})
