import { createParser } from 'eventsource-parser'
import fc from 'fast-check'
import {
  createMemoryLog,
  type EventInput,
  type EventLog,
  type Gap,
  SSEError,
  type SSEHandlerOptions,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { formatEventId } from '../../src/buffer/event-id.js'
import { locate } from '../../src/buffer/event-log.js'
import { resolveHandlerOptions } from '../../src/handler/options.js'
import { Outbox } from '../../src/handler/outbox.js'
import { encodeComment, encodeEvent, encodeSettings } from '../../src/wire/encode.js'
import type { Frame } from '../../src/wire/frame.js'
import { ManualClock } from '../support/clock.js'

const ALL = Number.POSITIVE_INFINITY

interface SeenEvent {
  event: string
  data: unknown
  id: string | undefined
}

/** What a client sees of a stream, in order. */
type Seen = SeenEvent | { comment: string } | { retry: number }

function seenIn(frames: string[]): Seen[] {
  const seen: Seen[] = []
  const parser = createParser({
    onEvent: ({ event = 'message', data, id }) => void seen.push({ event, data: JSON.parse(data), id }),
    onComment: (comment) => void seen.push({ comment }),
    onRetry: (retry) => void seen.push({ retry }),
  })
  parser.feed(frames.join(''))
  return seen
}

/** The events of one name in a stream. */
function seenOf(event: string, frames: string[]): SeenEvent[] {
  return seenIn(frames).filter((seen): seen is SeenEvent => 'event' in seen && seen.event === event)
}

function makeOutbox(options: SSEHandlerOptions = {}) {
  const gaps: Gap[] = []
  const outbox = new Outbox(resolveHandlerOptions(options), { gapMet: (gap) => void gaps.push(gap) })
  return { outbox, gaps }
}

/** An outbox behind its first event. */
function makeOpenOutbox(options: SSEHandlerOptions = {}, lastEventId: string | null = null) {
  const { outbox, gaps } = makeOutbox(options)
  outbox.open('session', lastEventId, 0)
  taken(outbox, 1)
  return { outbox, gaps }
}

function taken(outbox: Outbox<Record<string, unknown>>, maxBytes = ALL): string[] {
  const into: Frame[] = []
  outbox.take(maxBytes, into)
  outbox.written()
  return into.map((frame) => Buffer.from(frame).toString())
}

function tick(data: unknown): string {
  return encodeEvent({ event: 'tick', data: JSON.stringify(data) })
}

/** Appends events whose data is their own sequence. */
function appendTicks(log: EventLog, count: number): void {
  for (let i = 0; i < count; i += 1) log.append(tick(log.next))
}

/** A log of the epoch `here` that holds the sequences from `oldest` on, before `next`. */
function logFrom(oldest: number, next: number): EventLog {
  const log = createMemoryLog({ maxEvents: Math.max(1, next - oldest), epoch: 'here' })
  appendTicks(log, next - 1)
  expect([log.oldest, log.next]).toEqual([oldest, next])
  return log
}

function ticksFrom(first: number, end: number): Seen[] {
  return Array.from({ length: end - first }, (_, index) => ({
    event: 'tick',
    data: first + index,
    id: `here-${first + index}`,
  }))
}

function gapEvent(gap: Gap, id: string): Seen {
  return { event: 'gap', data: gap, id }
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

describe('what a client gets first', () => {
  it('is the event connected with the session, and the delay before it reconnects', () => {
    const { outbox } = makeOutbox({ retryMs: 1234 })
    outbox.open('abc', null, 0)
    expect(seenIn(taken(outbox))).toEqual([
      { retry: 1234 },
      { event: 'connected', data: { sessionId: 'abc' }, id: undefined },
    ])
  })

  it('is given once', () => {
    const { outbox } = makeOutbox()
    outbox.open('abc', null, 0)
    taken(outbox)
    expect(outbox.isEmpty).toBe(true)
    expect(taken(outbox)).toEqual([])
  })

  it('begins with a comment of the padding that an old browser waits for', () => {
    const { outbox } = makeOutbox()
    outbox.open('abc', null, 2056)
    const [head = ''] = taken(outbox)
    expect(head).toMatch(/^: {2057}\n\nretry: /)
  })

  it('may be another event, with its own delay and id', () => {
    const { outbox } = makeOutbox({
      firstEvent: { event: 'endpoint', data: '"/messages"', retry: 7, id: 'mine' },
    })
    outbox.open('abc', null, 0)
    expect(seenIn(taken(outbox))).toEqual([
      { retry: 7 },
      { event: 'endpoint', data: '/messages', id: 'mine' },
    ])
  })

  it('may be no event at all, and still sets the delay', () => {
    const { outbox } = makeOutbox({ firstEvent: false, retryMs: 5 })
    outbox.open('abc', null, 0)
    expect(taken(outbox)).toEqual(['retry: 5\n\n'])
  })

  it('is refused when it cannot be sent', () => {
    const { outbox } = makeOutbox({ firstEvent: { event: 'a\nb' } })
    expect(refusalOf(() => outbox.open('abc', null, 0)).code).toBe('ERR_SSE_INVALID_EVENT')
  })

  it.each([
    ['newest', null, 'here-9'],
    ['oldest', null, 'here-4'],
    ['newest', 'here-7', 'here-7'],
    ['newest', 'here-9', 'here-9'],
    ['oldest', 'here-4', 'here-4'],
  ] as const)('with a log carries the position: start %s, asked %s, at %s', (start, lastEventId, id) => {
    const { outbox } = makeOutbox({ log: logFrom(5, 10), replay: { start } })
    outbox.open('abc', lastEventId, 0)
    expect(outbox.lastId).toBe(id)
    expect(seenIn(taken(outbox))[1]).toEqual({ event: 'connected', data: { sessionId: 'abc' }, id })
  })

  it('in an empty log is the position before the first event', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOutbox({ log })
    outbox.open('abc', null, 0)
    expect(seenIn(taken(outbox))[1]).toMatchObject({ id: 'here-0' })
    appendTicks(log, 1)
    const { outbox: later } = makeOpenOutbox({ log }, 'here-0')
    expect(later.lastId).toBe('here-1')
  })

  it('carries the position in front of no event as well', () => {
    const { outbox } = makeOutbox({ log: logFrom(5, 10), firstEvent: false, retryMs: 5 })
    outbox.open('abc', 'here-9', 0)
    expect(taken(outbox)).toEqual([encodeSettings(5, 'here-9')])
  })

  it('carries no position when a gap follows, which carries it', () => {
    const { outbox } = makeOutbox({ log: logFrom(5, 10) })
    outbox.open('abc', 'here-2', 0)
    const [, first, gap] = seenIn(taken(outbox))
    expect(first).toEqual({ event: 'connected', data: { sessionId: 'abc' }, id: undefined })
    expect(gap).toMatchObject({ event: 'gap', id: 'here-4' })
  })

  it.each([
    ['without a position', null],
    ['with a position that is held', 'here-7'],
    ['with a position that is not held', 'here-2'],
  ])('may have no id of its own beside a log, for a client %s', (_, lastEventId) => {
    const { outbox } = makeOutbox({ log: logFrom(5, 10), firstEvent: { data: 'x', id: 'mine' } })
    const error = refusalOf(() => outbox.open('abc', lastEventId, 0))
    expect(error.code).toBe('ERR_SSE_INVALID_EVENT')
    expect(error.message).toMatch(
      /^The event has an id, but the ids are given by the log .*; leave the id out/,
    )
  })
})

describe('the order of what is owed', () => {
  it('is head, delay, comments, events, last words, whatever the order they came in', () => {
    const { outbox } = makeOutbox({ retryMs: 1 })
    outbox.setTail(tick('last'))
    outbox.accept(tick('a'))
    outbox.addComment(encodeComment('one'))
    outbox.setRetry(2)
    outbox.accept(tick('b'))
    outbox.addComment(encodeComment('two'))
    outbox.open('abc', null, 0)
    expect(seenIn(taken(outbox))).toEqual([
      { retry: 1 },
      { event: 'connected', data: { sessionId: 'abc' }, id: undefined },
      { retry: 2 },
      { comment: 'one' },
      { comment: 'two' },
      { event: 'tick', data: 'a', id: undefined },
      { event: 'tick', data: 'b', id: undefined },
      { event: 'tick', data: 'last', id: undefined },
    ])
    expect(outbox.isEmpty).toBe(true)
  })

  it('has the gap behind the comments and before the events', () => {
    const { outbox } = makeOutbox({ log: logFrom(5, 7), retryMs: 1 })
    outbox.open('abc', 'here-1', 0)
    outbox.setTail(tick('last'))
    outbox.addComment(encodeComment('one'))
    outbox.setRetry(2)
    expect(seenIn(taken(outbox))).toEqual([
      { retry: 1 },
      { event: 'connected', data: { sessionId: 'abc' }, id: undefined },
      { retry: 2 },
      { comment: 'one' },
      gapEvent({ asked: 'here-1', oldest: 'here-5', cause: 'evicted', continues: 'oldest' }, 'here-4'),
      ...ticksFrom(5, 7),
      { event: 'tick', data: 'last', id: undefined },
    ])
  })

  it('has of several delays only the last', () => {
    const { outbox } = makeOpenOutbox()
    outbox.setRetry(1)
    outbox.setRetry(2)
    expect(taken(outbox)).toEqual(['retry: 2\n\n'])
  })

  it('has the last words only behind the last event', () => {
    const { outbox } = makeOpenOutbox()
    for (const data of [1, 2, 3]) outbox.accept(tick(data))
    outbox.setTail(tick('last'))
    expect(taken(outbox, 1)).toEqual([tick(1)])
    expect(taken(outbox, 1)).toEqual([tick(2)])
    expect(outbox.isEmpty).toBe(false)
    expect(taken(outbox, 1)).toEqual([tick(3), tick('last')])
    expect(outbox.isEmpty).toBe(true)
  })

  it('has the last words alone when nothing else is owed', () => {
    const { outbox } = makeOpenOutbox()
    outbox.setTail(tick('last'))
    expect(outbox.isEmpty).toBe(false)
    expect(taken(outbox)).toEqual([tick('last')])
  })

  it('has a heartbeat only where nothing else is written', () => {
    const { outbox } = makeOpenOutbox()
    outbox.setHeartbeat(encodeComment('beat'))
    expect(outbox.isEmpty).toBe(false)
    expect(taken(outbox)).toEqual([': beat\n\n'])
    expect(outbox.isEmpty).toBe(true)
    outbox.setHeartbeat(encodeComment('beat'))
    outbox.accept(tick(1))
    expect(taken(outbox)).toEqual([tick(1)])
    expect(taken(outbox)).toEqual([])
  })

  it('has comments up to maxEventBytes, and refuses one more without losing those it has', () => {
    const { outbox } = makeOpenOutbox({ maxEventBytes: 20, firstEvent: false })
    const comment = encodeComment('é12')
    expect(Buffer.byteLength(comment)).toBe(8)
    expect([outbox.addComment(comment), outbox.addComment(comment)]).toEqual([true, true])
    expect(outbox.addComment(encodeComment('é'))).toBe(false)
    expect(outbox.addComment(encodeComment(''))).toBe(true)
    expect(taken(outbox)).toEqual([`${comment}${comment}: \n\n`])
    expect(outbox.addComment(comment)).toBe(true)
  })
})

describe('an event', () => {
  it('may be as large as maxEventBytes, encoded, and not one byte larger', () => {
    for (const unit of ['x', 'é', '€', '😀', '\ud83d']) {
      const event = { event: 'tick', data: unit.repeat(100) }
      const bytes = Buffer.byteLength(encodeEvent(event))
      expect(makeOpenOutbox({ maxEventBytes: bytes }).outbox.encode(event)).toBe(encodeEvent(event))
      const error = refusalOf(() => makeOpenOutbox({ maxEventBytes: bytes - 1 }).outbox.encode(event))
      expect(error.code).toBe('ERR_SSE_EVENT_TOO_LARGE')
      expect(error.message).toBe(
        `The event is ${bytes} bytes encoded, more than the ${bytes - 1} of maxEventBytes; send less, split it, or raise the limit.`,
      )
    }
  })

  it('may have an id of its own without a log only', () => {
    const event: EventInput = { id: 'mine', data: 'x' }
    expect(makeOpenOutbox().outbox.encode(event)).toBe('id: mine\ndata: x\n\n')
    const error = refusalOf(() => makeOpenOutbox({ log: createMemoryLog() }).outbox.encode(event))
    expect(error.code).toBe('ERR_SSE_INVALID_EVENT')
  })

  it('that the log cannot keep is not owed, and the cause is told', () => {
    const cause = new Error('disk full')
    const log = createMemoryLog({ epoch: 'here' })
    const failing: EventLog = {
      epoch: log.epoch,
      maxEvents: log.maxEvents,
      maxBytes: log.maxBytes,
      oldest: 1,
      next: 1,
      append() {
        throw cause
      },
      read: (from, to, maxBytes, into) => log.read(from, to, maxBytes, into),
      frameAt: (sequence) => log.frameAt(sequence),
      bytesFrom: (from) => log.bytesFrom(from),
      labelAt: (sequence) => log.labelAt(sequence),
      onAppend: (listener) => log.onAppend(listener),
    }
    const { outbox } = makeOpenOutbox({ log: failing })
    const error = refusalOf(() => outbox.accept(tick(1)))
    expect(error.code).toBe('ERR_SSE_LOG_FAILED')
    expect(error.cause).toBe(cause)
    expect(error.message).toMatch(/ was not sent; see the cause, and send again/)
    expect([outbox.isEmpty, outbox.length]).toEqual([true, 0])
  })

  it('goes to the log alone when there is one: once for the log, once for the client', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log })
    outbox.accept(tick(1))
    expect([log.next, outbox.length]).toEqual([2, 1])
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(1, 2))
    expect(taken(outbox)).toEqual([])
  })
})

describe('a client that comes back to a log', () => {
  it.each(['here-4', 'here-5', 'here-7', 'here-8'])('with %s gets what follows, once', (lastEventId) => {
    const log = logFrom(5, 10)
    const { outbox, gaps } = makeOutbox({ log, firstEvent: false })
    outbox.open('abc', lastEventId, 0)
    const at = Number(lastEventId.slice(-1))
    expect([outbox.isReplaying, outbox.length]).toEqual([true, 9 - at])
    expect(seenIn(taken(outbox)).slice(1)).toEqual(ticksFrom(at + 1, 10))
    expect([outbox.isReplaying, outbox.length, outbox.eventsReplayed]).toEqual([false, 0, 9 - at])
    expect(gaps).toEqual([])
    appendTicks(log, 1)
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(10, 11))
    expect([outbox.eventsReplayed, outbox.eventsWritten]).toEqual([9 - at, 10 - at])
  })

  it('with the newest id gets nothing but what comes from now on', () => {
    const log = logFrom(5, 10)
    const { outbox, gaps } = makeOpenOutbox({ log }, 'here-9')
    expect([outbox.isReplaying, outbox.isEmpty, gaps.length]).toEqual([false, true, 0])
    appendTicks(log, 1)
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(10, 11))
    expect(outbox.eventsReplayed).toBe(0)
  })

  it.each([
    ['newest', ticksFrom(6, 7), 0],
    ['oldest', ticksFrom(1, 7), 5],
  ] as const)('without an id starts at the %s', (start, expected, replayed) => {
    const log = createMemoryLog({ epoch: 'here' })
    appendTicks(log, 5)
    const { outbox } = makeOutbox({ log, replay: { start }, firstEvent: false })
    outbox.open('abc', null, 0)
    outbox.accept(tick(6))
    expect(seenIn(taken(outbox)).slice(1)).toEqual(expected)
    expect(outbox.eventsReplayed).toBe(replayed)
  })

  it('gets what was missed in parts, with what is sent meanwhile behind it', () => {
    const log = createMemoryLog({ epoch: 'here' })
    appendTicks(log, 20)
    const { outbox } = makeOutbox({ log, firstEvent: false })
    outbox.open('abc', 'here-0', 0)
    const stream = taken(outbox, 1)
    while (outbox.length > 0) {
      expect(outbox.isReplaying).toBe(outbox.eventsReplayed < 20)
      if (log.next <= 25) outbox.accept(tick(log.next))
      stream.push(...taken(outbox, 1))
    }
    expect(seenIn(stream).slice(1)).toEqual(ticksFrom(1, 26))
    expect([outbox.eventsReplayed, outbox.eventsWritten]).toEqual([20, 25])
  })
})

describe('a gap', () => {
  const causes = [
    ['unknown', 'nonsense', 'nonsense'],
    ['unknown', 'x'.repeat(10_000), 'x'.repeat(128)],
    ['unknown', 'here-05', 'here-05'],
    ['other-epoch', 'elsewhere-7', 'elsewhere-7'],
    ['evicted', 'here-3', 'here-3'],
    ['evicted', 'here-0', 'here-0'],
    ['future', 'here-10', 'here-10'],
  ] as const

  describe.each(causes)('with the cause %s, asked %.12s', (cause, lastEventId, asked) => {
    it('goes on with all that is held after it when afterGap is oldest', () => {
      const { outbox, gaps } = makeOutbox({ log: logFrom(5, 10), firstEvent: false })
      outbox.open('abc', lastEventId, 0)
      expect(outbox.isReplaying).toBe(true)
      const gap: Gap = { asked, oldest: 'here-5', cause, continues: 'oldest' }
      expect(seenIn(taken(outbox)).slice(1)).toEqual([gapEvent(gap, 'here-4'), ...ticksFrom(5, 10)])
      expect(gaps).toEqual([gap])
      expect(outbox.eventsReplayed).toBe(5)
    })

    it('goes on with what comes from now on when afterGap is newest', () => {
      const log = logFrom(5, 10)
      const { outbox, gaps } = makeOutbox({ log, firstEvent: false, replay: { afterGap: 'newest' } })
      outbox.open('abc', lastEventId, 0)
      expect(outbox.isReplaying).toBe(false)
      const gap: Gap = { asked, oldest: 'here-5', cause, continues: 'newest' }
      expect(seenIn(taken(outbox)).slice(1)).toEqual([gapEvent(gap, 'here-9')])
      expect(gaps).toEqual([gap])
      appendTicks(log, 1)
      expect(seenIn(taken(outbox))).toEqual(ticksFrom(10, 11))
    })

    it('is the last of the stream, and says so, when afterGap is close', () => {
      const { outbox, gaps } = makeOutbox({
        log: logFrom(5, 10),
        firstEvent: false,
        replay: { afterGap: 'close' },
      })
      outbox.open('abc', lastEventId, 0)
      const gap: Gap = { asked, oldest: 'here-5', cause, continues: 'close' }
      expect(seenIn(taken(outbox)).slice(1)).toEqual([gapEvent(gap, 'here-9')])
      expect(gaps).toEqual([gap])
      expect(outbox.isEmpty).toBe(true)
    })

    it('leaves the client at a position that is known', () => {
      for (const afterGap of ['oldest', 'newest', 'close'] as const) {
        const log = logFrom(5, 10)
        const { outbox } = makeOutbox({ log, replay: { afterGap } })
        outbox.open('abc', lastEventId, 0)
        const [gap] = seenOf('gap', taken(outbox))
        const again = makeOpenOutbox({ log }, gap?.id)
        expect(gap?.id).toBeDefined()
        expect(again.gaps).toEqual([])
      }
    })
  })

  it('says that nothing is held when the log is empty', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox, gaps } = makeOpenOutbox({ log }, 'before-7')
    expect(gaps).toEqual([{ asked: 'before-7', oldest: null, cause: 'other-epoch', continues: 'oldest' }])
    expect(outbox.lastId).toBe('here-0')
  })

  it('is owed until it is taken, and told to the owner when it is', () => {
    const { outbox, gaps } = makeOutbox({ log: createMemoryLog() })
    outbox.open('abc', 'before-7', 0)
    expect([outbox.isEmpty, gaps.length]).toEqual([false, 0])
    taken(outbox)
    expect([outbox.isEmpty, gaps.length]).toEqual([true, 1])
  })

  it('is no event of the log: it counts neither as taken nor as replayed', () => {
    const { outbox } = makeOpenOutbox({ log: createMemoryLog() }, 'before-7')
    expect([outbox.eventsWritten, outbox.eventsReplayed]).toEqual([0, 0])
  })
})

describe('an outbox whose log is overrun', () => {
  it.each([
    ['oldest', 'here-9', ticksFrom(10, 13)],
    ['newest', 'here-12', []],
    ['close', 'here-12', []],
  ] as const)('meets one gap and goes on where it says: %s', (afterGap, id, rest) => {
    const log = createMemoryLog({ maxEvents: 3, epoch: 'here' })
    const { outbox, gaps } = makeOpenOutbox({ log, replay: { afterGap } })
    appendTicks(log, 2)
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(1, 3))
    appendTicks(log, 10)
    const gap: Gap = { asked: 'here-2', oldest: 'here-10', cause: 'evicted', continues: afterGap }
    expect(seenIn(taken(outbox))).toEqual([gapEvent(gap, id), ...rest])
    expect(gaps).toEqual([gap])
    appendTicks(log, 1)
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(13, 14))
    expect(gaps).toHaveLength(1)
  })

  it('meets one gap for each overrun, and none for being far behind without one', () => {
    const log = createMemoryLog({ maxEvents: 3, epoch: 'here' })
    const { outbox, gaps } = makeOpenOutbox({ log })
    for (const [appended, overruns] of [
      [3, 0],
      [4, 1],
      [1, 1],
      [3, 1],
      [9, 2],
    ] as const) {
      appendTicks(log, appended)
      taken(outbox)
      expect(gaps).toHaveLength(overruns)
    }
  })

  it('meets a gap for an event that the log did not keep', () => {
    const log = createMemoryLog({ maxBytes: 100, epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log })
    outbox.accept(tick('x'.repeat(200)))
    expect([outbox.length, outbox.bytes]).toEqual([1, 0])
    const gap: Gap = { asked: 'here-0', oldest: null, cause: 'evicted', continues: 'oldest' }
    expect(seenIn(taken(outbox))).toEqual([gapEvent(gap, 'here-1')])
    outbox.accept(tick(2))
    expect(seenIn(taken(outbox))).toEqual(ticksFrom(2, 3))
  })

  it('meets a gap for events that grew too old', () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ maxAgeMs: 10, epoch: 'here', clock })
    const { outbox } = makeOpenOutbox({ log, clock })
    appendTicks(log, 2)
    clock.advance(10)
    appendTicks(log, 1)
    const gap: Gap = { asked: 'here-0', oldest: 'here-3', cause: 'evicted', continues: 'oldest' }
    expect(seenIn(taken(outbox))).toEqual([gapEvent(gap, 'here-2'), ...ticksFrom(3, 4)])
  })

  it('names as the oldest held the one it goes on with, though time passes as it looks', () => {
    class PassingClock extends ManualClock {
      override now(): number {
        this.advance(1)
        return super.now()
      }
    }
    for (let maxAgeMs = 1; maxAgeMs < 60; maxAgeMs += 1) {
      const log = createMemoryLog({ maxAgeMs, epoch: 'here', clock: new PassingClock() })
      const { outbox, gaps } = makeOpenOutbox({ log })
      appendTicks(log, 10)
      const [next] = seenOf('tick', taken(outbox))
      const gap = gaps.at(-1)
      if (gap !== undefined) expect(gap.oldest).toBe(next?.id ?? null)
    }
  })
})

/** The ids at which a client that stands at `position` finds a hole that no gap event has told of. */
function positionsMissed(stream: Seen[], position: number): string[] {
  const missed: string[] = []
  let at = position
  for (const seen of stream) {
    if (!('event' in seen) || seen.id === undefined) continue
    const sequence = Number(seen.id.slice('here-'.length))
    if (seen.event !== 'gap' && sequence !== at + 1) missed.push(`${seen.id} after here-${at}`)
    at = sequence
  }
  return missed
}

describe('room', () => {
  it('is what queued and reserved slots leave of maxEvents', () => {
    const { outbox } = makeOpenOutbox({ maxEvents: 3 })
    expect([0, 1, 2, 3, 4].map((reserved) => outbox.hasRoom(reserved))).toEqual([
      true,
      true,
      true,
      false,
      false,
    ])
    outbox.accept(tick(1))
    expect([0, 1, 2].map((reserved) => outbox.hasRoom(reserved))).toEqual([true, true, false])
    outbox.accept(tick(2))
    outbox.accept(tick(3))
    expect(outbox.hasRoom(0)).toBe(false)
    taken(outbox, 1)
    expect([outbox.hasRoom(0), outbox.hasRoom(1)]).toEqual([true, false])
  })

  it('ends at maxBytes, in bytes and not in characters', () => {
    const bytes = Buffer.byteLength(tick('é'))
    const { outbox } = makeOpenOutbox({ maxBytes: 2 * bytes })
    outbox.accept(tick('é'))
    expect(outbox.hasRoom(0)).toBe(true)
    outbox.accept(tick('é'))
    expect([outbox.hasRoom(0), outbox.bytes]).toEqual([false, 2 * bytes])
    taken(outbox, 1)
    expect(outbox.hasRoom(0)).toBe(true)
  })

  it('in a log is what the client lags behind, whoever appended', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log, maxEvents: 3 })
    appendTicks(log, 2)
    expect([outbox.hasRoom(0), outbox.hasRoom(1)]).toEqual([true, false])
    appendTicks(log, 8)
    expect(outbox.hasRoom(0)).toBe(false)
    taken(outbox)
    expect([outbox.hasRoom(2), outbox.hasRoom(3)]).toEqual([true, false])
  })

  it('in a log ends at maxBytes of lag', () => {
    const log = createMemoryLog({ epoch: 'here' })
    appendTicks(log, 1)
    const bytes = log.bytesFrom(1)
    const { outbox } = makeOpenOutbox({ log, maxBytes: 2 * bytes })
    appendTicks(log, 1)
    expect([outbox.bytes, outbox.hasRoom(0)]).toEqual([bytes, true])
    appendTicks(log, 1)
    expect([outbox.bytes, outbox.hasRoom(0)]).toEqual([2 * bytes, false])
  })

  it('is there again behind an overrun, when the gap was taken', () => {
    const log = createMemoryLog({ maxEvents: 2, epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log, maxEvents: 4 })
    appendTicks(log, 100)
    expect([outbox.length, outbox.hasRoom(0)]).toEqual([100, false])
    taken(outbox)
    expect([outbox.length, outbox.hasRoom(0)]).toEqual([0, true])
  })
})

describe('a sealed outbox', () => {
  it('gives what it owed and the last words', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log })
    appendTicks(log, 5)
    outbox.setTail(encodeEvent({ event: 'close', data: 0 }))
    outbox.seal()
    expect(seenIn(taken(outbox))).toEqual([...ticksFrom(1, 6), { event: 'close', data: 0, id: undefined }])
    expect(outbox.isEmpty).toBe(true)
  })

  it('takes no notice of what others append after everything was taken', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log })
    appendTicks(log, 2)
    outbox.seal()
    taken(outbox)
    appendTicks(log, 3)
    expect([outbox.isEmpty, outbox.length, outbox.bytes]).toEqual([true, 0, 0])
    expect(taken(outbox)).toEqual([])
    expect(outbox.lastId).toBe('here-2')
  })

  it.each([1, 60, ALL])(
    'lets nothing in that others append while it drains, %d bytes at a time',
    (maxBytes) => {
      const log = createMemoryLog({ epoch: 'here' })
      const { outbox } = makeOpenOutbox({ log })
      appendTicks(log, 5)
      outbox.seal()
      outbox.setTail(encodeEvent({ event: 'close', data: 0 }))
      const stream: string[] = []
      while (!outbox.isEmpty) {
        appendTicks(log, 1)
        stream.push(...taken(outbox, maxBytes))
      }
      expect(seenIn(stream)).toEqual([...ticksFrom(1, 6), { event: 'close', data: 0, id: undefined }])
      expect([outbox.lastId, outbox.eventsWritten]).toEqual(['here-5', 5])
    },
  )

  it('lets nothing in behind the gap when it is overrun while it drains', () => {
    const log = createMemoryLog({ maxEvents: 3, epoch: 'here' })
    const { outbox, gaps } = makeOpenOutbox({ log })
    appendTicks(log, 2)
    outbox.seal()
    appendTicks(log, 10)
    expect(seenOf('tick', taken(outbox))).toEqual([])
    expect(gaps).toHaveLength(1)
    expect(outbox.isEmpty).toBe(true)
  })

  it('drops a heartbeat that was due', () => {
    const { outbox } = makeOpenOutbox()
    outbox.setHeartbeat(encodeComment(''))
    outbox.seal()
    expect([outbox.isEmpty, taken(outbox)]).toEqual([true, []])
  })

  it('still gives what waited in the queue', () => {
    const { outbox } = makeOpenOutbox()
    outbox.accept(tick(1))
    outbox.seal()
    expect(taken(outbox)).toEqual([tick(1)])
  })
})

describe('a cleared outbox', () => {
  it.each([
    ['a queue', () => ({})],
    ['a log', () => ({ log: createMemoryLog() })],
  ] as const)('with %s owes nothing', (_, options) => {
    const { outbox } = makeOutbox(options())
    outbox.open('abc', 'nonsense', 0)
    outbox.accept(tick(1))
    outbox.addComment(encodeComment('c'))
    outbox.setRetry(1)
    outbox.setHeartbeat(encodeComment(''))
    outbox.setTail(tick('last'))
    outbox.clear()
    expect([outbox.isEmpty, outbox.length, outbox.bytes, taken(outbox)]).toEqual([true, 0, 0, []])
    expect(outbox.eventsWritten).toBe(0)
  })

  it('counts what was taken before', () => {
    const { outbox } = makeOpenOutbox()
    outbox.accept(tick(1))
    outbox.accept(tick(2))
    taken(outbox, 1)
    outbox.clear()
    expect(outbox.eventsWritten).toBe(1)
  })
})

describe('an outbox that is not opened', () => {
  it.each([
    ['a queue', (): EventLog | null => null],
    ['an empty log', () => createMemoryLog()],
    ['a log', () => logFrom(5, 10)],
  ])('owes nothing, with %s', (_, createLog) => {
    const log = createLog()
    const { outbox } = makeOutbox(log === null ? {} : { log })
    expect([outbox.isEmpty, outbox.length, outbox.bytes]).toEqual([true, 0, 0])
    const { lastId } = outbox
    if (log !== null && lastId !== null) expect(locate(log, lastId)).toMatchObject({ known: true })
  })
})

describe('lastId', () => {
  it('is the id of the last event taken', () => {
    const log = createMemoryLog({ epoch: 'here' })
    const { outbox } = makeOpenOutbox({ log })
    appendTicks(log, 3)
    expect(outbox.lastId).toBe('here-0')
    taken(outbox, 1)
    expect(outbox.lastId).toBe('here-1')
    taken(outbox)
    expect(outbox.lastId).toBe('here-3')
  })

  it('is null without a log', () => {
    const { outbox } = makeOpenOutbox()
    outbox.accept(tick(1))
    taken(outbox)
    expect(outbox.lastId).toBeNull()
  })
})

/** What is owed, as one would write it down without a thought for cost. */
class Model {
  head: Seen[] = []
  retry: number | null = null
  comments: string[] = []
  gap: Gap | null = null
  queue: string[] = []
  isBeating = false
  taken = 0
  replayed = 0
  /** With a log: the sequence that comes next, and the end of what was there when the client came. */
  cursor = 0
  replayEnd = 0
  gaps: Gap[] = []

  constructor(
    readonly options: { maxEvents: number; maxBytes: number; afterGap: 'oldest' | 'newest' | 'close' },
    readonly log: EventLog | null,
    readonly clock: ManualClock,
  ) {}

  get waiting(): string[] {
    if (this.log === null) return this.queue
    const { log } = this
    const first = Math.max(this.cursor, log.oldest)
    return Array.from({ length: Math.max(0, log.next - first) }, (_, index) =>
      Buffer.from(log.frameAt(first + index)).toString(),
    )
  }

  get length(): number {
    return this.log === null ? this.queue.length : this.log.next - this.cursor
  }

  get bytes(): number {
    return this.waiting.reduce((sum, frame) => sum + Buffer.byteLength(frame), 0)
  }

  meetGap(log: EventLog, asked: string, cause: Gap['cause']): void {
    const oldest = log.oldest === log.next ? null : formatEventId('here', log.oldest)
    this.gap = { asked, oldest, cause, continues: this.options.afterGap }
    this.cursor = this.options.afterGap === 'oldest' ? log.oldest : log.next
  }

  takeGap(into: Seen[]): void {
    if (this.gap === null) return
    into.push(gapEvent(this.gap, formatEventId('here', this.cursor - 1)))
    this.gaps.push(this.gap)
    this.gap = null
  }

  take(maxBytes: number): Seen[] {
    const into = [...this.head]
    if (this.retry !== null) into.push({ retry: this.retry })
    into.push(...this.comments.map((comment) => ({ comment })))
    // What was evicted since the gap was met is a part of it.
    if (this.log !== null && this.gap !== null && this.cursor < this.log.oldest) {
      this.meetGap(this.log, this.gap.asked, this.gap.cause)
    }
    this.takeGap(into)
    if (this.log !== null && this.cursor < this.log.oldest) {
      this.meetGap(this.log, formatEventId('here', this.cursor - 1), 'evicted')
      this.takeGap(into)
    }
    let size = 0
    for (const frame of this.waiting) {
      if (size >= maxBytes) break
      into.push(...seenIn([frame]))
      size += this.log === null ? frame.length : Buffer.byteLength(frame)
      if (this.log === null) this.queue = this.queue.slice(1)
      else if (this.cursor < this.replayEnd) this.replayed += 1
      this.cursor += 1
      this.taken += 1
    }
    if (into.length === 0 && this.isBeating) into.push({ comment: 'beat' })
    this.head = []
    this.retry = null
    this.comments = []
    this.isBeating = false
    return into
  }
}

type OutboxCommand = fc.Command<Model, Outbox<Record<string, unknown>>>

function command(
  name: string,
  run: (model: Model, outbox: Outbox<Record<string, unknown>>) => void,
  check: (model: Readonly<Model>) => boolean = () => true,
): OutboxCommand {
  return { check, run, toString: () => name }
}

const sendOne = (data: string) =>
  command(
    `send(${data.length} units, ${JSON.stringify(data.slice(0, 40))})`,
    (model, outbox) => {
      const block = outbox.encode({ event: 'tick', data: { data } })
      if (model.log === null) model.queue.push(block)
      outbox.accept(block)
    },
    // The gate lets nobody send into a full queue.
    (model) => model.log !== null || model.length < model.options.maxEvents,
  )

const appendByOthers = (count: number) =>
  command(
    `others append ${count}`,
    ({ log }) => appendTicks(log as EventLog, count),
    (model) => model.log !== null,
  )

const takeSome = (maxBytes: number) =>
  command(`take(${maxBytes})`, (model, outbox) => {
    const expected = model.take(maxBytes)
    expect(seenIn(taken(outbox, maxBytes))).toEqual(expected)
  })

const look = command('look', (model, outbox) => {
  const { length, bytes } = model
  expect([outbox.length, outbox.bytes]).toEqual([length, bytes])
  expect([outbox.eventsWritten, outbox.eventsReplayed]).toEqual([model.taken, model.replayed])
  expect(outbox.isReplaying).toBe(model.log !== null && model.cursor < model.replayEnd)
  expect(outbox.lastId).toBe(model.log === null ? null : formatEventId('here', model.cursor - 1))
  const owesMore = model.head.length + model.comments.length > 0 || model.isBeating
  expect(outbox.isEmpty).toBe(!owesMore && model.retry === null && model.gap === null && length === 0)
})

const askForRoom = (reserved: number) =>
  command(`hasRoom(${reserved})`, (model, outbox) => {
    const { maxEvents, maxBytes } = model.options
    expect(outbox.hasRoom(reserved)).toBe(model.length + reserved < maxEvents && model.bytes < maxBytes)
  })

const addComment = (comment: string) =>
  command(`comment(${comment})`, (model, outbox) => {
    model.comments.push(comment)
    expect(outbox.addComment(encodeComment(comment))).toBe(true)
  })

const setRetry = (retryMs: number) =>
  command(`retry(${retryMs})`, (model, outbox) => {
    model.retry = retryMs
    outbox.setRetry(retryMs)
  })

const beat = command('heartbeat', (model, outbox) => {
  model.isBeating = true
  outbox.setHeartbeat(encodeComment('beat'))
})

const letTimePass = (ms: number) => command(`${ms} ms pass`, ({ clock }) => clock.advance(ms))

const data = fc.oneof(
  fc.constantFrom('', 'é', '😀'.repeat(20), 'x'.repeat(5000)),
  fc.string({ unit: 'binary', maxLength: 30 }),
)
const histories = fc.commands(
  [
    data.map(sendOne),
    data.map(sendOne),
    fc.integer({ min: 1, max: 9 }).map(appendByOthers),
    fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(ALL)).map(takeSome),
    fc.constant(look),
    fc.nat({ max: 8 }).map(askForRoom),
    fc.constantFrom('a', 'b').map(addComment),
    fc.nat({ max: 9 }).map(setRetry),
    fc.constant(beat),
    fc.integer({ min: 1, max: 8 }).map(letTimePass),
  ],
  { maxCommands: 50, size: 'max' },
)
const limits = fc.record({
  maxEvents: fc.integer({ min: 1, max: 8 }),
  maxBytes: fc.integer({ min: 1, max: 400 }),
  afterGap: fc.constantFrom('oldest', 'newest', 'close'),
})

function settle(model: Model, outbox: Outbox<Record<string, unknown>>): void {
  look.run(model, outbox)
  takeSome(ALL).run(model, outbox)
  takeSome(ALL).run(model, outbox)
  look.run(model, outbox)
  expect(outbox.isEmpty).toBe(true)
}

describe('an outbox, over any history', () => {
  it('without a log gives each event once, in order, behind head, delay and comments', () => {
    fc.assert(
      fc.property(limits, histories, ({ maxEvents, maxBytes, afterGap }, history) => {
        const clock = new ManualClock()
        const { outbox, gaps } = makeOutbox({ maxEvents, maxBytes, retryMs: 3, clock })
        const model = new Model({ maxEvents, maxBytes, afterGap }, null, clock)
        outbox.open('session', 'any-1', 0)
        model.head = [{ retry: 3 }, { event: 'connected', data: { sessionId: 'session' }, id: undefined }]
        fc.modelRun(() => ({ model, real: outbox }), history)
        settle(model, outbox)
        expect(gaps).toEqual([])
      }),
      { numRuns: 300 },
    )
  })

  it('with a log gives each event once, in order, or one gap that says where it goes on', () => {
    const logLimits = fc.record({
      maxEvents: fc.integer({ min: 1, max: 12 }),
      maxBytes: fc.oneof(fc.integer({ min: 40, max: 500 }), fc.constant(ALL)),
      maxAgeMs: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(ALL)),
    })
    const arrival = fc.record({
      held: fc.nat({ max: 15 }),
      start: fc.constantFrom('oldest', 'newest'),
      asked: fc.oneof(
        fc.constant(null),
        fc.nat({ max: 17 }).map((sequence) => `here-${sequence}`),
        fc.constantFrom('elsewhere-1', 'nonsense', ''),
      ),
    })
    fc.assert(
      fc.property(
        limits,
        logLimits,
        arrival,
        histories,
        (bounds, logBounds, { held, start, asked }, history) => {
          const { maxEvents, maxBytes, afterGap } = bounds
          const clock = new ManualClock()
          const log = createMemoryLog({ ...logBounds, epoch: 'here', clock })
          appendTicks(log, held)
          const options = { log, maxEvents, maxBytes, retryMs: 3, clock, replay: { start, afterGap } }
          const { outbox, gaps } = makeOutbox(options)
          const model = new Model(bounds, log, clock)
          const cause = asked === null ? null : causeOf(log, asked)
          model.replayEnd = log.next
          if (asked === null) model.cursor = start === 'oldest' ? log.oldest : log.next
          else if (cause === null) model.cursor = Number(asked.slice('here-'.length)) + 1
          else model.meetGap(log, asked, cause)
          outbox.open('session', asked, 0)
          const id = cause === null ? formatEventId('here', model.cursor - 1) : undefined
          model.head = [{ retry: 3 }, { event: 'connected', data: { sessionId: 'session' }, id }]
          fc.modelRun(() => ({ model, real: outbox }), history)
          settle(model, outbox)
          expect(gaps).toEqual(model.gaps)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('with a log leaves its client without a silent hole, whoever overruns it', () => {
    const step = fc.record({ appended: fc.nat({ max: 9 }), maxBytes: fc.integer({ min: 1, max: 200 }) })
    const anyBound = fc.integer({ min: 1, max: 6 })
    const anyAfterGap = fc.constantFrom('oldest' as const, 'newest' as const)
    fc.assert(
      fc.property(anyBound, anyAfterGap, fc.array(step, { maxLength: 40 }), (maxEvents, afterGap, steps) => {
        const log = createMemoryLog({ maxEvents, epoch: 'here' })
        const { outbox, gaps } = makeOpenOutbox({ log, replay: { afterGap } })
        const stream: Seen[] = []
        let overruns = 0
        let position = 0
        for (const { appended, maxBytes } of steps) {
          appendTicks(log, appended)
          if (position + 1 < log.oldest) overruns += 1
          stream.push(...seenIn(taken(outbox, maxBytes)))
          position = Number(outbox.lastId?.slice('here-'.length))
        }
        stream.push(...seenIn(taken(outbox)))
        expect(positionsMissed(stream, 0)).toEqual([])
        expect(gaps).toHaveLength(overruns)
        expect(outbox.lastId).toBe(formatEventId('here', log.next - 1))
      }),
      { numRuns: 500 },
    )
  })
})

function causeOf(log: EventLog, asked: string): Gap['cause'] | null {
  const [, epoch, digits] = /^(.+)-(\d+)$/.exec(asked) ?? []
  if (epoch === undefined) return 'unknown'
  if (epoch !== log.epoch) return 'other-epoch'
  if (Number(digits) >= log.next) return 'future'
  return Number(digits) + 1 < log.oldest ? 'evicted' : null
}
