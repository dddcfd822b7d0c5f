import { Readable } from 'node:stream'
import type { ReadableStream as NodeWebStream } from 'node:stream/web'
import {
  type PipeOptions,
  type PipeResult,
  type PipeTarget,
  pipe,
  type Source,
  type SSEHandler,
} from 'sluice'
import { describe, expectTypeOf, it } from 'vitest'

type Events = { tick: number; note: { text: string } }

declare const sse: SSEHandler<Events>

function tick(): { event: 'tick'; data: number } {
  return { event: 'tick', data: 1 }
}

describe('pipe infers the item from', () => {
  it('an Iterable', () => {
    void pipe([1, 2], sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<number>()
        return tick()
      },
    })
    void pipe(new Map<string, Date>(), sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<[string, Date]>()
        return tick()
      },
    })
    function* generate() {
      yield { n: 1 }
    }
    void pipe(generate(), sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<{ n: number }>()
        return tick()
      },
    })
  })

  it('an AsyncIterable', () => {
    async function* generate() {
      yield 'text'
    }
    void pipe(generate(), sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<string>()
        return tick()
      },
    })
    const byHand: AsyncIterable<bigint> = {
      [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
    }
    void pipe(byHand, sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<bigint>()
        return tick()
      },
    })
  })

  it('a Readable, whose chunks Node does not type', () => {
    void pipe(Readable.from(['a']), sse, {
      map(item) {
        expectTypeOf(item).toBeAny()
        return tick()
      },
    })
    void pipe(Readable.from(['a']), sse, { map: (item: Buffer) => ({ event: 'tick', data: item.length }) })
  })

  it('a Web stream, the global one and that of node:stream/web', () => {
    void pipe({} as ReadableStream<Date>, sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<Date>()
        return tick()
      },
    })
    void pipe({} as NodeWebStream<Date>, sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<Date>()
        return tick()
      },
    })
  })

  it('the body of a Response, whose chunks Node does not type', () => {
    void pipe({} as NonNullable<Response['body']>, sse, {
      map: (bytes: Uint8Array) => ({ event: 'tick', data: bytes.length }),
    })
    // @ts-expect-error: a Response may have no body
    void pipe({} as Response['body'], sse, { map: tick })
  })

  it('a function that gets a signal, sync or async', () => {
    const source = (signal: AbortSignal) => [signal.aborted]
    void pipe(source, sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<boolean>()
        return tick()
      },
    })
    const later = async (): Promise<ReadableStream<Date>> => new ReadableStream<Date>()
    void pipe(later, sse, {
      map(item) {
        expectTypeOf(item).toEqualTypeOf<Date>()
        return tick()
      },
    })
    void pipe((signal) => {
      expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
      return [1]
    }, sse)
  })
})

describe('pipe refuses', () => {
  it('what is no source', () => {
    // @ts-expect-error: a number
    void pipe(5, sse)
    // @ts-expect-error: null
    void pipe(null, sse)
    // @ts-expect-error: a plain object
    void pipe({ length: 1 }, sse)
    // @ts-expect-error: a promise of a source; a function may return one
    void pipe(Promise.resolve([1]), sse)
  })

  it('a map whose result is no event of the connection', () => {
    // @ts-expect-error: a tick is a number
    void pipe([1], sse, { map: (n) => ({ event: 'tick', data: String(n) }) })
    // @ts-expect-error: no such event
    void pipe([1], sse, { map: (n) => ({ event: 'tock', data: n }) })
    // @ts-expect-error: an event without a name is none of the map
    void pipe([1], sse, { map: (n) => ({ data: n }) })
    // @ts-expect-error: an event must be ready at once
    void pipe([1], sse, { map: async (n) => ({ event: 'tick', data: n }) })
  })

  it('a map for other items', () => {
    // @ts-expect-error: the items are numbers
    void pipe([1], sse, { map: (text: string) => ({ event: 'note', data: { text } }) })
  })

  it('a name that is not in the map', () => {
    void pipe([1], sse, { event: 'tick' })
    // @ts-expect-error: no such event
    void pipe([1], sse, { event: 'tock' })
  })

  it('an option that there is not', () => {
    // @ts-expect-error: misspelt
    void pipe([1], sse, { evnt: 'tick' })
  })
})

describe('the map of pipe', () => {
  it('may skip an item', () => {
    void pipe([1], sse, { map: () => null })
    void pipe([1], sse, { map: () => undefined })
    void pipe([1], sse, { map: (n) => (n > 1 ? { event: 'tick', data: n } : null) })
  })

  it('may make events of several names', () => {
    void pipe([1], sse, {
      map: (n) => (n > 1 ? { event: 'tick', data: n } : { event: 'note', data: { text: String(n) } }),
    })
  })

  it('may make any event of a connection without an event map', () => {
    void pipe([1], {} as SSEHandler, { map: (n) => ({ event: `n${n}`, data: { n }, id: '1' }) })
  })
})

describe('pipe', () => {
  it('says how it ended', () => {
    expectTypeOf(pipe([1], sse)).toEqualTypeOf<Promise<PipeResult>>()
    expectTypeOf<PipeResult>().toEqualTypeOf<{ outcome: 'ended' | 'closed'; events: number }>()
  })

  it('sends to whatever has a signal and gives permits', () => {
    expectTypeOf<SSEHandler<Events>>().toExtend<PipeTarget<Events>>()
    // @ts-expect-error: it gives no permits
    void pipe([1], { signal: new AbortController().signal })
  })

  it('takes a signal', () => {
    expectTypeOf<PipeOptions<number>['signal']>().toEqualTypeOf<AbortSignal | undefined>()
  })

  it('has one type for its sources, which the operators share', () => {
    expectTypeOf<number[]>().toExtend<Source<number>>()
    expectTypeOf<AsyncGenerator<number>>().toExtend<Source<number>>()
    expectTypeOf<ReadableStream<number>>().toExtend<Source<number>>()
    expectTypeOf<Readable>().toExtend<Source<unknown>>()
  })
})
