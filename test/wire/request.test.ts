import fc from 'fast-check'
import { createSSEHandler } from 'sluice'
import { describe, expect, it } from 'vitest'
import { HEADERS_TO_REMOVE, STREAM_HEADERS, streamHeaders } from '../../src/wire/headers.js'
import { answerTo, type StreamAnswer } from '../../src/wire/request.js'
import { connect } from '../support/client.js'
import { serve } from '../support/server.js'

interface Asked {
  method?: string
  url?: string
  headers?: Record<string, string>
}

function answer({ method = 'GET', url = '/events', headers = {} }: Asked = {}): StreamAnswer {
  return answerTo({ method, url, header: (name) => headers[name] })
}

function streamFor(asked: Asked): StreamAnswer & { stream: true } {
  const given = answer(asked)
  if (!given.stream) throw new Error(`Expected a stream, got a ${given.status}.`)
  return given
}

/** A header value as Node reads it off the wire: one character for each byte. */
function asNodeReads(value: string): string {
  return Buffer.from(value).toString('latin1')
}

/** Text that survives UTF-8. */
const wellFormed = fc.string({ unit: 'binary' })

describe('the head of a stream', () => {
  it('names the type and keeps proxies from storing, changing and gathering the stream', () => {
    expect(streamFor({}).headers).toEqual({
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-cache, no-transform',
      'X-Accel-Buffering': 'no',
    })
  })

  it('is the same for everybody and cannot be changed by anybody', () => {
    expect(streamFor({}).headers).toBe(STREAM_HEADERS)
    expect(Object.isFrozen(STREAM_HEADERS)).toBe(true)
  })

  it('goes without the headers that describe a body of known length or form', () => {
    expect(HEADERS_TO_REMOVE).toEqual(['Content-Length', 'Content-Encoding', 'ETag'])
  })
})

describe('more headers in the head', () => {
  it.each([
    ['one of one hop only', { 'HTTP2-Settings': 'a' }],
    ['a name twice, in two cases', { 'Content-Location': 'a', 'content-location': 'b' }],
  ])('are refused when they have %s', (_, headers) => {
    expect(() => streamHeaders(headers)).toThrow(expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }))
  })
})

describe('the position of a client', () => {
  it('is null for a client that comes for the first time', () => {
    expect(streamFor({})).toMatchObject({ lastEventId: null, paddingBytes: 0 })
    expect(streamFor({ url: '/events?topic=a' })).toMatchObject({ lastEventId: null, paddingBytes: 0 })
    expect(streamFor({ url: '/events?' })).toMatchObject({ lastEventId: null, paddingBytes: 0 })
  })

  it('is read from Last-Event-ID', () => {
    expect(streamFor({ headers: { 'last-event-id': 'e-7' } }).lastEventId).toBe('e-7')
  })

  it('is read from Last-Event-ID as the UTF-8 that browsers send', () => {
    fc.assert(
      fc.property(wellFormed, (id) => {
        fc.pre(id !== '')
        expect(streamFor({ headers: { 'last-event-id': asNodeReads(id) } }).lastEventId).toBe(id)
      }),
    )
  })

  it('is what a client sent in UTF-8 over a real socket', async () => {
    const seen: (string | null)[] = []
    const { url } = await serve((req, res) => void seen.push(createSSEHandler(req, res).lastEventId))
    await connect(url, { headers: { 'last-event-id': asNodeReads('añb😀-7') } })
    await connect(`${url}?lastEventId=${encodeURIComponent('añb😀-8')}`)
    expect(seen).toEqual(['añb😀-7', 'añb😀-8'])
  })

  it('keeps bytes that are no UTF-8 from looking like an id that was given out', () => {
    expect(streamFor({ headers: { 'last-event-id': 'e\xff-7' } }).lastEventId).toBe('e\ufffd-7')
  })

  it.each(['lastEventId', 'evs_last_event_id'])('is read from the query name %s of the polyfills', (name) => {
    fc.assert(
      fc.property(wellFormed, wellFormed, (id, other) => {
        fc.pre(id !== '')
        const url = `/events?q=${encodeURIComponent(other)}&${name}=${encodeURIComponent(id)}`
        expect(streamFor({ url }).lastEventId).toBe(id)
      }),
    )
  })

  it('is read from the query of a whole URL as well', () => {
    expect(streamFor({ url: 'https://example.com/events?lastEventId=e-7' }).lastEventId).toBe('e-7')
  })

  it.each(['lastEventId', 'evs_last_event_id'])(
    'is the header, when the header and %s are both there',
    (name) => {
      const url = `/events?${name}=old-1`
      expect(streamFor({ url, headers: { 'last-event-id': 'new-2' } }).lastEventId).toBe('new-2')
    },
  )

  it.each([
    ['an empty header', '/events', '', null],
    ['an empty query value', '/events?lastEventId=', undefined, null],
    ['an empty header beside a query value', '/events?lastEventId=e-7', '', 'e-7'],
    ['an empty query value beside a header', '/events?lastEventId=', 'e-7', 'e-7'],
    ['one empty query name beside the other', '/events?lastEventId=&evs_last_event_id=e-7', undefined, 'e-7'],
    ['both query names', '/events?evs_last_event_id=e-8&lastEventId=e-7', undefined, 'e-7'],
    ['a query name in another case', '/events?LASTEVENTID=e-7', undefined, null],
    ['a broken escape in the query', '/events?lastEventId=%zz', undefined, '%zz'],
  ])('with %s', (_, url, header, expected) => {
    const headers = header === undefined ? {} : { 'last-event-id': header }
    expect(streamFor({ url, headers }).lastEventId).toBe(expected)
  })

  it('may be 10 kB long; the log decides what to make of it', () => {
    const id = 'x'.repeat(10_000)
    expect(streamFor({ headers: { 'last-event-id': id } }).lastEventId).toBe(id)
    expect(streamFor({ url: `/events?lastEventId=${id}` }).lastEventId).toBe(id)
  })
})

describe('the padding for old browsers', () => {
  it.each([
    ['/events?padding=true', 2056],
    ['/events?evs_preamble=2056', 2056],
    ['/events?lastEventId=e-7&padding=true', 2056],
    ['/events?paddings=true', 0],
    ['/padding', 0],
  ])('for %s is %i bytes', (url, paddingBytes) => {
    expect(streamFor({ url }).paddingBytes).toBe(paddingBytes)
  })

  it('comes with the position of the same query', () => {
    expect(streamFor({ url: '/events?evs_last_event_id=e-7&evs_preamble=2056' })).toMatchObject({
      lastEventId: 'e-7',
      paddingBytes: 2056,
    })
  })
})

describe('an Accept header', () => {
  it.each([
    ['nothing', undefined],
    ['an empty value', ''],
    ['spaces', '  '],
    ['anything', '*/*'],
    ['any text', 'text/*'],
    ['event streams', 'text/event-stream'],
    ['event streams, in capitals', 'Text/Event-Stream'],
    ['event streams with a parameter', 'text/event-stream; charset=utf-8'],
    ['event streams with a low quality', 'text/event-stream;q=0.001'],
    ['JSON and event streams, as MCP clients do', 'application/json, text/event-stream'],
    ['event streams and JSON', 'text/event-stream,application/json'],
    ['JSON and anything', 'application/json, */*;q=0.1'],
    ['no other text than event streams', 'text/*;q=0, text/event-stream'],
    ['nothing else than event streams', 'text/event-stream, */*;q=0'],
    ['nothing else than text', '*/*;q=0, text/*;q=0.5'],
  ])('that allows %s gets the stream', (_, accept) => {
    expect(answer({ headers: accept === undefined ? {} : { accept } })).toMatchObject({ stream: true })
  })

  it.each([
    ['JSON only', 'application/json'],
    ['HTML and images', 'text/html, image/*'],
    ['a type that only begins like event streams', 'text/event-stream-2'],
    ['everything but event streams', 'text/event-stream;q=0, */*'],
    ['everything but event streams, the other way round', '*/*, text/event-stream;q=0'],
    ['everything but event streams, spelt with zeros', 'text/event-stream ; Q=0.000, text/*'],
    ['everything but text', 'text/*;q=0.0, */*'],
    ['nothing at all', '*/*;q=0.'],
  ])('that allows %s gets a 406 that says so', (_, accept) => {
    const given = answer({ headers: { accept } })
    if (given.stream) throw new Error('Expected a 406, got a stream.')
    expect(given.status).toBe(406)
    expect(given.headers).toEqual({ 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store' })
    expect(JSON.parse(given.body)).toEqual({
      type: 'about:blank',
      title: 'Not Acceptable',
      status: 406,
      detail: expect.stringContaining('must allow text/event-stream'),
    })
  })

  it('never throws, whatever it says', () => {
    const item = fc.oneof(
      fc.constantFrom('*/*', 'text/*', 'text/event-stream', 'a/b', '', 'q=0', ';q=0', ';q=1', ';', ',', '='),
      fc.string({ unit: 'binary-ascii' }),
    )
    fc.assert(
      fc.property(fc.array(item), (items) => {
        const given = answer({ headers: { accept: items.join('') } })
        expect(given.stream || given.status === 406).toBe(true)
      }),
    )
  })
})

describe('a method', () => {
  it.each(['GET', 'POST', 'PUT', 'DELETE'])('%s gets the stream', (method) => {
    expect(answer({ method })).toMatchObject({ stream: true })
  })

  it('HEAD gets the head alone, whatever it accepts', () => {
    const head = { stream: false, status: 200, headers: STREAM_HEADERS, body: '' }
    expect(answer({ method: 'HEAD' })).toEqual(head)
    expect(answer({ method: 'HEAD', headers: { accept: 'application/json' } })).toEqual(head)
  })
})
