import { createParser, type EventSourceMessage } from 'eventsource-parser'
import fc from 'fast-check'
import { SSEError } from 'sluice'
import { describe, expect, it, vi } from 'vitest'
import { encodeComment, encodeEvent, encodeSettings, MAX_ID_BYTES, withId } from '../../src/wire/encode.js'
import type { EventInput } from '../../src/wire/event.js'

/** What a client makes of a stream. */
interface Received {
  events: EventSourceMessage[]
  comments: string[]
  retries: number[]
}

const SENTINEL = encodeEvent({ data: 'sentinel' })

/**
 * Reads a whole stream. A sentinel goes behind it: what the text before leaves open, such as a line or an event,
 * would show in it.
 */
function received(text: string, cuts: number[] = []): Received {
  const bytes = Buffer.from(text + SENTINEL)
  const decoder = new TextDecoder()
  const events: EventSourceMessage[] = []
  const comments: string[] = []
  const retries: number[] = []
  const parser = createParser({
    onEvent: (event) => void events.push(event),
    onComment: (comment) => void comments.push(comment),
    onRetry: (retryMs) => void retries.push(retryMs),
    onError(error) {
      throw error
    },
  })
  const places = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b)
  let start = 0
  for (const end of [...places, bytes.length]) {
    parser.feed(decoder.decode(bytes.subarray(start, end), { stream: true }))
    start = end
  }
  expect(events.pop()).toEqual({ data: 'sentinel' })
  return { events, comments, retries }
}

/** UTF-8 has no lone surrogates: each becomes U+FFFD. */
function inUtf8(text: string): string {
  return Buffer.from(text).toString()
}

/** What a client gets for a string of data. */
function asReceived(data: string): string {
  return inUtf8(data).replace(/\r\n|\r|\n/g, '\n')
}

function eventReceived({ event, id, data }: { event?: string; id?: string; data: string }) {
  return {
    data: asReceived(data),
    ...(event !== undefined && { event: inUtf8(event) }),
    ...(id !== undefined && { id: inUtf8(id) }),
  }
}

function refusalOf(act: () => unknown): SSEError {
  let error: unknown
  try {
    act()
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(SSEError)
  return error as SSEError
}

function expectRefused(act: () => unknown, message: RegExp): SSEError {
  const error = refusalOf(act)
  expect(error.code).toBe('ERR_SSE_INVALID_EVENT')
  expect(error.message).toMatch(message)
  expect(error.message).toMatch(/; expected .+\.$/)
  expect(error.message.length).toBeLessThan(500)
  return error
}

const pieces = fc.oneof(
  { weight: 2, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: 4 }) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      '\r',
      '\n',
      '\r\n',
      '\n\n',
      '\0',
      '\ud83d',
      '\ude00',
      '\ufeff',
      '\u2028',
      '\u2029',
      '\u0085',
      '\v',
      '\f',
      '\t',
      ' ',
      '  ',
      ':',
      'é',
      '😀',
      'data: x',
      'data',
      'event: y',
      'id: 7',
      'retry: 1',
      ': c',
    ),
  },
)
/** Any string a user may pass, mostly nasty. */
const anyText = fc.array(pieces, { maxLength: 12 }).map((parts) => parts.join(''))
const lineText = anyText.map((text) => text.replace(/[\r\n\0]/g, ''))
const validName = lineText.filter((text) => text !== '')
const validId = lineText.filter((text) => Buffer.byteLength(text) <= MAX_ID_BYTES)
const validEvent = fc.record(
  { event: validName, id: validId, retry: fc.maxSafeNat(), data: anyText },
  { requiredKeys: ['data'] },
)

describe('the encoder, read back by an event stream parser', () => {
  it('carries any string of data', () => {
    fc.assert(
      fc.property(anyText, (data) => {
        expect(received(encodeEvent({ data }))).toEqual({
          events: [{ data: asReceived(data) }],
          comments: [],
          retries: [],
        })
      }),
      { numRuns: 1000 },
    )
  })

  it.each([
    ['an empty string', '', ''],
    ['a leading space', ' x', ' x'],
    ['only spaces', '   ', '   '],
    ['a trailing LF', 'x\n', 'x\n'],
    ['only line breaks', '\n\r\r\n', '\n\n\n'],
    ['CR LF', 'a\r\nb', 'a\nb'],
    ['LF CR, which is two line breaks', 'a\n\rb', 'a\n\nb'],
    ['NUL', 'a\0b', 'a\0b'],
    ['a byte order mark in front', '\ufeffx', '\ufeffx'],
    ['line separators that are none to SSE', 'a\u2028b\u2029c\u0085d\ve\ff', 'a\u2028b\u2029c\u0085d\ve\ff'],
    ['a lone high surrogate', 'a\ud83d', 'a\ufffd'],
    ['a lone low surrogate', '\ude00a', '\ufffda'],
    ['a surrogate pair', '😀', '😀'],
    ['surrogates parted by a line break', '\ud83d\n\ude00', '\ufffd\n\ufffd'],
  ])('carries data with %s', (_, data, expected) => {
    expect(received(encodeEvent({ event: 'e', data })).events).toEqual([{ event: 'e', data: expected }])
  })

  it('carries any JSON value, in one line', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
        fc.pre(typeof value !== 'string')
        const { events } = received(encodeEvent({ data: value }))
        expect(events).toHaveLength(1)
        expect(events[0]?.data).toBe(JSON.stringify(value))
      }),
      { numRuns: 300 },
    )
  })

  it('carries strings inside JSON without a loss, lone surrogates included', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const { events } = received(encodeEvent({ data: { [text]: [text] } }))
        expect(events).toHaveLength(1)
        expect(Object.entries(JSON.parse(events[0]?.data ?? ''))).toEqual([[text, [text]]])
      }),
      { numRuns: 300 },
    )
  })

  it('carries any valid name, id and retry', () => {
    fc.assert(
      fc.property(validEvent, (event) => {
        const { events, comments, retries } = received(encodeEvent(event))
        expect(events).toEqual([eventReceived(event)])
        expect(comments).toEqual([])
        expect(retries).toEqual(event.retry === undefined ? [] : [event.retry])
      }),
      { numRuns: 1000 },
    )
  })

  it('carries several events one after another', () => {
    fc.assert(
      fc.property(fc.array(validEvent, { maxLength: 8 }), (events) => {
        const stream = received(events.map((event) => encodeEvent(event)).join(''))
        expect(stream.events).toEqual(events.map(eventReceived))
        expect(stream.retries).toEqual(events.flatMap(({ retry }) => retry ?? []))
      }),
      { numRuns: 300 },
    )
  })

  it('remembers the last name without giving it to another event', () => {
    const names = ['a', 'a', 'b', undefined, 'b', 'a', undefined]
    const text = names.map((event) => encodeEvent({ ...(event && { event }), data: 'x' })).join('')
    expect(received(text).events.map(({ event }) => event)).toEqual(names)
  })

  it('means the same wherever the network cuts the bytes', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            validEvent.map((event) => encodeEvent(event)),
            anyText.map((text) => encodeComment(text)),
            fc.maxSafeNat().map((retryMs) => encodeSettings(retryMs)),
          ),
          { minLength: 1, maxLength: 5 },
        ),
        fc.array(fc.nat(), { maxLength: 40 }),
        (blocks, cuts) => {
          const text = blocks.join('')
          expect(received(text, cuts)).toEqual(received(text))
        },
      ),
      { numRuns: 500 },
    )
  })

  it('means the same when each byte comes alone', () => {
    const text = encodeEvent({ event: 'é', id: '😀', retry: 5, data: 'a\r\n\ufeffb\ud83d\r😀\n' })
    const everyByte = Array.from({ length: Buffer.byteLength(text) + SENTINEL.length }, (_, at) => at)
    expect(received(text, everyByte)).toEqual({
      events: [{ event: 'é', id: '😀', data: 'a\n\ufeffb\ufffd\n😀\n' }],
      comments: [],
      retries: [5],
    })
  })
})

describe('the encoder, given any strings', () => {
  it('writes exactly the one event they say, or refuses it', () => {
    const anyEvent = fc.record(
      {
        event: anyText,
        id: fc.oneof(
          anyText,
          anyText.map((text) => text.repeat(40)),
        ),
        data: anyText,
      },
      { requiredKeys: ['data'] },
    )
    fc.assert(
      fc.property(anyEvent, (event) => {
        const isRefused =
          event.event === '' ||
          /[\r\n\0]/.test(`${event.event ?? ''}${event.id ?? ''}`) ||
          Buffer.byteLength(event.id ?? '') > MAX_ID_BYTES
        if (isRefused) {
          expectRefused(() => encodeEvent(event), /^The (event name|id) ".*(…)?" cannot be sent; /s)
          return
        }
        expect(received(encodeEvent(event))).toEqual({
          events: [eventReceived(event)],
          comments: [],
          retries: [],
        })
      }),
      { numRuns: 2000 },
    )
  })

  it('writes any comment as nothing but comment lines', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(received(encodeComment(text))).toEqual({
          events: [],
          comments: asReceived(text).split('\n'),
          retries: [],
        })
      }),
      { numRuns: 1000 },
    )
  })

  it('leaves the events around a comment as they are', () => {
    fc.assert(
      fc.property(validEvent, anyText, validEvent, (before, comment, after) => {
        const text = encodeEvent(before) + encodeComment(comment) + encodeEvent(after)
        expect(received(text).events).toEqual([before, after].map(eventReceived))
      }),
      { numRuns: 300 },
    )
  })
})

describe('encodeEvent', () => {
  it('sends undefined as an empty string, and an event without data too', () => {
    expect(encodeEvent({ data: undefined })).toBe('data: \n\n')
    expect(encodeEvent({ event: 'ping' })).toBe('event: ping\ndata: \n\n')
  })

  it('sends null, numbers and booleans as JSON', () => {
    expect(encodeEvent({ data: null })).toBe('data: null\n\n')
    expect(encodeEvent({ data: 0 })).toBe('data: 0\n\n')
    expect(encodeEvent({ data: false })).toBe('data: false\n\n')
    expect(encodeEvent({ data: Number.NaN })).toBe('data: null\n\n')
  })

  it('asks toJSON, and sends a string that it gives as JSON', () => {
    expect(encodeEvent({ data: new Date(0) })).toBe('data: "1970-01-01T00:00:00.000Z"\n\n')
    expect(encodeEvent({ data: { toJSON: () => 'a\nb' } })).toBe('data: "a\\nb"\n\n')
  })

  it('takes an empty id, which clears the position of the client', () => {
    expect(received(encodeEvent({ id: '', data: 'x' })).events).toEqual([{ id: '', data: 'x' }])
  })

  it.each([
    ['ASCII', 'x'.repeat(1024)],
    ['2-byte characters', 'é'.repeat(512)],
    ['3-byte characters', `${'€'.repeat(341)}x`],
    ['4-byte characters', '😀'.repeat(256)],
    ['lone surrogates', `${'\ud83d'.repeat(341)}x`],
  ])('takes an id of 1,024 bytes of %s, and not one more', (_, id) => {
    expect(Buffer.byteLength(id)).toBe(1024)
    expect(received(encodeEvent({ id, data: '' })).events).toEqual([{ id: inUtf8(id), data: '' }])
    expectRefused(
      () => encodeEvent({ id: `${id}x`, data: '' }),
      /^The id ".+…" cannot be sent; expected a string of up to 1024 bytes without CR, LF or NUL\.$/,
    )
  })

  it.each([
    ['id with CR', { id: 'a\rb' }, /^The id "a\\rb" cannot be sent; .* without CR, LF or NUL/],
    ['id with LF', { id: 'a\n' }, /^The id "a\\n" cannot be sent; .* without CR, LF or NUL/],
    ['id with NUL', { id: '\0' }, /^The id "\\u0000" cannot be sent; .* without CR, LF or NUL/],
    ['id that is a number', { id: 5 }, /^The id 5 cannot be sent; expected a string/],
    ['id that is null', { id: null }, /^The id null cannot be sent; expected a string/],
    ['name with CR', { event: 'a\r' }, /^The event name "a\\r" cannot be sent; .* no CR, LF or NUL/],
    ['name with LF', { event: '\na' }, /^The event name "\\na" cannot be sent; .* no CR, LF or NUL/],
    ['name with NUL', { event: 'a\0' }, /^The event name "a\\u0000" cannot be sent; .* no CR, LF or NUL/],
    ['name that is empty', { event: '' }, /^The event name "" cannot be sent; .* not empty/],
    ['name that is a number', { event: 5 }, /^The event name 5 cannot be sent; expected a string/],
    ['name that is an object', { event: {} }, /^The event name an object cannot be sent; expected a string/],
    [
      'name that is a symbol',
      { event: Symbol('s') },
      /^The event name Symbol\(s\) cannot be sent; expected a/,
    ],
    [
      'retry of -1',
      { retry: -1 },
      /^A retry of -1 cannot be sent; expected whole milliseconds, 0 or more\.$/,
    ],
    ['retry of 1.5', { retry: 1.5 }, /^A retry of 1\.5 cannot be sent; expected whole milliseconds/],
    ['retry of NaN', { retry: Number.NaN }, /^A retry of NaN cannot be sent; expected whole milliseconds/],
    ['retry of Infinity', { retry: Infinity }, /^A retry of Infinity cannot be sent; expected whole/],
    ['retry of 2 ** 53', { retry: 2 ** 53 }, /^A retry of 9007199254740992 cannot be sent; expected whole/],
    ["retry of '5'", { retry: '5' }, /^A retry of "5" cannot be sent; expected whole milliseconds/],
    ['retry of null', { retry: null }, /^A retry of null cannot be sent; expected whole milliseconds/],
  ])('refuses an %s, and says what it takes', (_, fields, message) => {
    expectRefused(() => encodeEvent({ event: 'tick', data: 'x', ...fields } as EventInput), message)
  })

  it('refuses a name of null, also before any name was sent', async () => {
    vi.resetModules()
    const { encodeEvent: encodeFirst } = await import('../../src/wire/encode.js')
    const input = { event: null, data: 'event: forged\ndata: forged' } as unknown as EventInput
    expect(() => encodeFirst(input)).toThrow(/^The event name null cannot be sent; expected a string/)
    expectRefused(() => encodeEvent(input), /^The event name null cannot be sent; expected a string/)
  })

  it.each([undefined, null, 'text', 5, true, () => {}])('refuses %s in the place of an event', (input) => {
    expectRefused(
      () => encodeEvent(input as unknown as EventInput),
      /^An event is .+; expected an object such as { event, data }\.$/,
    )
  })

  it('refuses circular data, naming the event', () => {
    const data: Record<string, unknown> = {}
    data.self = data
    const error = expectRefused(
      () => encodeEvent({ event: 'tick', data }),
      /^The data of event "tick" cannot be serialised: Converting circular structure to JSON; expected a string or a value that JSON\.stringify takes\.$/,
    )
    expect(error.cause).toBeInstanceOf(TypeError)
  })

  it('refuses a BigInt, naming the event', () => {
    const error = expectRefused(
      () => encodeEvent({ data: { amount: 1n } }),
      /^The data of event "message" cannot be serialised: .*BigInt.*; expected /,
    )
    expect(error.cause).toBeInstanceOf(TypeError)
  })

  it.each([
    ['a function', () => {}],
    ['a symbol', Symbol('s')],
    ['an object whose toJSON gives nothing', { toJSON: () => undefined }],
  ])('refuses data that is %s', (_, data) => {
    const error = expectRefused(
      () => encodeEvent({ event: 'tick', data }),
      /^The data of event "tick" cannot be serialised; expected a string or a value that JSON\.stringify takes\.$/,
    )
    expect(error.cause).toBeUndefined()
  })

  it.each([
    ['an Error', new Error('no luck\nat all'), /cannot be serialised: no luck; expected/],
    ['a string', 'no luck', /cannot be serialised; expected/],
    [
      'an Error without a message that is text',
      Object.assign(new Error(), { message: undefined }),
      /serialised/,
    ],
  ])('keeps what a toJSON throws as the cause: %s', (_, thrown, message) => {
    const data = {
      toJSON() {
        throw thrown
      },
    }
    const error = expectRefused(() => encodeEvent({ event: 'tick', data }), message)
    expect(error.cause).toBe(thrown)
  })

  it('is not disturbed by a refused event', () => {
    expectRefused(() => encodeEvent({ event: 'bad\n', data: 'x' }), /cannot be sent/)
    expect(encodeEvent({ event: 'good', data: 'x' })).toBe('event: good\ndata: x\n\n')
  })
})

describe('encodeComment', () => {
  it('makes each line a comment line', () => {
    expect(encodeComment('')).toBe(': \n\n')
    expect(encodeComment('a\r\nb\rc\n')).toBe(': a\n: b\n: c\n: \n\n')
  })

  it.each([undefined, null, 5, {}])('refuses %s', (text) => {
    expectRefused(() => encodeComment(text as unknown as string), /^A comment is .+; expected a string\.$/)
  })
})

describe('encodeSettings', () => {
  it('sets the delay without an event', () => {
    expect(encodeSettings(1500)).toBe('retry: 1500\n\n')
    expect(received(encodeSettings(0))).toEqual({ events: [], comments: [], retries: [0] })
  })

  it('sets the position as well when there is one', () => {
    expect(encodeSettings(1500, 'e-7')).toBe('retry: 1500\nid: e-7\n\n')
    expect(encodeSettings(1500, '')).toBe('retry: 1500\nid: \n\n')
  })

  it('refuses a delay or an id that cannot be sent', () => {
    expectRefused(() => encodeSettings(-1), /^A retry of -1 cannot be sent; /)
    expectRefused(() => encodeSettings(1, 'a\nb'), /^The id "a\\nb" cannot be sent; /)
  })
})

describe('withId', () => {
  it('changes nothing of a block but its id', () => {
    fc.assert(
      fc.property(validEvent, validId, ({ id: _, ...event }, id) => {
        const { events, retries } = received(withId(id, encodeEvent(event)))
        expect(events).toEqual([eventReceived({ ...event, id })])
        expect(retries).toEqual(event.retry === undefined ? [] : [event.retry])
      }),
      { numRuns: 300 },
    )
  })
})
