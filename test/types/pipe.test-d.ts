import { Readable } from 'node:stream'
import type { ReadableStream as NodeWebStream } from 'node:stream/web'
import {
  type EventNameFor,
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

  it('a name whose data the items are not', () => {
    // @ts-expect-error: a note is an object with a text
    void pipe([1], sse, { event: 'note' })
    // @ts-expect-error: a tick is a number
    void pipe(['1'], sse, { event: 'tick' })
    // @ts-expect-error: only some of the items are numbers
    void pipe([1, '1'], sse, { event: 'tick' })
    // @ts-expect-error: a part of the data is missing
    void pipe([{}], sse, { event: 'note' })
    // @ts-expect-error: a number may be missing
    void pipe([1, undefined], sse, { event: 'tick' })
    // @ts-expect-error: bytes become a string
    void pipe([new Uint8Array(1)], sse, { event: 'tick' })
    // @ts-expect-error: a function gives the same items
    void pipe(async () => ['1'], sse, { event: 'tick' })
    const options: PipeOptions<string, Events> = {
      // @ts-expect-error: a tick is a number
      event: 'tick',
    }
    void options
  })

  it('an option that there is not', () => {
    // @ts-expect-error: misspelt
    void pipe([1], sse, { evnt: 'tick' })
  })
})

describe('the event of pipe', () => {
  it('may be each one whose data the items are', () => {
    void pipe([1], sse, { event: 'tick' })
    void pipe(async () => [{ text: 'hello', more: true }], sse, { event: 'note' })
    void pipe([1, '1'], {} as SSEHandler<{ either: number | string }>, { event: 'either' })
    void pipe([1], {} as SSEHandler<{ any: unknown }>, { event: 'any' })
    expectTypeOf<EventNameFor<number, Events>>().toEqualTypeOf<'tick'>()
    expectTypeOf<EventNameFor<Date, Events>>().toEqualTypeOf<never>()
    expectTypeOf<EventNameFor<number, { a: number; b: 1; c: unknown; d: string }>>().toEqualTypeOf<
      'a' | 'c'
    >()
  })

  it('is one of a string for bytes, which are decoded', () => {
    type Texts = { text: string; bytes: Uint8Array; tick: number }
    const texts = {} as SSEHandler<Texts>
    void pipe([new Uint8Array(1)], texts, { event: 'text' })
    void pipe({} as ReadableStream<Uint8Array>, texts, { event: 'text' })
    void pipe([Buffer.from('a')], texts, { event: 'text' })
    void pipe(['text', new Uint8Array(1)], texts, { event: 'text' })
    // @ts-expect-error: the client gets a string
    void pipe([new Uint8Array(1)], texts, { event: 'bytes' })
    expectTypeOf<EventNameFor<Uint8Array, Texts>>().toEqualTypeOf<'text'>()
  })

  it('may be any when the items have no type, and any name without an event map', () => {
    void pipe(Readable.from(['a']), sse, { event: 'tick' })
    void pipe([1], {} as SSEHandler, { event: 'anything' })
    void pipe([new Uint8Array(1)], {} as SSEHandler, { event: 'anything' })
  })

  it('may be undefined, and so may the other options', () => {
    void pipe([1], sse, { event: undefined, map: undefined, signal: undefined })
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
