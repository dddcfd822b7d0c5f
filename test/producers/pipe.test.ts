import { getEventListeners, once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { runInNewContext } from 'node:vm'
import {
  createSSEHandler,
  type PipeResult,
  type PipeSource,
  type PipeTarget,
  pipe,
  type SSEHandler,
  type SSEHandlerOptions,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { connectFake, track, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const TEXT = 'Grüße, 世界 😀'

/** Large enough that a client which does not read soon fills what the kernel takes. */
const BIG = 'x'.repeat(64 * 1024)

async function open(options: SSEHandlerOptions = {}): Promise<{ sse: SSEHandler; client: TestClient }> {
  const opened: SSEHandler[] = []
  const { url } = await serve((req, res) =>
    opened.push(createSSEHandler(req, res, { firstEvent: false, ...options })),
  )
  const client = await connect(url)
  return { sse: opened[0] as SSEHandler, client }
}

function dataOf(client: TestClient): string[] {
  return client.events.map((event) => event.data)
}

/** A connection as a target that counts what it has accepted. */
function counting(sse: SSEHandler): { target: PipeTarget; accepted: () => number } {
  let accepted = 0
  const target: PipeTarget = {
    signal: sse.signal,
    async requestSend(options) {
      const permit = await sse.requestSend(options)
      return {
        send(event) {
          const outcome = permit.send(event)
          if (outcome === 'queued') accepted += 1
          return outcome
        },
        release: () => permit.release(),
        [Symbol.dispose]: () => permit.release(),
      }
    },
  }
  return { target, accepted: () => accepted }
}

function expectNothingLeft(sse: SSEHandler, ...signals: AbortSignal[]): void {
  const { permits, waiters } = sse.stats()
  expect({ permits, waiters }).toEqual({ permits: 0, waiters: 0 })
  for (const signal of [sse.signal, ...signals]) expect(getEventListeners(signal, 'abort')).toHaveLength(0)
}

/** That the pipe left the connection as it should: open, and with nothing held. */
async function expectUsable(sse: SSEHandler, client: TestClient): Promise<void> {
  expectNothingLeft(sse)
  await sse.send({ data: 'one more' })
  await client.until((events) => events.at(-1)?.data === 'one more')
  expect(client.ended).toBe(false)
}

async function temporaryFile(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-pipe-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const path = join(folder, 'source.txt')
  await writeFile(path, text)
  return path
}

/** A source that is written by hand and gives what a test tells it to. */
class Feed<T> implements AsyncIterableIterator<T> {
  pulls = 0
  returns = 0
  readonly #settled: PromiseSettledResult<IteratorResult<T, undefined>>[] = []
  #wake: (() => void) | null = null

  push(...items: T[]): void {
    for (const value of items) this.#settle({ status: 'fulfilled', value: { done: false, value } })
  }

  end(): void {
    this.#settle({ status: 'fulfilled', value: { done: true, value: undefined } })
  }

  fail(reason: unknown): void {
    this.#settle({ status: 'rejected', reason })
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    this.pulls += 1
    while (this.#settled.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const settled = this.#settled.shift() as PromiseSettledResult<IteratorResult<T, undefined>>
    if (settled.status === 'rejected') throw settled.reason
    return settled.value
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.returns += 1
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #settle(result: PromiseSettledResult<IteratorResult<T, undefined>>): void {
    this.#settled.push(result)
    this.#wake?.()
  }
}

function bytesOf(text: string): Uint8Array[] {
  return Array.from(Buffer.from(text), (byte) => Uint8Array.of(byte))
}

function webStreamOf<T>(items: readonly T[]): ReadableStream<T> {
  const rest = [...items]
  return new ReadableStream<T>(
    {
      pull(controller) {
        const [item] = rest.splice(0, 1)
        if (item === undefined) controller.close()
        else controller.enqueue(item)
      },
    },
    { highWaterMark: 0 },
  )
}

type AnySource = PipeSource<unknown>

interface Giving {
  kind: string
  source: () => AnySource
  expected: string[]
}

const numbers = [1, 2, 3]
const texts = ['1', '2', '3']
const characters = [...TEXT]

const giving: Giving[] = [
  { kind: 'an array', source: () => numbers, expected: texts },
  { kind: 'a Set', source: () => new Set(numbers), expected: texts },
  { kind: 'an empty array', source: () => [], expected: [] },
  {
    kind: 'a generator',
    source: function* () {
      yield* numbers
    },
    expected: texts,
  },
  {
    kind: 'an iterator written by hand, without return()',
    source: () => {
      let count = 0
      return {
        [Symbol.iterator]: () => ({
          next: () =>
            count < 3 ? { done: false as const, value: ++count } : { done: true as const, value: undefined },
        }),
      }
    },
    expected: texts,
  },
  {
    kind: 'an async generator',
    source: async function* () {
      for (const item of numbers) {
        await turns(1)
        yield item
      }
    },
    expected: texts,
  },
  {
    kind: 'an async iterator written by hand',
    source: () => {
      const feed = new Feed<number>()
      feed.push(...numbers)
      feed.end()
      return feed
    },
    expected: texts,
  },
  {
    kind: 'an async iterator of another realm',
    source: () => runInNewContext('(async function* () { yield* [1, 2, 3] })()') as AsyncIterable<number>,
    expected: texts,
  },
  {
    kind: 'a Readable of objects',
    source: () => Readable.from([{ n: 1 }, { n: 2 }]),
    expected: ['{"n":1}', '{"n":2}'],
  },
  { kind: 'a Readable of strings', source: () => Readable.from(['a', 'b\nc']), expected: ['a', 'b\nc'] },
  {
    kind: 'a Readable of bytes that split characters',
    source: () => Readable.from(bytesOf(TEXT), { objectMode: false, highWaterMark: 1 }),
    expected: characters,
  },
  {
    kind: 'a Readable of bytes with an encoding',
    source: () => Readable.from(bytesOf('abc'), { objectMode: false, highWaterMark: 1 }).setEncoding('utf8'),
    expected: ['a', 'b', 'c'],
  },
  {
    kind: 'a Web stream of objects',
    source: () => webStreamOf([{ n: 1 }, { n: 2 }]),
    expected: ['{"n":1}', '{"n":2}'],
  },
  {
    kind: 'a Web stream of bytes that split characters',
    source: () => webStreamOf(bytesOf(TEXT)),
    expected: characters,
  },
  { kind: 'a function that returns a source', source: () => () => numbers, expected: texts },
  {
    kind: 'an async function that returns a source',
    source: () => async () => webStreamOf(numbers),
    expected: texts,
  },
]

describe('pipe sends everything of', () => {
  it.each(giving)('$kind, and leaves the connection open', async ({ source, expected }) => {
    const { sse, client } = await open()
    expect(await pipe(source(), sse)).toEqual({ outcome: 'ended', events: expected.length })
    await client.until((events) => events.length >= expected.length)
    expect(dataOf(client)).toEqual(expected)
    await expectUsable(sse, client)
  })

  it('a file, whose characters are split across its chunks', async () => {
    const text = TEXT.repeat(500)
    const file = createReadStream(await temporaryFile(text), { highWaterMark: 7 })
    const { sse, client } = await open()
    const { outcome, events } = await pipe(file, sse)
    expect(outcome).toBe('ended')
    await client.until((received) => received.length === events)
    expect(dataOf(client).join('')).toBe(text)
    await expectUsable(sse, client)
  })

  it('the body of a Response', async () => {
    // Not of a fetch over a socket: that of Node 26.10 now and then loses a body that is read late.
    const { body } = new Response(webStreamOf(bytesOf(TEXT)))
    const { sse, client } = await open()
    const { outcome, events } = await pipe(body as ReadableStream<Uint8Array>, sse)
    expect(outcome).toBe('ended')
    await client.until((received) => received.length === events)
    expect(dataOf(client).join('')).toBe(TEXT)
  })

  it('one source after another, in order', async () => {
    const { sse, client } = await open()
    await pipe([1, 2], sse)
    await pipe([3], sse)
    await pipe(webStreamOf([4, 5]), sse)
    await client.until((events) => events.length === 5)
    expect(dataOf(client)).toEqual(['1', '2', '3', '4', '5'])
  })

  it('bytes that end inside a character, with the replacement character in its place', async () => {
    const { sse, client } = await open()
    await pipe(webStreamOf([Uint8Array.of(0x61, 0xe2, 0x82)]), sse)
    await sse.send({ data: 'one more' })
    await client.until((events) => events.at(-1)?.data === 'one more')
    expect(dataOf(client).join('')).toBe('a\ufffdone more')
  })
})

describe('pipe makes of an item', () => {
  it('a message whose data is the item', async () => {
    const { sse, client } = await open()
    await pipe(['text', { n: 1 }, null, 0, ''], sse)
    await client.until((events) => events.length === 5)
    expect(dataOf(client)).toEqual(['text', '{"n":1}', 'null', '0', ''])
    expect(client.events.map(({ event }) => event)).toEqual(Array(5).fill(undefined))
  })

  it('an event of the given name', async () => {
    const { sse, client } = await open()
    await pipe([1], sse, { event: 'tick' })
    await client.until((events) => events.length === 1)
    expect(client.events[0]).toMatchObject({ event: 'tick', data: '1' })
  })

  it('whatever event map makes of it, and nothing of null and undefined', async () => {
    const { sse, client } = await open()
    const result = await pipe([1, 2, 3, 4, 5], sse, {
      map: (n) => [null, undefined, { event: 'odd', data: n, id: `i${n}`, retry: 10 }][n % 3],
    })
    expect(result).toEqual({ outcome: 'ended', events: 2 })
    await client.until((events) => events.length === 2)
    expect(client.events).toEqual([
      { event: 'odd', data: '2', id: 'i2' },
      { event: 'odd', data: '5', id: 'i5' },
    ])
    await expectUsable(sse, client)
  })

  it('nothing for long: when it skips all of a source that never waits, others have their turn each 64 skips', async () => {
    const { sse } = connectFake()
    let pulled = 0
    function* source() {
      while (pulled < 100_000) yield pulled++
    }
    const pulledAtTurn: number[] = []
    const look = () => {
      if (pulledAtTurn.push(pulled) < 5) setImmediate(look)
    }
    setImmediate(look)
    let isTimerServed = false
    setTimeout(() => {
      isTimerServed = true
    })
    const piped = pipe(source(), sse, {
      map(n) {
        if (isTimerServed && pulledAtTurn.length === 5) sse.abort()
        return [null, undefined][n % 2]
      },
    })
    await expect(piped).resolves.toEqual({ outcome: 'closed', events: 0 })
    expect(pulledAtTurn[0]).toBeGreaterThan(0)
    expect(pulledAtTurn.every((count, turn) => count <= 64 * (turn + 1))).toBe(true)
    expect(pulled).toBeLessThan(100_000)
    expectNothingLeft(sse)
  })

  it('bytes as map gets them, undecoded', async () => {
    const { sse, client } = await open()
    await pipe(webStreamOf(bytesOf('€')), sse, { map: (bytes) => ({ data: bytes.length }) })
    await client.until((events) => events.length === 3)
    expect(dataOf(client)).toEqual(['1', '1', '1'])
  })
})

/** A source that gives `BIG` for ever, counting what is pulled out of it and noting that it was told to stop. */
interface Endless {
  source: AnySource
  /** Items that were pulled so far. */
  pulled: () => number
  isTold: () => boolean
  /** Items that the source itself keeps ready, besides those it was asked for. */
  ready?: number
}

const endless: { kind: string; make: (onPull?: () => void) => Endless }[] = [
  {
    kind: 'a generator',
    make(onPull) {
      let pulled = 0
      let isTold = false
      function* source() {
        try {
          for (;;) {
            pulled += 1
            onPull?.()
            yield BIG
          }
        } finally {
          isTold = true
        }
      }
      return { source: source(), pulled: () => pulled, isTold: () => isTold }
    },
  },
  {
    kind: 'an async generator',
    make(onPull) {
      let pulled = 0
      let isTold = false
      async function* source() {
        try {
          for (;;) {
            pulled += 1
            onPull?.()
            await turns(1)
            yield BIG
          }
        } finally {
          isTold = true
        }
      }
      return { source: source(), pulled: () => pulled, isTold: () => isTold }
    },
  },
  {
    kind: 'an async iterator written by hand',
    make(onPull) {
      let pulled = 0
      let isTold = false
      const iterator = {
        next() {
          pulled += 1
          onPull?.()
          return Promise.resolve({ done: false as const, value: BIG })
        },
        return() {
          isTold = true
          return Promise.resolve({ done: true as const, value: undefined })
        },
        [Symbol.asyncIterator]: () => iterator,
      }
      return { source: iterator, pulled: () => pulled, isTold: () => isTold }
    },
  },
  {
    kind: 'a Readable',
    make(onPull) {
      let pulled = 0
      const source = new Readable({
        objectMode: true,
        highWaterMark: 0,
        read() {
          pulled += 1
          onPull?.()
          this.push(BIG)
        },
      })
      return { source, pulled: () => pulled, isTold: () => source.destroyed, ready: 1 }
    },
  },
  {
    kind: 'a Web stream',
    make(onPull) {
      let pulled = 0
      let isTold = false
      const source = new ReadableStream<string>(
        {
          pull(controller) {
            pulled += 1
            onPull?.()
            controller.enqueue(BIG)
          },
          cancel() {
            isTold = true
          },
        },
        { highWaterMark: 0 },
      )
      return { source, pulled: () => pulled, isTold: () => isTold }
    },
  },
  {
    kind: 'a function that gets the signal',
    make(onPull) {
      let pulled = 0
      let told: AbortSignal | null = null
      function* source() {
        for (;;) {
          pulled += 1
          onPull?.()
          yield BIG
        }
      }
      return {
        source: (signal) => {
          told = signal
          return source()
        },
        pulled: () => pulled,
        isTold: () => told?.aborted === true,
      }
    },
  },
]

describe('pipe asks for a permit first and pulls then', () => {
  it.each(endless)('from $kind', async ({ make }) => {
    const { sse, transport } = connectFake({ maxEvents: 3 })
    const held = [sse.tryRequestSend(), sse.tryRequestSend(), sse.tryRequestSend()]
    const { source, pulled, ready = 0 } = make()
    const { target, accepted } = counting(sse)
    const stop = new AbortController()
    const piped = track(pipe(source, target, { signal: stop.signal }))
    const expectPulled = (count: number) => {
      expect(accepted()).toBe(count)
      expect(pulled()).toBeGreaterThanOrEqual(count)
      expect(pulled()).toBeLessThanOrEqual(count === 0 ? 0 : count + ready)
    }
    await until(() => sse.stats().waiters === 1)
    await turns()
    expectPulled(0)
    for (const [index, permit] of held.entries()) {
      permit?.release()
      await until(() => accepted() === index + 1 && sse.stats().waiters === 1)
      await turns()
      expectPulled(index + 1)
    }
    // One write takes one such item along, which frees one slot.
    transport.take()
    await until(() => accepted() === 4 && sse.stats().waiters === 1)
    await turns()
    expectPulled(4)
    stop.abort()
    await until(() => piped.state === 'rejected')
    expectNothingLeft(sse, stop.signal)
  })

  it.each(endless)(
    'so that $kind is never more than one item ahead of a client that does not read',
    async ({ make }) => {
      const { sse, client } = await open({ maxEvents: 4 })
      client.pause()
      const { target, accepted } = counting(sse)
      let furthest = 0
      const { source, pulled } = make(() => {
        furthest = Math.max(furthest, pulled() - accepted())
      })
      const piped = track(pipe(source, target))
      await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
      // 64 MiB is far above what the kernel takes for a reader that stands still.
      expect(pulled()).toBeLessThan(1000)
      expect(piped.state).toBe('pending')
      client.resume()
      const atPause = pulled()
      await until(() => pulled() > atPause + 100)
      expect(furthest).toBe(1)
      client.leave()
      await until(() => piped.state === 'fulfilled')
    },
  )

  it('and reads no further ahead than the source itself does', async () => {
    const { sse } = connectFake({ maxEvents: 2 })
    let read = 0
    const source = new Readable({
      objectMode: true,
      highWaterMark: 4,
      read() {
        read += 1
        this.push(read)
      },
    })
    const { target, accepted } = counting(sse)
    const piped = track(pipe(source, target))
    await until(() => sse.stats().waiters === 1)
    await turns(10)
    expect(read - accepted()).toBeLessThanOrEqual(1 + 4)
    sse.abort()
    await until(() => piped.state === 'fulfilled')
  })
})

/** A source whose first pull never settles. */
interface Stuck {
  source: AnySource
  isPulled: () => boolean
  isTold: () => boolean
}

const stuck: { kind: string; make: () => Stuck }[] = [
  {
    kind: 'an async iterator',
    make() {
      const feed = new Feed()
      return { source: feed, isPulled: () => feed.pulls === 1, isTold: () => feed.returns === 1 }
    },
  },
  {
    kind: 'an async iterator of another realm',
    make() {
      const state: { pulls: number; returns: number } & AsyncIterable<unknown> = runInNewContext(`({
        pulls: 0,
        returns: 0,
        next() { this.pulls += 1; return new Promise(() => {}) },
        return() { this.returns += 1; return new Promise(() => {}) },
        [Symbol.asyncIterator]() { return this },
      })`)
      return { source: state, isPulled: () => state.pulls === 1, isTold: () => state.returns === 1 }
    },
  },
  {
    kind: 'an async iterator without return(), from a function that gets the signal',
    make() {
      let isPulled = false
      let told: AbortSignal | null = null
      const next = () => {
        isPulled = true
        return new Promise<never>(() => {})
      }
      return {
        source: (signal) => {
          told = signal
          return { [Symbol.asyncIterator]: () => ({ next }) }
        },
        isPulled: () => isPulled,
        isTold: () => told?.aborted === true,
      }
    },
  },
  {
    kind: 'a function whose source never comes',
    make() {
      let told: AbortSignal | null = null
      return {
        source: (signal) => {
          told = signal
          return new Promise<never>(() => {})
        },
        isPulled: () => told !== null,
        isTold: () => told?.aborted === true,
      }
    },
  },
  {
    kind: 'a Readable',
    make() {
      let isPulled = false
      const source = new Readable({
        read() {
          isPulled = true
        },
      })
      return { source, isPulled: () => isPulled, isTold: () => source.destroyed }
    },
  },
  {
    kind: 'a Web stream',
    make() {
      let isPulled = false
      let isTold = false
      const source = new ReadableStream({
        pull() {
          isPulled = true
          return new Promise(() => {})
        },
        cancel() {
          isTold = true
        },
      })
      return { source, isPulled: () => isPulled, isTold: () => isTold }
    },
  },
]

describe('when the client leaves, pipe tells', () => {
  it.each(stuck)('$kind at once, though its pull is pending for ever', async ({ make }) => {
    const { sse, client } = await open()
    const { source, isPulled, isTold } = make()
    const piped = pipe(source, sse)
    await until(isPulled)
    client.leave()
    expect(await piped).toEqual({ outcome: 'closed', events: 0 })
    expect(isTold()).toBe(true)
    expectNothingLeft(sse)
  })

  it.each(endless)('$kind at once, while it waits for a permit', async ({ make }) => {
    const { sse, client } = await open({ maxEvents: 2 })
    client.pause()
    const { source, pulled, isTold } = make()
    const piped = pipe(source, sse)
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
    expect(isTold()).toBe(false)
    client.leave()
    const { outcome, events } = await piped
    expect({ outcome, events }).toEqual({ outcome: 'closed', events: pulled() })
    expect(isTold()).toBe(true)
    expectNothingLeft(sse)
  })

  it('an async generator, whose finally block runs when its own await settles', async () => {
    const { sse, client } = await open()
    const steps: string[] = []
    let goOn = (): void => {}
    async function* source() {
      try {
        yield 1
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
        steps.push('went on')
        yield 2
        steps.push('pulled again')
      } finally {
        steps.push('cleaned up')
      }
    }
    const piped = pipe(source(), sse)
    await client.until((events) => events.length === 1)
    client.leave()
    expect(await piped).toEqual({ outcome: 'closed', events: 1 })
    expect(steps).toEqual([])
    goOn()
    await until(() => steps.length === 2)
    await turns()
    expect(steps).toEqual(['went on', 'cleaned up'])
  })

  it('a generator that waits with the signal, whose finally block runs at once', async () => {
    const { sse, client } = await open()
    let isCleanedUp = false
    const piped = pipe(async function* (signal: AbortSignal) {
      try {
        yield 1
        await once(signal, 'abort')
      } finally {
        isCleanedUp = true
      }
    }, sse)
    await client.until((events) => events.length === 1)
    client.leave()
    expect(await piped).toEqual({ outcome: 'closed', events: 1 })
    await until(() => isCleanedUp)
  })

  it('a file, which is closed', async () => {
    const path = await temporaryFile('')
    await truncate(path, 256 * 1024 * 1024)
    const file = createReadStream(path)
    const { sse, client } = await open()
    client.pause()
    const piped = pipe(file, sse)
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
    client.leave()
    expect((await piped).outcome).toBe('closed')
    await until(() => file.closed)
    expect(file.readableEnded).toBe(false)
  })

  it('the server a Response comes from', async () => {
    let isUpstreamLeft = false
    const upstream = await serve((_req, res) => {
      res.write('first')
      res.on('close', () => {
        isUpstreamLeft = true
      })
    })
    const { sse, client } = await open()
    const piped = pipe(async (signal) => {
      const { body } = await fetch(upstream.url, { signal })
      return body as ReadableStream<Uint8Array>
    }, sse)
    await client.until((events) => events.length === 1)
    client.leave()
    expect(await piped).toEqual({ outcome: 'closed', events: 1 })
    await until(() => isUpstreamLeft)
  })

  it('no function to make a source any more', async () => {
    const { sse, client } = await open()
    client.leave()
    await sse.closed
    let calls = 0
    const source = () => {
      calls += 1
      return [1]
    }
    expect(await pipe(source, sse)).toEqual({ outcome: 'closed', events: 0 })
    expect(calls).toBe(0)
  })

  it('a source that closes the connection while it is pulled, once, and counts only what was accepted', async () => {
    const { sse } = await open()
    let pulls = 0
    let returns = 0
    const source: IterableIterator<number> = {
      next() {
        pulls += 1
        if (pulls === 2) sse.abort()
        return { done: false, value: pulls }
      },
      return() {
        returns += 1
        return { done: true, value: undefined }
      },
      [Symbol.iterator]: () => source,
    }
    expect(await pipe(source, sse)).toEqual({ outcome: 'closed', events: 1 })
    await turns()
    expect({ pulls, returns }).toEqual({ pulls: 2, returns: 1 })
  })

  it.each([
    [
      'a source',
      (close: () => void) => ({ [Symbol.asyncIterator]: () => ({ next: () => closeAndHang(close) }) }),
    ],
    ['a function', (close: () => void) => () => closeAndHang(close)],
  ])('%s that closes the connection itself and then hangs', async (_kind, make) => {
    const { sse } = await open()
    const source = make(() => sse.abort()) as AnySource
    const piped = track(pipe(source, sse))
    await until(() => piped.state !== 'pending')
    expect(piped.value).toEqual({ outcome: 'closed', events: 0 })
  })

  it('a source that comes late, from an async function', async () => {
    const { sse, client } = await open()
    let give: (source: Readable) => void = () => {}
    const piped = pipe(
      () =>
        new Promise<Readable>((resolve) => {
          give = resolve
        }),
      sse,
    )
    client.leave()
    expect(await piped).toEqual({ outcome: 'closed', events: 0 })
    const source = new Readable({ read() {} })
    give(source)
    await turns()
    expect(source.destroyed).toBe(true)
  })

  it('a source that it has not begun to read, because the client had left before', async () => {
    const { sse, client } = await open()
    client.leave()
    await sse.closed
    const stream = new Readable({ read() {} })
    expect(await pipe(stream, sse)).toEqual({ outcome: 'closed', events: 0 })
    expect(stream.destroyed).toBe(true)
  })

  it('nothing to a source that has ended', async () => {
    const { sse, client } = await open()
    const feed = new Feed<number>()
    feed.push(1)
    feed.end()
    await pipe(feed, sse)
    client.leave()
    await sse.closed
    expect(feed.returns).toBe(0)
  })

  // The close may come between any two steps of pipe.
  const microtasks = [...Array(16).keys()]

  it.each(microtasks)(
    'the source once, and pulls nothing afterwards (%i microtasks later)',
    async (count) => {
      const { sse } = await open()
      const calls: string[] = []
      const source: AsyncIterableIterator<number> = {
        async next() {
          calls.push('next')
          return { done: false, value: 1 }
        },
        async return() {
          calls.push('return')
          return { done: true, value: undefined }
        },
        [Symbol.asyncIterator]: () => source,
      }
      const piped = pipe(source, sse)
      for (let i = 0; i < count; i += 1) await null
      sse.abort()
      const pulls = calls.length
      expect((await piped).outcome).toBe('closed')
      await turns()
      expect(calls).toEqual([...Array(pulls).fill('next'), 'return'])
      expectNothingLeft(sse)
    },
  )

  it.each(microtasks)(
    'a source that an async function gives just then (%i microtasks before)',
    async (count) => {
      const { sse } = await open()
      const stream = new Readable({ read() {} })
      let give: (source: Readable) => void = () => {}
      const given = new Promise<Readable>((resolve) => {
        give = resolve
      })
      const piped = pipe(() => given, sse)
      await turns()
      give(stream)
      for (let i = 0; i < count; i += 1) await null
      sse.abort()
      expect((await piped).outcome).toBe('closed')
      await turns()
      expect(stream.destroyed).toBe(true)
    },
  )

  it('a stream, and leaves no rejection unhandled, when it closes before the first pull', async () => {
    const unhandled = noteUnhandled()
    const { sse } = await open()
    const stream = new Readable({ read() {} })
    const piped = pipe(stream, sse)
    sse.abort()
    expect(await piped).toEqual({ outcome: 'closed', events: 0 })
    await turns(5)
    expect(stream.destroyed).toBe(true)
    expect(unhandled).toEqual([])
  })

  it('nobody of what a source throws that has closed the connection itself', async () => {
    const unhandled = noteUnhandled()
    const { sse } = await open()
    async function* source() {
      yield 1
      sse.abort()
      throw new Error('after the close')
    }
    expect(await pipe(source(), sse)).toEqual({ outcome: 'closed', events: 1 })
    await turns(5)
    expect(unhandled).toEqual([])
  })
})

function closeAndHang(close: () => void): Promise<never> {
  close()
  return new Promise(() => {})
}

function noteUnhandled(): unknown[] {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => void unhandled.push(reason)
  process.on('unhandledRejection', note)
  onTestFinished(() => void process.off('unhandledRejection', note))
  return unhandled
}

describe('the signal of pipe', () => {
  const reason = new Error('enough')

  it.each(stuck)('stops $kind whose pull is pending for ever', async ({ make }) => {
    const { sse, client } = await open()
    const stop = new AbortController()
    const { source, isPulled, isTold } = make()
    const piped = track(pipe(source, sse, { signal: stop.signal }))
    await until(isPulled)
    stop.abort(reason)
    await until(() => piped.state === 'rejected')
    expect(piped.error).toBe(reason)
    expect(isTold()).toBe(true)
    expectNothingLeft(sse, stop.signal)
    await expectUsable(sse, client)
  })

  it.each(endless)('stops $kind while pipe waits for a permit', async ({ make }) => {
    const { sse } = await open({ maxEvents: 1 })
    const held = sse.tryRequestSend()
    const stop = new AbortController()
    const { source, pulled, isTold } = make()
    const piped = track(pipe(source, sse, { signal: stop.signal }))
    await until(() => sse.stats().waiters === 1)
    stop.abort(reason)
    await until(() => piped.state === 'rejected')
    held?.release()
    await turns()
    expect(piped.error).toBe(reason)
    expect(pulled()).toBe(0)
    // A generator that has not started has no block to run; return() has finished it.
    expect(isTold() || (await isFinished(source))).toBe(true)
    expectNothingLeft(sse, stop.signal)
  })

  it('that has aborted already rejects, and nothing is pulled', async () => {
    const { sse, client } = await open()
    const feed = new Feed<number>()
    await expect(pipe(feed, sse, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(feed.pulls).toBe(0)
    await expectUsable(sse, client)
  })

  it('that has aborted already destroys a stream nevertheless', async () => {
    const { sse } = await open()
    const stream = new Readable({ read() {} })
    await expect(pipe(stream, sse, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(stream.destroyed).toBe(true)
  })

  it('keeps what was sent before', async () => {
    const { sse, client } = await open()
    const stop = new AbortController()
    const feed = new Feed<number>()
    feed.push(1, 2)
    const piped = track(pipe(feed, sse, { signal: stop.signal }))
    await until(() => feed.pulls === 3)
    stop.abort(reason)
    await until(() => piped.state === 'rejected')
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['1', '2', 'one more'])
  })

  it('has no listener left after the source has ended, failed, or the client has left', async () => {
    const { signal } = new AbortController()
    const { sse, client } = await open()
    await pipe([1], sse, { signal })
    expectNothingLeft(sse, signal)
    const feed = new Feed()
    feed.fail(reason)
    await expect(pipe(feed, sse, { signal })).rejects.toBe(reason)
    expectNothingLeft(sse, signal)
    client.leave()
    expect((await pipe(new Feed(), sse, { signal })).outcome).toBe('closed')
    expectNothingLeft(sse, signal)
  })
})

async function isFinished(source: AnySource): Promise<boolean> {
  return 'next' in source && (await (source as AsyncGenerator).next()).done === true
}

describe('pipe rejects, tells the source and leaves the connection usable', () => {
  const failure = new Error('of the source')

  interface Failing {
    how: string
    source: () => AnySource
    before: string[]
  }

  const failing: Failing[] = [
    {
      how: 'an iterable throws when it is asked for its iterator',
      source: () => ({
        [Symbol.iterator]() {
          throw failure
        },
      }),
      before: [],
    },
    {
      how: 'next() throws',
      source: () => ({
        [Symbol.asyncIterator]: () => ({
          next() {
            throw failure
          },
        }),
      }),
      before: [],
    },
    {
      how: 'a generator throws at once',
      source: () => generate(() => raise(failure)),
      before: [],
    },
    {
      how: 'a generator throws later',
      source: () => generate((n) => (n < 3 ? n : raise(failure))),
      before: ['0', '1', '2'],
    },
    {
      how: 'an async iterator rejects',
      source: () => {
        const feed = new Feed<number>()
        feed.push(0, 1)
        feed.fail(failure)
        return feed
      },
      before: ['0', '1'],
    },
    {
      how: 'a Readable is destroyed with an error',
      source: () =>
        new Readable({
          objectMode: true,
          highWaterMark: 0,
          read() {
            this.destroy(failure)
          },
        }),
      before: [],
    },
    {
      how: 'a Web stream errors',
      source: () => new ReadableStream({ pull: (controller) => controller.error(failure) }),
      before: [],
    },
    { how: 'the function that makes the source throws', source: () => () => raise(failure), before: [] },
    {
      how: 'the function that makes the source rejects',
      source: () => () => Promise.reject(failure),
      before: [],
    },
  ]

  it.each(failing)('when $how', async ({ source, before }) => {
    const { sse, client } = await open()
    const { signal } = new AbortController()
    await expect(pipe(source(), sse, { signal })).rejects.toBe(failure)
    expectNothingLeft(sse, signal)
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual([...before, 'one more'])
  })

  it('when a file cannot be opened', async () => {
    const { sse, client } = await open()
    const path = join(tmpdir(), 'sluice-pipe-nowhere', 'source.txt')
    await expect(pipe(createReadStream(path), sse)).rejects.toMatchObject({ code: 'ENOENT' })
    await expectUsable(sse, client)
  })

  it('when a stream fails while pipe waits for a permit', async () => {
    const { sse, client } = await open({ maxEvents: 1 })
    const held = sse.tryRequestSend()
    const stream = new Readable({ read() {} })
    const piped = track(pipe(stream, sse))
    await until(() => sse.stats().waiters === 1)
    // Without a listener, the event 'error' would end the process.
    expect(stream.listenerCount('error')).toBeGreaterThan(0)
    stream.destroy(failure)
    await turns()
    held?.release()
    await until(() => piped.state === 'rejected')
    expect(piped.error).toBe(failure)
    await expectUsable(sse, client)
  })

  it('and also when return() of the source throws, which interests nobody', async () => {
    const unhandled = noteUnhandled()
    const { sse, client } = await open()
    const returned: string[] = []
    for (const fail of [() => raise(new Error('return')), () => Promise.reject(new Error('return'))]) {
      const source = {
        next: () => raise(failure),
        return() {
          returned.push('return')
          return fail()
        },
        [Symbol.asyncIterator]: () => source,
      } as AsyncIterableIterator<never>
      await expect(pipe(source, sse)).rejects.toBe(failure)
    }
    expect(returned).toHaveLength(2)
    await expectUsable(sse, client)
    expect(unhandled).toEqual([])
  })

  it('also when destroy() of a stream throws, which interests nobody', async () => {
    const { sse, client } = await open()
    const stream = Readable.from([1])
    stream.destroy = () => raise(new Error('destroy'))
    await expect(pipe(stream, sse, { map: () => raise(failure) })).rejects.toBe(failure)
    await expectUsable(sse, client)
  })

  it('also when cancel() of a Web stream throws, which interests nobody', async () => {
    const unhandled = noteUnhandled()
    const { sse, client } = await open()
    const source = new ReadableStream<number>({
      pull: (controller) => controller.enqueue(1),
      cancel: () => raise(new Error('cancel')),
    })
    await expect(pipe(source, sse, { map: () => raise(failure) })).rejects.toBe(failure)
    await expectUsable(sse, client)
    expect(unhandled).toEqual([])
  })

  it('when map throws', async () => {
    const { sse, client } = await open()
    const feed = new Feed<number>()
    feed.push(1, 2, 3)
    const map = (n: number) => (n < 2 ? { data: n } : raise(failure))
    await expect(pipe(feed, sse, { map })).rejects.toBe(failure)
    await turns()
    expect(feed).toMatchObject({ pulls: 2, returns: 1 })
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['1', 'one more'])
  })

  it('when map throws, by the signal too, which may be all that the source of a function hears', async () => {
    const { sse } = await open()
    const signals: AbortSignal[] = []
    const source = (signal: AbortSignal) => {
      signals.push(signal)
      return { [Symbol.asyncIterator]: () => ({ next: async () => ({ done: false as const, value: 1 }) }) }
    }
    await expect(pipe(source, sse, { map: () => raise(failure) })).rejects.toBe(failure)
    expect(signals[0]?.aborted).toBe(true)
  })

  const circular: { self?: unknown } = {}
  circular.self = circular

  it.each([
    ['a BigInt', 1n, 'ERR_SSE_INVALID_EVENT'],
    ['a circular object', circular, 'ERR_SSE_INVALID_EVENT'],
    ['an object whose toJSON throws', { toJSON: () => raise(failure) }, 'ERR_SSE_INVALID_EVENT'],
    ['a function', () => {}, 'ERR_SSE_INVALID_EVENT'],
    ['an item that is too large', 'x'.repeat(101), 'ERR_SSE_EVENT_TOO_LARGE'],
  ])('with a code when the source gives %s', async (_kind, item, code) => {
    const { sse, client } = await open({ maxEventBytes: 100 })
    const feed = new Feed<unknown>()
    feed.push('good', item, 'never pulled')
    await expect(pipe(feed, sse)).rejects.toMatchObject({ name: 'SSEError', code })
    await turns()
    expect(feed).toMatchObject({ pulls: 2, returns: 1 })
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['good', 'one more'])
  })

  it('with a code when map makes an event whose name would inject a field', async () => {
    const { sse, client } = await open()
    const map = () => ({ event: 'a\ndata: injected', data: 1 })
    await expect(pipe([1], sse, { map })).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_EVENT' })
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['one more'])
  })

  it('with a code when too many wait for the connection already', async () => {
    const { sse } = await open({ maxEvents: 1, maxWaiters: 0 })
    const held = sse.tryRequestSend()
    const feed = new Feed<number>()
    await expect(pipe(feed, sse)).rejects.toMatchObject({ code: 'ERR_SSE_TOO_MANY_WAITERS' })
    await turns()
    expect(feed).toMatchObject({ pulls: 0, returns: 1 })
    held?.release()
    expectNothingLeft(sse)
  })
})

it('pipe refuses an option that it does not have with ERR_SSE_INVALID_OPTION', async () => {
  const { sse, client } = await open()
  await expect(pipe([1], sse, { evnt: 'tick' } as never)).rejects.toMatchObject({
    code: 'ERR_SSE_INVALID_OPTION',
    message: expect.stringContaining('"evnt"'),
  })
  await expectUsable(sse, client)
})

describe('pipe refuses with ERR_SSE_INVALID_SOURCE', () => {
  it.each([
    ['a string', 'text'],
    ['a number', 5],
    ['null', null],
    ['undefined', undefined],
    ['a plain object', { length: 1 }],
    ['a promise of a source', Promise.resolve([1])],
  ])('%s', async (_kind, source) => {
    const { sse, client } = await open()
    const refused = { name: 'SSEError', code: 'ERR_SSE_INVALID_SOURCE' }
    await expect(pipe(source as never, sse)).rejects.toMatchObject(refused)
    if (!(source instanceof Promise)) {
      await expect(pipe((() => source) as never, sse)).rejects.toMatchObject(refused)
    }
    await expectUsable(sse, client)
  })

  it('a Web stream that something else reads, and leaves it to that', async () => {
    const { sse } = await open()
    const stream = webStreamOf([1])
    const reader = stream.getReader()
    await expect(pipe(stream, sse)).rejects.toMatchObject({
      code: 'ERR_SSE_INVALID_SOURCE',
      message: expect.stringContaining('locked'),
    })
    expect(await reader.read()).toEqual({ done: false, value: 1 })
  })
})

describe('a permit whose lease runs out while the source is slow', () => {
  async function withSlowSource() {
    const clock = new ManualClock()
    const { sse, client } = await open({ clock, maxEvents: 1, leaseMs: 1000 })
    const feed = new Feed<string>()
    const stop = new AbortController()
    const piped = track<PipeResult>(pipe(feed, sse, { signal: stop.signal }))
    await until(() => feed.pulls === 1)
    expect(sse.stats().permits).toBe(1)
    clock.advance(1500)
    expect(sse.stats().permits).toBe(0)
    return { clock, sse, client, feed, stop, piped }
  }

  it('is renewed, and nothing is lost', async () => {
    const { clock, sse, client, feed, piped } = await withSlowSource()
    feed.push('late')
    await client.until((events) => events.length === 1)
    await until(() => feed.pulls === 2)
    clock.advance(1500)
    feed.push('later', 'at once')
    feed.end()
    await until(() => piped.state === 'fulfilled')
    expect(piped.value).toEqual({ outcome: 'ended', events: 3 })
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['late', 'later', 'at once', 'one more'])
  })

  it('lets another producer in, and waits in line behind it when the item comes', async () => {
    const { sse, client, feed, piped } = await withSlowSource()
    const other = sse.tryRequestSend()
    feed.push('late')
    feed.end()
    await until(() => sse.stats().waiters === 1)
    other?.send({ data: 'of another' })
    await until(() => piped.state === 'fulfilled')
    expect(piped.value).toEqual({ outcome: 'ended', events: 1 })
    await expectUsable(sse, client)
    expect(dataOf(client)).toEqual(['of another', 'late', 'one more'])
  })

  it('is given back when the item that comes cannot be sent', async () => {
    const { sse, client, feed, piped } = await withSlowSource()
    feed.push(1n as never)
    await until(() => piped.state === 'rejected')
    expect(piped.error).toMatchObject({ code: 'ERR_SSE_INVALID_EVENT' })
    await turns()
    expect(feed.returns).toBe(1)
    await expectUsable(sse, client)
  })

  it('makes pipe wait, which the close ends', async () => {
    const { sse, client, feed, piped, stop } = await withSlowSource()
    const other = sse.tryRequestSend()
    feed.push('late')
    await until(() => sse.stats().waiters === 1)
    client.leave()
    await until(() => piped.state === 'fulfilled')
    expect(piped.value).toEqual({ outcome: 'closed', events: 0 })
    expect(feed.returns).toBe(1)
    expect(other?.send({ data: 1 })).toBe('closed')
    expectNothingLeft(sse, stop.signal)
  })

  it('makes pipe wait, which the signal ends', async () => {
    const { sse, feed, piped, stop } = await withSlowSource()
    const other = sse.tryRequestSend()
    feed.push('late')
    await until(() => sse.stats().waiters === 1)
    stop.abort('enough')
    await until(() => piped.state === 'rejected')
    expect(piped.error).toBe('enough')
    expect(feed.returns).toBe(1)
    other?.release()
    expectNothingLeft(sse, stop.signal)
  })
})

describe('two pipes to one connection', () => {
  it('take turns', async () => {
    const { sse, client } = await open({ maxEvents: 4 })
    const stop = new AbortController()
    const letters = ['a', 'b', 'c']
    const piped = letters.map((letter) =>
      track(
        pipe(
          generate(() => letter),
          sse,
          { signal: stop.signal },
        ),
      ),
    )
    await client.until((events) => events.length >= 300)
    stop.abort()
    await until(() => piped.every(({ state }) => state === 'rejected'))
    const received = dataOf(client).slice(0, 300)
    for (let i = 0; i < 300; i += 3) expect(received.slice(i, i + 3).sort()).toEqual(letters)
    expectNothingLeft(sse, stop.signal)
  })

  it('do not wait for each other when one has a source that is stuck', async () => {
    const { sse, client } = await open({ maxEvents: 2 })
    const stop = new AbortController()
    const hanging = track(pipe(new Feed(), sse, { signal: stop.signal }))
    expect(await pipe(Array(100).keys(), sse)).toEqual({ outcome: 'ended', events: 100 })
    await client.until((events) => events.length === 100)
    expect(dataOf(client)).toEqual(Array.from(Array(100).keys(), String))
    expect(hanging.state).toBe('pending')
    stop.abort()
    await until(() => hanging.state === 'rejected')
    expectNothingLeft(sse, stop.signal)
  })

  it('and many more come along without a warning of Node that listeners leak', async () => {
    const warnings: string[] = []
    const note = ({ message }: Error) => void warnings.push(message)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const { sse } = await open()
    const stop = new AbortController()
    const piped = Array.from({ length: 20 }, () => track(pipe(new Feed(), sse, { signal: stop.signal })))
    await turns()
    stop.abort()
    await until(() => piped.every(({ state }) => state === 'rejected'))
    expect(warnings).toEqual([])
    expectNothingLeft(sse, stop.signal)
  })

  it('share even a single slot, when the lease of the one with the stuck source has run out', async () => {
    const clock = new ManualClock()
    const { sse, client } = await open({ clock, maxEvents: 1, leaseMs: 1000 })
    const feed = new Feed<string>()
    const slow = pipe(feed, sse)
    await until(() => feed.pulls === 1)
    const fast = pipe(['fast'], sse)
    await until(() => sse.stats().waiters === 1)
    expect(dataOf(client)).toEqual([])
    clock.advance(1500)
    expect(await fast).toEqual({ outcome: 'ended', events: 1 })
    feed.push('slow')
    feed.end()
    expect(await slow).toEqual({ outcome: 'ended', events: 1 })
    await client.until((events) => events.length === 2)
    expect(dataOf(client)).toEqual(['fast', 'slow'])
  })
})

function raise(error: unknown): never {
  throw error
}

function* generate<T>(make: (count: number) => T): Generator<T, void> {
  for (let count = 0; ; count += 1) yield make(count)
}
