import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import { EventStreamReader } from 'sluice/testing'
import { describe, expect, it } from 'vitest'

/** Without a byte order mark, which that parser looks for in another encoding. */
const PIECES = ['data', 'event', 'id', 'retry', ':', ' ', '\n', '\r', '\r\n', '\n\n', '12', 'é', 'x', '\0']

/** Reads a text in the pieces that it is cut into. */
function readIn(pieces: string[]) {
  const reader = new EventStreamReader()
  for (const piece of pieces) reader.feed(piece)
  return reader
}

describe('the reader of the test kit', () => {
  it('gets the events that eventsource-parser gets, however the text is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...PIECES), { maxLength: 60 }),
        fc.array(fc.nat(40), { maxLength: 8 }),
        (parts, cuts) => {
          const text = `${parts.join('')}\n\n`
          const expected: unknown[] = []
          createParser({
            onEvent: ({ event, data }) => void expected.push({ event: event || undefined, data }),
          }).feed(text)
          const pieces: string[] = []
          let rest = text
          for (const cut of cuts) {
            pieces.push(rest.slice(0, cut))
            rest = rest.slice(cut)
          }
          const { events } = readIn([...pieces, rest])
          expect(events.map(({ event, data }) => ({ event, data }))).toEqual(expected)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('reads every kind of line break, also one that is cut in two', () => {
    const { events } = readIn(['data: a\r', '\ndata: b\rdata: c\n', '\r', '\n', 'data: d\r\r', 'data: e'])
    expect(events.map(({ data }) => data)).toEqual(['a\nb\nc', 'd'])
  })

  it('keeps ids, delays and comments as browsers do', () => {
    const reader = new EventStreamReader('before')
    expect(reader.lastEventId).toBe('before')
    reader.feed(
      '\uFEFF: hello\nretry: 10\nretry: soon\nid: 1\ndata\n\nid: 2\n\nid: a\0b\nevent: named\ndata:x\n\n',
    )
    expect(reader.events).toEqual([
      { event: undefined, data: '', id: '1' },
      { event: 'named', data: 'x', id: undefined },
    ])
    expect([reader.lastEventId, reader.retryMs, reader.comments]).toEqual(['2', 10, ['hello']])
    reader.feed('id\ndata: cleared\n\n')
    expect(reader.lastEventId).toBe('')
  })
})
