import { getEventListeners } from 'node:events'
import fc from 'fast-check'
import {
  createProducerPool,
  createSSEHandler,
  type ProducerPool,
  type ProducerPoolOptions,
  pipe,
  type SSEHandler,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect } from '../support/client.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

/** A producer that runs until the test says how it ends. */
class Controlled<T = string> {
  signal: AbortSignal | null = null
  end: (value: T) => void = () => {}
  fail: (error: unknown) => void = () => {}

  readonly producer = (signal: AbortSignal): Promise<T> => {
    this.signal = signal
    return new Promise<T>((resolve, reject) => {
      this.end = resolve
      this.fail = reject
    })
  }

  get isStarted(): boolean {
    return this.signal !== null
  }
}

function countsOf({ running, waiting }: ProducerPool): { running: number; waiting: number } {
  return { running, waiting }
}

/** A producer that never ends, whatever its signal says. */
function neverEnds(): Promise<never> {
  return new Promise(() => {})
}

describe('a pool', () => {
  it('runs producers up to its concurrency, and starts the next when one ends', async () => {
    const pool = createProducerPool({ concurrency: 2 })
    const all = [0, 1, 2, 3].map(() => new Controlled())
    const results = all.map(({ producer }) => pool.run(producer))
    await until(() => pool.running === 2)
    expect(all.map(({ isStarted }) => isStarted)).toEqual([true, true, false, false])
    expect(pool.waiting).toBe(2)
    all[1]?.end('one')
    expect(await results[1]).toEqual({ status: 'completed', value: 'one' })
    await until(() => all[2]?.isStarted)
    expect(countsOf(pool)).toEqual({ running: 2, waiting: 1 })
    for (const { end } of [all[0], all[2]] as Controlled[]) end('others')
    await until(() => all[3]?.isStarted)
    all[3]?.end('last')
    await Promise.all(results)
    await until(() => pool.running === 0)
    expect(pool.waiting).toBe(0)
  })

  it('runs 16 at once unless told otherwise', async () => {
    const pool = createProducerPool()
    const all = Array.from({ length: 17 }, () => new Controlled())
    const results = all.map(({ producer }) => pool.run(producer))
    await until(() => pool.running === 16)
    expect(pool.waiting).toBe(1)
    for (const { end } of all.slice(0, 16)) end('ended')
    await until(() => all[16]?.isStarted)
    all[16]?.end('ended')
    expect(await Promise.all(results)).toHaveLength(17)
  })

  it('is first come, first served, and never above its concurrency, whatever the producers do', async () => {
    const ending = fc.record({ turns: fc.nat(3), throws: fc.boolean(), isAsync: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(ending, { maxLength: 20 }),
        async (n, endings) => {
          const pool = createProducerPool({ concurrency: n })
          const started: number[] = []
          let running = 0
          let most = 0
          const results = await Promise.all(
            endings.map((how, index) =>
              pool.run(() => {
                started.push(index)
                running += 1
                most = Math.max(most, running)
                const finish = () => {
                  running -= 1
                  if (how.throws) throw index
                  return index
                }
                if (!how.isAsync) return finish()
                return turnsOf(how.turns).then(finish)
              }),
            ),
          )
          expect(started).toEqual([...endings.keys()])
          expect(most).toBeLessThanOrEqual(n)
          expect(results).toEqual(
            endings.map(({ throws }, index) =>
              throws ? { status: 'failed', error: index } : { status: 'completed', value: index },
            ),
          )
        },
      ),
      { numRuns: 100 },
    )
  })

  it('keeps what one throws, at once or later, from all others', async () => {
    const pool = createProducerPool({ concurrency: 2 })
    const error = new Error('of one')
    const steady = new Controlled()
    const results = [
      pool.run(steady.producer),
      pool.run(() => {
        throw error
      }),
      pool.run(() => Promise.reject(error)),
      pool.run(async () => 'fine'),
    ]
    expect(await results[1]).toEqual({ status: 'failed', error })
    expect(await results[2]).toEqual({ status: 'failed', error })
    expect(await results[3]).toEqual({ status: 'completed', value: 'fine' })
    expect(steady.signal?.aborted).toBe(false)
    steady.end('steady')
    expect(await results[0]).toEqual({ status: 'completed', value: 'steady' })
  })

  it('aborts the signal of the producer whose own signal aborts, and of no other', async () => {
    const pool = createProducerPool()
    const stop = new AbortController()
    const [stopped, other] = [new Controlled(), new Controlled()]
    const results = [pool.run(stopped.producer, { signal: stop.signal }), pool.run(other.producer)]
    await until(() => other.isStarted)
    stop.abort('enough')
    expect(stopped.signal?.reason).toBe('enough')
    expect(other.signal?.aborted).toBe(false)
    stopped.fail(stop.signal.reason)
    expect(await results[0]).toEqual({ status: 'cancelled' })
    other.end('other')
    expect(await results[1]).toEqual({ status: 'completed', value: 'other' })
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0)
  })

  it('calls a producer completed that came to its end in spite of its signal', async () => {
    const pool = createProducerPool()
    const stop = new AbortController()
    const controlled = new Controlled()
    const result = pool.run(controlled.producer, { signal: stop.signal })
    await until(() => controlled.isStarted)
    stop.abort()
    controlled.end('all the same')
    expect(await result).toEqual({ status: 'completed', value: 'all the same' })
  })

  it('keeps the place of a producer that ignores its signal until it ends', async () => {
    const pool = createProducerPool({ concurrency: 1 })
    const stop = new AbortController()
    const [deaf, next] = [new Controlled(), new Controlled()]
    const results = [pool.run(deaf.producer, { signal: stop.signal }), pool.run(next.producer)]
    await until(() => deaf.isStarted)
    stop.abort()
    await turnsOf(5)
    expect(next.isStarted).toBe(false)
    expect(countsOf(pool)).toEqual({ running: 1, waiting: 1 })
    deaf.end('at last')
    await until(() => next.isStarted)
    next.end('next')
    expect(await results[1]).toEqual({ status: 'completed', value: 'next' })
  })

  it('never starts a producer whose signal has aborted already', async () => {
    const pool = createProducerPool()
    const controlled = new Controlled()
    const signal = AbortSignal.abort()
    expect(await pool.run(controlled.producer, { signal })).toEqual({ status: 'cancelled' })
    expect(controlled.isStarted).toBe(false)
    expect(pool.running).toBe(0)
  })

  it('runs many at once without a warning of Node that listeners leak', async () => {
    const warnings: unknown[] = []
    const note = (warning: Error) => void warnings.push(warning.message)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const pool = createProducerPool({ concurrency: 20 })
    const { signal } = new AbortController()
    await Promise.all(Array.from({ length: 40 }, () => pool.run(() => turnsOf(1), { signal })))
    expect(warnings).toEqual([])
  })

  it('leaves no listener on the signal of a producer that has ended', async () => {
    const pool = createProducerPool({ concurrency: 1 })
    const { signal } = new AbortController()
    const fail = () => Promise.reject(new Error('of one'))
    await Promise.all([pool.run(() => 'ended', { signal }), pool.run(fail, { signal })])
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })
})

describe('a producer that is cancelled while it waits', () => {
  it('settles at once, though all that run never end, and is never started', async () => {
    const pool = createProducerPool({ concurrency: 1 })
    const running = new Controlled()
    const result = pool.run(running.producer)
    const stop = new AbortController()
    const waiting = new Controlled()
    const cancelled = pool.run(waiting.producer, { signal: stop.signal })
    await until(() => pool.waiting === 1)
    stop.abort()
    expect(await cancelled).toEqual({ status: 'cancelled' })
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0)
    running.end('ended')
    await result
    await until(() => pool.running === 0)
    expect(waiting.isStarted).toBe(false)
  })

  it('leaves the line, so that another may wait', async () => {
    const pool = createProducerPool({ concurrency: 1, maxWaiting: 1 })
    void pool.run(neverEnds)
    const stop = new AbortController()
    const cancelled = pool.run(async () => {}, { signal: stop.signal })
    stop.abort()
    await cancelled
    expect(pool.waiting).toBe(0)
    const next = new AbortController()
    const waiting = pool.run(async () => {}, { signal: next.signal })
    expect(pool.waiting).toBe(1)
    next.abort()
    expect(await waiting).toEqual({ status: 'cancelled' })
  })

  it('does not change the order of the others', async () => {
    const pool = createProducerPool({ concurrency: 1 })
    const first = new Controlled()
    const stop = new AbortController()
    const started: string[] = []
    const all = [
      pool.run(first.producer),
      pool.run(() => started.push('a')),
      pool.run(() => started.push('cancelled'), { signal: stop.signal }),
      pool.run(() => started.push('b')),
    ]
    stop.abort()
    await until(() => first.isStarted)
    first.end('first')
    await Promise.all(all)
    expect(started).toEqual(['a', 'b'])
  })
})

describe('a pool with as many waiting as it allows', () => {
  const full = { name: 'SSEError', code: 'ERR_SSE_POOL_FULL' }

  it('refuses one more with ERR_SSE_POOL_FULL, and takes it when one has started', async () => {
    const pool = createProducerPool({ concurrency: 1, maxWaiting: 2 })
    const [running, first, second] = [new Controlled(), new Controlled(), new Controlled()]
    const results = [running, first, second].map(({ producer }) => pool.run(producer))
    const refused = new Controlled()
    await expect(pool.run(refused.producer)).rejects.toMatchObject(full)
    expect(refused.isStarted).toBe(false)
    running.end('ended')
    await until(() => first.isStarted)
    results.push(pool.run(async () => 'taken'))
    first.end('ended')
    await until(() => second.isStarted)
    second.end('ended')
    expect(await results[3]).toEqual({ status: 'completed', value: 'taken' })
  })

  it('lets none wait when that is 0, and runs as many as it can', async () => {
    const pool = createProducerPool({ concurrency: 2, maxWaiting: 0 })
    const [one, other] = [new Controlled(), new Controlled()]
    const results = [pool.run(one.producer), pool.run(other.producer)]
    await expect(pool.run(async () => {})).rejects.toMatchObject(full)
    one.end('ended')
    await results[0]
    await until(() => pool.running === 1)
    expect(await pool.run(async () => 'taken')).toEqual({ status: 'completed', value: 'taken' })
    other.end('ended')
    await results[1]
  })
})

describe('closing a pool', () => {
  it('aborts those that run, starts none any more, and resolves when none runs', async () => {
    const pool = createProducerPool({ concurrency: 1 })
    const [running, waiting] = [new Controlled(), new Controlled()]
    const results = [pool.run(running.producer), pool.run(waiting.producer)]
    await until(() => running.isStarted)
    let isClosed = false
    const closing = pool.close().then(() => {
      isClosed = true
    })
    expect(await results[1]).toEqual({ status: 'cancelled' })
    expect(running.signal?.aborted).toBe(true)
    await turnsOf(5)
    expect(isClosed).toBe(false)
    running.fail(new Error('aborted'))
    await closing
    expect(await results[0]).toEqual({ status: 'cancelled' })
    expect(waiting.isStarted).toBe(false)
    expect(countsOf(pool)).toEqual({ running: 0, waiting: 0 })
  })

  it('cancels every later producer', async () => {
    const pool = createProducerPool()
    await pool.close()
    const late = new Controlled()
    expect(await pool.run(late.producer)).toEqual({ status: 'cancelled' })
    expect(late.isStarted).toBe(false)
  })

  it('a second time changes nothing', async () => {
    const pool = createProducerPool()
    const running = new Controlled()
    const result = pool.run(running.producer)
    await until(() => running.isStarted)
    const closings = [pool.close(), pool.close()]
    running.end('ended')
    await Promise.all(closings)
    await pool.close()
    expect((await result).status).toBe('completed')
  })
})

it.each([
  [{ concurrency: 0 }, 'concurrency is 0'],
  [{ concurrency: 1.5 }, 'concurrency is 1.5'],
  [{ concurrency: Number.NaN }, 'concurrency is NaN'],
  [{ maxWaiting: -1 }, 'maxWaiting is -1'],
  [{ maxWaiting: '5' }, 'maxWaiting is "5"'],
  [{ concurency: 5 }, 'no option "concurency"'],
])('refuses the options %j', (options, message) => {
  expect(() => createProducerPool(options as ProducerPoolOptions)).toThrow(
    expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION', message: expect.stringContaining(message) }),
  )
})

it('runs producers of connections, each of which ends with its own connection', async () => {
  const pool = createProducerPool({ concurrency: 2 })
  const statuses: string[] = []
  async function* ticks() {
    for (let count = 0; ; count += 1) {
      yield count
      await turnsOf(1)
    }
  }
  const sessions: SSEHandler[] = []
  const { url } = await serve(async (req, res) => {
    const sse = createSSEHandler(req, res, { firstEvent: false })
    sessions.push(sse)
    const { status } = await pool.run(() => pipe(ticks(), sse), { signal: sse.signal })
    statuses.push(`${sessions.indexOf(sse)} ${status}`)
  })
  const [first, second, third] = [await connect(url), await connect(url), await connect(url)]
  await first.until((events) => events.length > 10)
  await second.until((events) => events.length > 10)
  expect(countsOf(pool)).toEqual({ running: 2, waiting: 1 })
  expect(third.events).toEqual([])
  first.leave()
  await third.until((events) => events.length > 10)
  expect(third.events[0]?.data).toBe('0')
  second.leave()
  third.leave()
  await until(() => statuses.length === 3)
  expect(statuses.sort()).toEqual(['0 completed', '1 completed', '2 completed'])
  await until(() => pool.running === 0)
})

async function turnsOf(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve))
}
