import { getEventListeners } from 'node:events'
import { Readable } from 'node:stream'
import fc from 'fast-check'
import {
  batch,
  type Clock,
  conflate,
  createSSEHandler,
  debounce,
  pipe,
  type Source,
  type SSEHandler,
  type SSEHandlerOptions,
  throttle,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

/** A source that gives what a test tells it to, when it tells it to. */
class Feed<T> implements AsyncIterableIterator<T> {
  pulls = 0
  returns = 0
  readonly #settled: (IteratorResult<T, undefined> | { error: unknown })[] = []
  #wake: (() => void) | null = null

  push(...items: T[]): void {
    for (const value of items) this.#settle({ done: false, value })
  }

  end(): void {
    this.#settle({ done: true, value: undefined })
  }

  fail(error: unknown): void {
    this.#settle({ error })
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    this.pulls += 1
    for (;;) {
      const settled = this.#settled.shift()
      if (settled !== undefined && 'error' in settled) throw settled.error
      if (settled !== undefined) return settled
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.returns += 1
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #settle(settled: IteratorResult<T, undefined> | { error: unknown }): void {
    this.#settled.push(settled)
    this.#wake?.()
  }
}

/** A reader that takes only when it is told to, one item at a time, and notes when it got what. */
class Reader<T> {
  readonly items: T[] = []
  readonly times: number[] = []
  isEnded = false
  error: unknown
  #isReading = false
  #isGreedy = false

  constructor(
    readonly iterator: AsyncIterableIterator<T>,
    readonly clock: ManualClock,
  ) {}

  read(): void {
    if (this.#isReading || this.isEnded) return
    this.#isReading = true
    this.iterator.next().then(
      (result) => {
        this.#isReading = false
        if (result.done === true) {
          this.isEnded = true
          return
        }
        this.items.push(result.value)
        this.times.push(this.clock.now())
        if (this.#isGreedy) this.read()
      },
      (error) => {
        this.isEnded = true
        this.error = error
      },
    )
  }

  readAll(): this {
    this.#isGreedy = true
    this.read()
    return this
  }
}

/** Lets everything happen that needs no time to pass. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i += 1) await new Promise((resolve) => setImmediate(resolve))
}

function start<T, R>(operate: (source: Source<T>, clock: Clock) => AsyncIterableIterator<R>) {
  const clock = new ManualClock()
  const feed = new Feed<T>()
  const reader = new Reader(operate(feed, clock), clock)
  const push = async (...items: T[]) => {
    feed.push(...items)
    await settle()
  }
  const pass = async (ms: number) => {
    clock.advance(ms)
    await settle()
  }
  return { clock, feed, reader, push, pass }
}

describe('throttle', () => {
  const throttled = () =>
    start<number, number>((source, clock) => throttle(source, { intervalMs: 100, clock }))

  it('lets the first item through at once, then the latest of each interval', async () => {
    const { reader, push, pass } = throttled()
    reader.readAll()
    await push(1)
    expect(reader.items).toEqual([1])
    await push(2, 3)
    await pass(99)
    expect(reader.items).toEqual([1])
    await pass(1)
    expect(reader.items).toEqual([1, 3])
    await push(4)
    await pass(50)
    await push(5)
    await pass(50)
    expect(reader.items).toEqual([1, 3, 5])
    expect(reader.times).toEqual([0, 100, 200])
  })

  it('lets an item through at once after an interval without any', async () => {
    const { reader, push, pass } = throttled()
    reader.readAll()
    await push(1)
    await pass(250)
    expect(reader.items).toEqual([1])
    await push(2)
    expect(reader.times).toEqual([0, 250])
  })

  it('gives a slow reader the latest item', async () => {
    const { feed, reader, push, pass } = throttled()
    reader.read()
    await push(1)
    await push(2, 3)
    await pass(1000)
    await push(4)
    expect(feed.pulls).toBe(5)
    expect(reader.items).toEqual([1])
    reader.read()
    await settle()
    expect(reader.items).toEqual([1, 4])
  })

  it('lets the last item through when the source ends within an interval, and leaves no timer', async () => {
    const { clock, feed, reader, push } = throttled()
    reader.readAll()
    await push(1, 2, 3)
    feed.end()
    await settle()
    expect(reader).toMatchObject({ items: [1, 3], isEnded: true, error: undefined })
    expect(clock.pending).toBe(0)
  })
})

describe('debounce', () => {
  const debounced = (maxWaitMs?: number) =>
    start<number, number>((source, clock) =>
      debounce(source, { waitMs: 100, clock, ...(maxWaitMs !== undefined && { maxWaitMs }) }),
    )

  it('lets the latest item through after a silence', async () => {
    const { clock, reader, push, pass } = debounced()
    reader.readAll()
    await push(1)
    await pass(99)
    await push(2)
    await pass(99)
    expect(reader.items).toEqual([])
    await pass(1)
    expect(reader.items).toEqual([2])
    await pass(1000)
    expect(reader.items).toEqual([2])
    await push(3)
    await pass(100)
    expect(reader.items).toEqual([2, 3])
    expect(clock.pending).toBe(0)
  })

  it('lets nothing through without a silence, for ever', async () => {
    const { clock, reader, push, pass } = debounced()
    reader.readAll()
    for (let n = 0; n < 100; n += 1) {
      await push(n)
      await pass(99)
    }
    expect(reader.items).toEqual([])
    expect(clock.pending).toBe(1)
  })

  it('lets the latest item through after maxWaitMs without a silence', async () => {
    const { reader, push, pass } = debounced(250)
    reader.readAll()
    for (let n = 0; n < 12; n += 1) {
      await push(n)
      await pass(50)
    }
    // 5 is the first to wait after 4 was let through, at 250.
    expect(reader.items).toEqual([4, 9])
    expect(reader.times).toEqual([250, 500])
  })

  it('gives a slow reader the latest item', async () => {
    const { reader, push, pass } = debounced()
    reader.read()
    await push(1)
    await pass(100)
    await push(2)
    await pass(100)
    await push(3)
    reader.read()
    await settle()
    expect(reader.items).toEqual([1, 3])
  })

  it('waits for a new silence after a slow reader has taken what was due', async () => {
    const { clock, reader, push, pass } = debounced()
    reader.read()
    await push(1)
    await pass(100)
    await push(2)
    await pass(100)
    await push(3)
    reader.readAll()
    await settle()
    expect(reader.items).toEqual([1, 3])
    expect(clock.pending).toBe(0)
    await pass(100)
    await push(4)
    expect(reader.items).toEqual([1, 3])
    await pass(100)
    expect(reader.items).toEqual([1, 3, 4])
  })

  it('lets the last item through when the source ends, and leaves no timer', async () => {
    const { clock, feed, reader, push } = debounced(250)
    reader.readAll()
    await push(1, 2)
    expect(clock.pending).toBe(2)
    feed.end()
    await settle()
    expect(reader).toMatchObject({ items: [2], isEnded: true, error: undefined })
    expect(clock.pending).toBe(0)
  })
})

describe('batch', () => {
  const batched = () =>
    start<number, number[]>((source, clock) => batch(source, { maxItems: 3, maxWaitMs: 100, clock }))

  it('gives a batch when it is full', async () => {
    const { reader, push } = batched()
    reader.readAll()
    await push(1, 2)
    expect(reader.items).toEqual([])
    await push(3, 4, 5, 6, 7)
    expect(reader.items).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ])
  })

  it('gives a batch when its first item has waited long enough', async () => {
    const { clock, reader, push, pass } = batched()
    reader.readAll()
    await push(1)
    await pass(99)
    await push(2)
    expect(reader.items).toEqual([])
    await pass(1)
    expect(reader.items).toEqual([[1, 2]])
    expect(clock.pending).toBe(0)
    await pass(1000)
    await push(3)
    expect(reader.items).toEqual([[1, 2]])
    await pass(100)
    expect(reader.items).toEqual([[1, 2], [3]])
  })

  it('counts the wait of a batch from its own first item', async () => {
    const { reader, push, pass } = batched()
    reader.readAll()
    await push(1)
    await pass(90)
    await push(2, 3, 4)
    await pass(99)
    expect(reader.items).toEqual([[1, 2, 3]])
    await pass(1)
    expect(reader.items).toEqual([[1, 2, 3], [4]])
  })

  it('fills up to its limit while the reader is busy, and then stops reading the source', async () => {
    const { feed, reader, push, pass } = batched()
    reader.read()
    await push(1)
    await pass(100)
    await push(2)
    await pass(100)
    await push(3, 4, 5, 6)
    expect(feed.pulls).toBe(4)
    reader.read()
    await settle()
    expect(reader.items).toEqual([[1], [2, 3, 4]])
    expect(feed.pulls).toBe(7)
  })

  it('gives what is left when the source ends, and leaves no timer', async () => {
    const { clock, feed, reader, push } = batched()
    reader.readAll()
    await push(1, 2, 3, 4)
    expect(clock.pending).toBe(1)
    feed.end()
    await settle()
    expect(reader).toMatchObject({ items: [[1, 2, 3], [4]], isEnded: true, error: undefined })
    expect(clock.pending).toBe(0)
  })

  it('gives no empty batch', async () => {
    const { feed, reader, push, pass } = batched()
    reader.readAll()
    await pass(1000)
    await push(1, 2, 3)
    await pass(1000)
    feed.end()
    await settle()
    expect(reader).toMatchObject({ items: [[1, 2, 3]], isEnded: true })
  })
})

describe('conflate', () => {
  interface Quote {
    of: string
    n: number
  }

  const conflated = (maxKeys?: number) =>
    start<Quote, Quote>((source) =>
      conflate(source, { key: ({ of }) => of, ...(maxKeys !== undefined && { maxKeys }) }),
    )

  function quotes(text: string): Quote[] {
    return text.split(' ').map((quote) => ({ of: quote.charAt(0), n: Number(quote.slice(1)) }))
  }

  it('lets everything through to a reader that keeps up', async () => {
    const { reader, push } = conflated()
    reader.readAll()
    for (const quote of quotes('a1 a2 b1 a3')) await push(quote)
    expect(reader.items).toEqual(quotes('a1 a2 b1 a3'))
  })

  it('keeps the latest of each key for a busy reader, in the order in which keys began to wait', async () => {
    const { feed, reader, push } = conflated()
    reader.read()
    await push(...quotes('a1'))
    await push(...quotes('b1 a2 b2 c1 b3 a3'))
    feed.end()
    reader.readAll()
    await settle()
    expect(reader.items).toEqual(quotes('a1 b3 a3 c1'))
    expect(reader.isEnded).toBe(true)
  })

  it('puts a key that was taken at the end of the line, so that it starves no other', async () => {
    const { reader, push } = conflated()
    reader.read()
    await push(...quotes('a1'))
    await push(...quotes('a2 b1'))
    reader.read()
    await settle()
    await push(...quotes('a3'))
    reader.readAll()
    await settle()
    expect(reader.items).toEqual(quotes('a1 a2 b1 a3'))
  })

  it('stops reading the source while as many keys wait as it may keep', async () => {
    const { feed, reader, push } = conflated(2)
    reader.read()
    await push(...quotes('a1'))
    await push(...quotes('a2 a3 b1 c1 d1'))
    expect(feed.pulls).toBe(4)
    reader.read()
    await settle()
    expect(feed.pulls).toBe(5)
    reader.readAll()
    await settle()
    expect(reader.items).toEqual(quotes('a1 a3 b1 c1 d1'))
  })

  it('compares keys of any kind as a Map does', async () => {
    const key = {}
    const { feed, reader, push } = start<[unknown, number], [unknown, number]>((source) =>
      conflate(source, { key: ([of]) => of }),
    )
    reader.read()
    await push(['first', 0])
    await push([key, 1], [Number.NaN, 2], [{}, 3], [key, 4], [Number.NaN, 5])
    feed.end()
    reader.readAll()
    await settle()
    expect(reader.items.map(([, n]) => n)).toEqual([0, 4, 5, 3])
  })

  it('rejects with what key throws, after what waited before, and tells the source', async () => {
    const failure = new Error('no key')
    const { feed, reader, push } = start<number, number>((source) =>
      conflate(source, {
        key(n) {
          if (n === 3) throw failure
          return n
        },
      }),
    )
    reader.readAll()
    await push(1, 2, 3, 4)
    expect(reader).toMatchObject({ items: [1, 2], isEnded: true, error: failure })
    expect(feed).toMatchObject({ pulls: 3, returns: 1 })
  })
})

/** Each operator, so set up that items wait in it and its timers run. */
const operators: {
  name: string
  operate: (source: Source<number>, clock: Clock) => AsyncIterableIterator<unknown>
}[] = [
  { name: 'throttle', operate: (source, clock) => throttle(source, { intervalMs: 100, clock }) },
  { name: 'debounce', operate: (source, clock) => debounce(source, { waitMs: 100, maxWaitMs: 1000, clock }) },
  { name: 'batch', operate: (source, clock) => batch(source, { maxItems: 10, maxWaitMs: 100, clock }) },
  { name: 'conflate', operate: (source) => conflate(source, { key: (n) => n % 2 }) },
]

describe.each(operators)('every operator: $name', ({ operate }) => {
  const begin = () => start<number, unknown>(operate)

  it('reads nothing before it is read itself', async () => {
    const { feed, reader, push } = begin()
    await push(1)
    expect(feed.pulls).toBe(0)
    reader.read()
    await settle()
    expect(feed.pulls).toBeGreaterThan(0)
  })

  it('ends with its source, and stays ended', async () => {
    const { clock, feed, reader } = begin()
    feed.end()
    reader.readAll()
    await settle()
    expect(reader).toMatchObject({ items: [], isEnded: true })
    expect(await reader.iterator.next()).toEqual({ done: true, value: undefined })
    expect(await reader.iterator.next()).toEqual({ done: true, value: undefined })
    expect(feed).toMatchObject({ pulls: 1, returns: 0 })
    expect(clock.pending).toBe(0)
  })

  it('tells an error of the source after what was held back, once, and leaves no timer', async () => {
    const { clock, feed, reader, push } = begin()
    const failure = new Error('of the source')
    reader.readAll()
    await push(1, 2, 4)
    feed.fail(failure)
    await settle()
    expect(reader).toMatchObject({ isEnded: true, error: failure })
    expect([reader.items.at(-1)].flat().at(-1)).toBe(4)
    expect(await reader.iterator.next()).toEqual({ done: true, value: undefined })
    expect(clock.pending).toBe(0)
  })

  it('tells the source when its reader leaves, forgets what it holds and leaves no timer', async () => {
    const { clock, feed, reader, push } = begin()
    reader.read()
    await push(1)
    await push(2, 3)
    expect(await reader.iterator.return?.()).toEqual({ done: true, value: undefined })
    await settle()
    expect(feed.returns).toBe(1)
    expect(clock.pending).toBe(0)
    expect(await reader.iterator.next()).toEqual({ done: true, value: undefined })
    const { pulls } = feed
    await push(4)
    expect(feed.pulls).toBe(pulls)
    expect(clock.pending).toBe(0)
  })

  it('ends a read that waits when its reader leaves, though the source is stuck', async () => {
    const { feed, reader } = begin()
    reader.read()
    await settle()
    await reader.iterator.return?.()
    await settle()
    expect(reader).toMatchObject({ items: [], isEnded: true, error: undefined })
    expect(feed.returns).toBe(1)
  })

  it('tells the source once when its reader leaves twice', async () => {
    const { feed, reader } = begin()
    reader.read()
    await settle()
    await Promise.all([reader.iterator.return?.(), reader.iterator.return?.()])
    await reader.iterator.return?.()
    await settle()
    expect(feed.returns).toBe(1)
  })

  it('tells the source when a loop over it breaks', async () => {
    const { clock, feed, reader, push, pass } = begin()
    const seen: unknown[] = []
    const loop = (async () => {
      for await (const item of reader.iterator) {
        seen.push(item)
        break
      }
    })()
    await push(1)
    await pass(100)
    await loop
    await settle()
    expect(seen.flat()).toEqual([1])
    expect(feed.returns).toBe(1)
    expect(clock.pending).toBe(0)
  })

  it('destroys a stream that it was made of when its reader leaves before it has read', async () => {
    const stream = new Readable({ read() {} })
    await operate(stream, new ManualClock()).return?.()
    expect(stream.destroyed).toBe(true)
  })

  it('serves reads that wait side by side in order, and ends them all', async () => {
    const { clock, feed, reader, push, pass } = begin()
    const reads = [1, 2, 3].map(() => reader.iterator.next())
    let settled = 0
    for (const read of reads) void read.then(() => (settled += 1))
    await push(1)
    await pass(100)
    feed.end()
    await settle()
    expect(settled).toBe(3)
    const results = await Promise.all(reads)
    expect(results.map(({ done }) => done)).toEqual([false, true, true])
    expect(clock.pending).toBe(0)
  })

  it('lets timers and sockets have their turn, though its source never waits', async () => {
    const clock = new ManualClock()
    let isTold = false
    function* endless() {
      try {
        for (let n = 1; ; n += 1) yield n
      } finally {
        isTold = true
      }
    }
    const reader = new Reader(operate(endless(), clock), clock)
    reader.read()
    await settle()
    clock.advance(1000)
    await settle()
    expect(reader.items).toHaveLength(1)
    await reader.iterator.return?.()
    await settle()
    expect(isTold).toBe(true)
    expect(clock.pending).toBe(0)
  })

  it('rejects the first read of what is no source', async () => {
    const iterator = operate('text' as never, new ManualClock())
    await expect(iterator.next()).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_SOURCE' })
  })

  it('takes sources of every kind', async () => {
    const web = () =>
      new ReadableStream<number>({
        start(controller) {
          controller.enqueue(2)
          controller.enqueue(4)
          controller.close()
        },
      })
    for (const source of [[2, 4], Readable.from([2, 4]), web()]) {
      const clock = new ManualClock()
      const reader = new Reader(operate(source as Source<number>, clock), clock).readAll()
      await until(() => reader.isEnded)
      expect([reader.items.at(-1)].flat().at(-1)).toBe(4)
    }
  })
})

describe('an operator refuses', () => {
  it.each([
    ['throttle without intervalMs', () => throttle([], {} as never)],
    ['throttle without options', () => throttle([], undefined as never)],
    ['throttle with intervalMs 0', () => throttle([], { intervalMs: 0 })],
    ['throttle with an interval that no timer can keep', () => throttle([], { intervalMs: 2 ** 31 })],
    ['throttle with an unknown option', () => throttle([], { intervalMs: 1, leading: true } as never)],
    ['debounce without waitMs', () => debounce([], {} as never)],
    ['debounce without options', () => debounce([], undefined as never)],
    ['debounce with waitMs -1', () => debounce([], { waitMs: -1 })],
    ['debounce with maxWaitMs 0', () => debounce([], { waitMs: 1, maxWaitMs: 0 })],
    ['batch with maxItems 0', () => batch([], { maxItems: 0 })],
    ['batch with maxItems Infinity', () => batch([], { maxItems: Number.POSITIVE_INFINITY })],
    ['batch with maxWaitMs Infinity', () => batch([], { maxWaitMs: Number.POSITIVE_INFINITY })],
    ['conflate without key', () => conflate([], {} as never)],
    ['conflate without options', () => conflate([], undefined as never)],
    ['conflate with a key that is no function', () => conflate([], { key: 'id' } as never)],
    ['conflate with maxKeys 0', () => conflate([], { key: String, maxKeys: 0 })],
  ])('%s', (_what, operate) => {
    expect(operate).toThrow(expect.objectContaining({ name: 'SSEError', code: 'ERR_SSE_INVALID_OPTION' }))
  })
})

describe('at any timing of source, reader and clock', () => {
  type Step = { push: number } | { pass: number } | { read: true }

  const steps: fc.Arbitrary<Step[]> = fc.array(
    fc.oneof(
      { arbitrary: fc.record({ push: fc.nat(4) }), weight: 3 },
      { arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 120 }) }), weight: 2 },
      { arbitrary: fc.constant<Step>({ read: true }), weight: 3 },
    ),
    { maxLength: 40 },
  )

  interface Item {
    key: number
    n: number
  }

  /** Runs the steps, ends the source, reads what is left, and says what went in and came out, and when. */
  async function run<R>(
    script: Step[],
    isEager: boolean,
    operate: (source: Source<Item>, clock: Clock) => AsyncIterableIterator<R>,
    look: (state: { feed: Feed<Item>; reader: Reader<R>; given: Item[] }) => void = () => {},
  ) {
    const { clock, feed, reader } = start<Item, R>(operate)
    const given: Item[] = []
    const givenAt: number[] = []
    if (isEager) reader.readAll()
    for (const step of script) {
      if ('push' in step) {
        const item = { key: step.push, n: given.length }
        given.push(item)
        givenAt.push(clock.now())
        feed.push(item)
      } else if ('pass' in step) clock.advance(step.pass)
      else reader.read()
      await settle()
      look({ feed, reader, given })
    }
    const beforeEnd = reader.items.length
    feed.end()
    reader.readAll()
    await settle()
    expect(reader).toMatchObject({ isEnded: true, error: undefined })
    expect(clock.pending).toBe(0)
    return { given, givenAt, taken: reader.items, takenAt: reader.times, beforeEnd }
  }

  function expectSubsequenceWithLast(taken: Item[], given: Item[]): void {
    const order = taken.map(({ n }) => n)
    expect(order).toEqual([...new Set(order)].sort((a, b) => a - b))
    expect(taken.at(-1)).toEqual(given.at(-1))
  }

  it('batch drops nothing, keeps the order, and never holds more than a batch', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.boolean(),
        fc.integer({ min: 1, max: 5 }),
        async (script, isEager, maxItems) => {
          const { given, taken } = await run(
            script,
            isEager,
            (source, clock) => batch(source, { maxItems, maxWaitMs: 100, clock }),
            ({ feed, reader }) =>
              expect(feed.pulls - reader.items.flat().length).toBeLessThanOrEqual(maxItems + 1),
          )
          expect(taken.flat()).toEqual(given)
          for (const { length } of taken) {
            expect(length).toBeGreaterThan(0)
            expect(length).toBeLessThanOrEqual(maxItems)
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('conflate gives the last item of each key, keeps the order per key, and holds no key too many', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.boolean(),
        fc.integer({ min: 1, max: 3 }),
        async (script, isEager, maxKeys) => {
          const { given, taken } = await run(
            script,
            isEager,
            (source) => conflate(source, { key: ({ key }) => key, maxKeys }),
            ({ feed, reader, given }) => {
              const pulled = new Map(given.slice(0, feed.pulls).map(({ key, n }) => [key, n]))
              for (const { key, n } of reader.items) if (pulled.get(key) === n) pulled.delete(key)
              expect(pulled.size).toBeLessThanOrEqual(maxKeys)
            },
          )
          for (const key of new Set(given.map((item) => item.key))) {
            const ofKey = (items: Item[]) => items.filter((item) => item.key === key)
            expectSubsequenceWithLast(ofKey(taken), ofKey(given))
          }
        },
      ),
      { numRuns: 200 },
    )
  })

  it('throttle gives a subsequence that ends with the last item, and keeps its distance', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.boolean(), async (script, isEager) => {
        const { given, taken, takenAt, beforeEnd } = await run(script, isEager, (source, clock) =>
          throttle(source, { intervalMs: 100, clock }),
        )
        expectSubsequenceWithLast(taken, given)
        const times = takenAt.slice(0, beforeEnd)
        for (const [index, at] of times.entries()) {
          if (index > 0) expect(at - (times[index - 1] as number)).toBeGreaterThanOrEqual(100)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('debounce gives a subsequence that ends with the last item, each after a silence', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (script) => {
        const { given, givenAt, taken, takenAt, beforeEnd } = await run(script, true, (source, clock) =>
          debounce(source, { waitMs: 100, clock }),
        )
        expectSubsequenceWithLast(taken, given)
        for (const [index, { n }] of taken.slice(0, beforeEnd).entries()) {
          const at = takenAt[index] as number
          expect(at - (givenAt[n] as number)).toBeGreaterThanOrEqual(100)
          // Nothing came in between.
          expect(givenAt[n + 1] ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(at)
        }
      }),
      { numRuns: 200 },
    )
  })

  it('debounce with maxWaitMs lets nothing wait longer than that', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (script) => {
        const { given, givenAt, taken, takenAt, beforeEnd } = await run(script, true, (source, clock) =>
          debounce(source, { waitMs: 100, maxWaitMs: 150, clock }),
        )
        expectSubsequenceWithLast(taken, given)
        let firstWaiting = 0
        for (const [index, { n }] of taken.slice(0, beforeEnd).entries()) {
          const waited = (takenAt[index] as number) - (givenAt[firstWaiting] as number)
          // The clock passes up to 120 ms in one step, within which nobody looks.
          expect(waited).toBeLessThanOrEqual(150 + 120)
          firstWaiting = n + 1
        }
      }),
      { numRuns: 200 },
    )
  })
})

describe('together with pipe, over a real socket', () => {
  async function open(options: SSEHandlerOptions = {}): Promise<{ sse: SSEHandler; client: TestClient }> {
    const opened: SSEHandler[] = []
    const { url } = await serve((req, res) =>
      opened.push(createSSEHandler(req, res, { firstEvent: false, ...options })),
    )
    const client = await connect(url)
    return { sse: opened[0] as SSEHandler, client }
  }

  it('throttle sends one event per interval, and the last', async () => {
    const clock = new ManualClock()
    const { sse, client } = await open()
    const feed = new Feed<number>()
    const piped = pipe(throttle(feed, { intervalMs: 100, clock }), sse)
    feed.push(1)
    await client.until((events) => events.length === 1)
    feed.push(2, 3)
    await until(() => feed.pulls === 4)
    clock.advance(100)
    await client.until((events) => events.length === 2)
    feed.push(4, 5)
    feed.end()
    expect(await piped).toEqual({ outcome: 'ended', events: 3 })
    await client.until((events) => events.length === 3)
    expect(client.events.map(({ data }) => data)).toEqual(['1', '3', '5'])
  })

  it('debounce sends the latest after a silence', async () => {
    const clock = new ManualClock()
    const { sse, client } = await open()
    const feed = new Feed<number>()
    const piped = pipe(debounce(feed, { waitMs: 100, clock }), sse)
    feed.push(1, 2)
    await until(() => feed.pulls === 3)
    clock.advance(100)
    await client.until((events) => events.length === 1)
    feed.end()
    expect(await piped).toEqual({ outcome: 'ended', events: 1 })
    expect(client.events[0]?.data).toBe('2')
  })

  it('batch sends arrays that hold everything, to a client that pauses', async () => {
    const clock = new ManualClock()
    const { sse, client } = await open({ maxEvents: 2 })
    client.pause()
    const text = 'x'.repeat(10_000)
    const count = 2000
    let pulled = 0
    function* source() {
      for (; pulled < count; ) yield { n: pulled++, text }
    }
    const piped = pipe(batch(source(), { maxItems: 10, clock }), sse, { event: 'batch' })
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
    const { eventsSent, queuedEvents } = sse.stats()
    // A batch that fills, besides what was accepted.
    expect(pulled).toBeLessThanOrEqual(10 * (eventsSent + queuedEvents + 1))
    expect(pulled).toBeLessThan(count)
    client.resume()
    expect(await piped).toEqual({ outcome: 'ended', events: count / 10 })
    await client.until((events) => events.length === count / 10)
    const received = client.events.flatMap(({ data }) => JSON.parse(data) as { n: number }[])
    expect(received.map(({ n }) => n)).toEqual([...Array(count).keys()])
  })

  it('conflate sends a client that pauses the latest of each key, when it reads again', async () => {
    const { sse, client } = await open({ maxEvents: 1 })
    client.pause()
    const feed = new Feed<{ of: string; n: number; text: string }>()
    const text = 'x'.repeat(100_000)
    const piped = pipe(conflate(feed, { key: ({ of }) => of }), sse)
    let n = 0
    while (!(sse.phase === 'blocked' && sse.stats().waiters === 1)) {
      feed.push({ of: 'filling', n: n++, text })
      await settle()
    }
    const accepted = sse.stats().eventsSent + sse.stats().queuedEvents
    for (let i = 0; i < 1000; i += 1) feed.push({ of: i % 2 === 0 ? 'even' : 'odd', n: i, text: '' })
    feed.end()
    await until(() => feed.pulls > n + 1000)
    client.resume()
    const { events, outcome } = await piped
    expect(outcome).toBe('ended')
    // What was accepted, the one that waited under the key of the filling, and one of each new key.
    expect(events).toBeLessThanOrEqual(accepted + 10)
    await client.until((received) => received.length === events)
    const received = client.events.map(({ data }) => JSON.parse(data) as { of: string; n: number })
    expect(received.filter(({ of }) => of === 'even').at(-1)?.n).toBe(998)
    expect(received.filter(({ of }) => of === 'odd').at(-1)?.n).toBe(999)
    expect(received.filter(({ of }) => of === 'filling').at(-1)?.n).toBe(n - 1)
  })

  it.each(operators)(
    '$name tells its source when the client leaves, and leaves no timer',
    async ({ operate }) => {
      const clock = new ManualClock()
      const { sse, client } = await open()
      const feed = new Feed<number>()
      const piped = pipe(operate(feed, clock), sse)
      feed.push(1, 2, 3)
      await until(() => feed.pulls === 4)
      client.leave()
      expect((await piped).outcome).toBe('closed')
      await until(() => feed.returns === 1)
      expect(clock.pending).toBe(0)
      expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0 })
      expect(getEventListeners(sse.signal, 'abort')).toHaveLength(0)
    },
  )
})
