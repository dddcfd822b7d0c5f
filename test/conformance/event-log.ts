import { createParser, type EventSourceMessage } from 'eventsource-parser'
import fc from 'fast-check'
import type { EventLog } from 'sluice'
import { describe, expect, it } from 'vitest'
import { formatEventId, parseEventId } from '../../src/buffer/event-id.js'
import { locate } from '../../src/buffer/event-log.js'
import { encodeEvent } from '../../src/wire/encode.js'
import type { Frame } from '../../src/wire/frame.js'

/** Limits the suite sets; what it does not set must be large. */
interface LogLimits {
  maxEvents?: number
  maxBytes?: number
}

/** Makes an empty log with a history of its own. What is to be cleaned up goes to `onTestFinished`. */
type CreateLog = (limits: LogLimits) => EventLog | Promise<EventLog>

function parsed(frame: Frame): EventSourceMessage[] {
  const events: EventSourceMessage[] = []
  createParser({ onEvent: (event) => void events.push(event) }).feed(Buffer.from(frame).toString())
  return events
}

/** What a client gets for blocks that were appended from a sequence on. */
function parsedWithIds(log: EventLog, first: number, blocks: string[]): EventSourceMessage[][] {
  return blocks.map((block, index) =>
    parsed(block).map((event) => ({ ...event, id: formatEventId(log.epoch, first + index) })),
  )
}

function readFrom(log: EventLog, from: number, maxBytes = Number.POSITIVE_INFINITY) {
  const into: Frame[] = []
  const next = log.read(from, log.next, maxBytes, into)
  const frames = numbersFrom(from, next).map((sequence) => log.frameAt(sequence))
  // However the log joins its events, it is these that are read.
  expect(textOf(into)).toBe(textOf(frames))
  return { frames, next }
}

function textOf(frames: Frame[]): string {
  return Buffer.concat(frames.map((frame) => Buffer.from(frame))).toString()
}

function bytesOf(frames: Frame[]): number {
  return frames.reduce((sum, frame) => sum + Buffer.byteLength(frame), 0)
}

function appendNumbered(log: EventLog, count: number): void {
  for (let i = 0; i < count; i += 1) log.append(encodeEvent({ event: 'tick', data: log.next }))
}

/** Numbers of the events that `appendNumbered` put in and that are still held. */
function numbersHeld(log: EventLog): number[] {
  return readFrom(log, log.oldest)
    .frames.flatMap(parsed)
    .map(({ data }) => Number(data))
}

function numbersFrom(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, index) => first + index)
}

const texts = fc.oneof(
  { weight: 9, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1000, max: 6000 }).map((length) => 'é'.repeat(length)) },
)
const blocks = fc
  .record({ event: fc.constantFrom('a', 'é'), data: texts, retry: fc.nat() }, { requiredKeys: ['data'] })
  .map((event) => encodeEvent(event))

/** What every {@link EventLog} must do; a new implementation is done when it passes. */
export function eventLogSuite(name: string, create: CreateLog): void {
  describe(`${name}, as any event log`, () => {
    describe('its sequences', () => {
      it('start at 1', async () => {
        const log = await create({})
        expect([log.oldest, log.next]).toEqual([1, 1])
        expect(log.append(encodeEvent({ data: 'x' }))).toBe(1)
        expect([log.oldest, log.next]).toEqual([1, 2])
      })

      it('have no holes', async () => {
        const log = await create({ maxEvents: 10 })
        const sequences = numbersFrom(1, 101).map(() => log.append(encodeEvent({ data: 'x' })))
        expect(sequences).toEqual(numbersFrom(1, 101))
        expect(log.next).toBe(101)
      })

      it('are those of this history alone: another log has another epoch', async () => {
        const logs = await Promise.all([create({}), create({}), create({})])
        expect(new Set(logs.map(({ epoch }) => epoch)).size).toBe(3)
      })

      it('make ids that are read back', async () => {
        const { epoch } = await create({})
        for (const sequence of [0, 1, 10 ** 15]) {
          expect(parseEventId(formatEventId(epoch, sequence))).toEqual({ epoch, sequence })
        }
      })
    })

    describe('a frame', () => {
      it('is the event that was appended, with its id', async () => {
        await fc.assert(
          fc.asyncProperty(fc.array(blocks, { minLength: 1, maxLength: 10 }), async (appended) => {
            const log = await create({})
            for (const block of appended) log.append(block)
            const { frames } = readFrom(log, 1)
            expect(frames.map(parsed)).toEqual(parsedWithIds(log, 1, appended))
          }),
          { numRuns: 50 },
        )
      })

      it('keeps the retry of the event', async () => {
        const log = await create({})
        log.append(encodeEvent({ data: 'x', retry: 77 }))
        const retries: number[] = []
        const parser = createParser({ onRetry: (retryMs) => void retries.push(retryMs) })
        for (const frame of readFrom(log, 1).frames) parser.feed(Buffer.from(frame).toString())
        expect(retries).toEqual([77])
      })
    })

    describe('its bounds', () => {
      it('keep the newest maxEvents', async () => {
        const log = await create({ maxEvents: 5 })
        for (const held of [1, 2, 3, 4, 5, 5, 5, 5]) {
          appendNumbered(log, 1)
          expect(log.next - log.oldest).toBe(held)
          expect(numbersHeld(log)).toEqual(numbersFrom(log.oldest, log.next))
        }
      })

      it('may be a single event', async () => {
        const log = await create({ maxEvents: 1 })
        appendNumbered(log, 7)
        expect(numbersHeld(log)).toEqual([7])
      })

      it('keep as many of the newest as fit into maxBytes', async () => {
        const log = await create({ maxBytes: 500 })
        for (let i = 0; i < 100; i += 1) {
          log.append(encodeEvent({ data: 'é'.repeat(i % 40) }))
          expect(bytesOf(readFrom(log, log.oldest).frames)).toBeLessThanOrEqual(500)
          expect(log.oldest).toBeLessThan(log.next)
        }
        expect(log.next - log.oldest).toBeGreaterThan(3)
      })

      it('count an event above maxBytes as evicted, with all before it, and go on behind it', async () => {
        const log = await create({ maxBytes: 200 })
        appendNumbered(log, 3)
        expect(log.append(encodeEvent({ data: 'x'.repeat(200) }))).toBe(4)
        expect([log.oldest, log.next]).toEqual([5, 5])
        expect(readFrom(log, 5)).toEqual({ frames: [], next: 5 })
        expect(log.bytesFrom(5)).toBe(0)
        expect(locate(log, formatEventId(log.epoch, 3))).toEqual({ known: false, cause: 'evicted' })
        expect(locate(log, formatEventId(log.epoch, 4))).toEqual({ known: true, next: 5 })
        appendNumbered(log, 1)
        expect([log.oldest, log.next, log.bytesFrom(5)]).toEqual([5, 6, bytesOf(readFrom(log, 5).frames)])
        expect(numbersHeld(log)).toEqual([5])
      })

      it('only ever take from the front', async () => {
        await fc.assert(
          fc.asyncProperty(
            fc.record({
              maxEvents: fc.integer({ min: 1, max: 12 }),
              maxBytes: fc.integer({ min: 1, max: 600 }),
            }),
            fc.array(blocks, { maxLength: 40 }),
            async (limits, appended) => {
              const log = await create(limits)
              let oldestBefore = 1
              for (const block of appended) {
                log.append(block)
                const { oldest, next } = log
                const { frames } = readFrom(log, oldest)
                expect(oldest).toBeGreaterThanOrEqual(oldestBefore)
                expect(frames.length).toBeLessThanOrEqual(limits.maxEvents)
                expect(bytesOf(frames)).toBeLessThanOrEqual(limits.maxBytes)
                expect(frames.map(parsed)).toEqual(
                  parsedWithIds(log, oldest, appended.slice(oldest - 1, next - 1)),
                )
                oldestBefore = oldest
              }
            },
          ),
          { numRuns: 50 },
        )
      })
    })

    describe('a read', () => {
      it('copies what is held from any place on, in order, behind what is there already', async () => {
        const log = await create({ maxEvents: 8 })
        appendNumbered(log, 20)
        for (const from of numbersFrom(log.oldest, log.next + 1)) {
          const into: Frame[] = ['before']
          expect(log.read(from, log.next, Number.POSITIVE_INFINITY, into)).toBe(log.next)
          expect(into.shift()).toBe('before')
          expect(into.flatMap(parsed).map(({ id, data }) => [id, Number(data)])).toEqual(
            numbersFrom(from, log.next).map((sequence) => [formatEventId(log.epoch, sequence), sequence]),
          )
        }
      })

      it('at the end copies nothing', async () => {
        const log = await create({})
        expect(readFrom(log, 1)).toEqual({ frames: [], next: 1 })
        appendNumbered(log, 3)
        expect(readFrom(log, 4)).toEqual({ frames: [], next: 4 })
      })

      it('stops at the frame that reaches maxBytes, and takes one at least', async () => {
        await fc.assert(
          fc.asyncProperty(
            fc.array(blocks, { minLength: 1, maxLength: 20 }),
            fc.integer({ min: 1, max: 600 }),
            async (appended, maxBytes) => {
              const log = await create({})
              for (const block of appended) log.append(block)
              for (let from = 1; from < log.next; ) {
                const { frames, next } = readFrom(log, from, maxBytes)
                expect(next).toBe(from + frames.length)
                expect(frames.length).toBeGreaterThan(0)
                expect(bytesOf(frames.slice(0, -1))).toBeLessThan(maxBytes)
                if (next < log.next) expect(bytesOf(frames)).toBeGreaterThanOrEqual(maxBytes)
                from = next
              }
            },
          ),
          { numRuns: 50 },
        )
      })

      it('in parts gives what one read gives', async () => {
        const log = await create({})
        appendNumbered(log, 50)
        const parts: Frame[] = []
        for (let from = 1; from < log.next; ) from = log.read(from, log.next, 70, parts)
        expect(textOf(parts)).toBe(textOf(readFrom(log, 1).frames))
      })

      it('ends before a sequence', async () => {
        const log = await create({ maxEvents: 8 })
        appendNumbered(log, 20)
        for (const from of numbersFrom(log.oldest, log.next + 1)) {
          for (const to of numbersFrom(from, log.next + 1)) {
            const into: Frame[] = []
            expect(log.read(from, to, Number.POSITIVE_INFINITY, into)).toBe(to)
            expect(into.flatMap(parsed).map(({ data }) => Number(data))).toEqual(numbersFrom(from, to))
          }
        }
      })

      it('gives what never changes, whatever is appended and evicted afterwards', async () => {
        const log = await create({ maxEvents: 8 })
        const reads: { frames: Frame[]; text: string }[] = []
        for (let i = 0; i < 200; i += 1) {
          appendNumbered(log, 3)
          const frames: Frame[] = []
          log.read(log.oldest, log.next, Number.POSITIVE_INFINITY, frames)
          reads.push({ frames, text: textOf(frames) })
        }
        expect(reads.map(({ frames }) => textOf(frames))).toEqual(reads.map(({ text }) => text))
      })

      it('of one event gives that', async () => {
        const log = await create({ maxEvents: 8 })
        appendNumbered(log, 20)
        const held = numbersFrom(log.oldest, log.next)
        expect(held.map((sequence) => Number(parsed(log.frameAt(sequence))[0]?.data))).toEqual(held)
      })

      it('takes nothing away', async () => {
        const log = await create({})
        appendNumbered(log, 5)
        readFrom(log, 1)
        expect([log.oldest, log.next]).toEqual([1, 6])
        expect(numbersHeld(log)).toEqual([1, 2, 3, 4, 5])
      })
    })

    it('knows the size of what is held from any place on', async () => {
      const log = await create({ maxEvents: 8 })
      for (let i = 0; i < 20; i += 1) {
        log.append(encodeEvent({ data: '😀'.repeat(i) }))
        for (const from of numbersFrom(log.oldest, log.next + 1)) {
          expect(log.bytesFrom(from)).toBe(bytesOf(readFrom(log, from).frames))
        }
      }
    })

    describe('a listener', () => {
      it('is called once for each append, in the same turn, when the event can be read', async () => {
        const log = await create({})
        const seen: number[][] = []
        log.onAppend(() => seen.push(numbersHeld(log)))
        appendNumbered(log, 1)
        expect(seen).toEqual([[1]])
        appendNumbered(log, 2)
        expect(seen).toEqual([[1], [1, 2], [1, 2, 3]])
      })

      it('is called for an event that is too large to be kept as well', async () => {
        const log = await create({ maxBytes: 100 })
        const seen: number[] = []
        log.onAppend(() => seen.push(log.next))
        log.append(encodeEvent({ data: 'x'.repeat(200) }))
        expect(seen).toEqual([2])
      })

      it('hears nothing of what was appended before it came, nor after it was stopped', async () => {
        const log = await create({})
        appendNumbered(log, 2)
        let calls = 0
        const stop = log.onAppend(() => {
          calls += 1
        })
        expect(calls).toBe(0)
        appendNumbered(log, 1)
        stop()
        appendNumbered(log, 1)
        expect(calls).toBe(1)
      })

      it('is stopped without the others, and a second stop does nothing', async () => {
        const log = await create({})
        const calls: string[] = []
        const stops = ['a', 'b', 'c'].map((name) => log.onAppend(() => calls.push(name)))
        stops[1]?.()
        stops[1]?.()
        appendNumbered(log, 1)
        expect(calls.sort()).toEqual(['a', 'c'])
      })

      it('may stop itself from inside, and the others are called all the same', async () => {
        const log = await create({})
        const calls: string[] = []
        log.onAppend(() => calls.push('first'))
        const stop = log.onAppend(() => {
          calls.push('once')
          stop()
        })
        log.onAppend(() => calls.push('last'))
        appendNumbered(log, 1)
        expect(calls.sort()).toEqual(['first', 'last', 'once'])
        calls.length = 0
        appendNumbered(log, 1)
        expect(calls.sort()).toEqual(['first', 'last'])
      })

      it('may stop another from inside, who then hears of no later append', async () => {
        const log = await create({})
        const calls: string[] = []
        const stops: (() => void)[] = []
        log.onAppend(() => stops[0]?.())
        stops.push(log.onAppend(() => calls.push('stopped')))
        log.onAppend(() => calls.push('last'))
        appendNumbered(log, 1)
        calls.length = 0
        appendNumbered(log, 1)
        expect(calls).toEqual(['last'])
      })

      it('that comes from inside another hears of the next append', async () => {
        const log = await create({})
        const seen: number[] = []
        const stop = log.onAppend(() => {
          stop()
          log.onAppend(() => seen.push(log.next))
        })
        appendNumbered(log, 1)
        seen.length = 0
        appendNumbered(log, 1)
        expect(seen).toEqual([3])
      })

      it('may append from inside', async () => {
        const log = await create({})
        log.onAppend(() => {
          if (log.next === 2) appendNumbered(log, 1)
        })
        expect(log.append(encodeEvent({ data: 1 }))).toBe(1)
        expect(numbersHeld(log)).toEqual([1, 2])
      })
    })

    describe('a position', () => {
      async function logFrom5To9(): Promise<EventLog> {
        const log = await create({ maxEvents: 5 })
        appendNumbered(log, 9)
        expect([log.oldest, log.next]).toEqual([5, 10])
        return log
      }

      it.each([5, 6, 7, 8])(
        'at the event %i that is held is known, and what follows comes next',
        async (at) => {
          const log = await logFrom5To9()
          expect(locate(log, formatEventId(log.epoch, at))).toEqual({ known: true, next: at + 1 })
        },
      )

      it('at the newest event is known, and nothing is replayed', async () => {
        const log = await logFrom5To9()
        expect(locate(log, formatEventId(log.epoch, 9))).toEqual({ known: true, next: 10 })
        expect(readFrom(log, 10).frames).toEqual([])
      })

      it('just before the oldest event is known: nothing is missing behind it', async () => {
        const log = await logFrom5To9()
        expect(locate(log, formatEventId(log.epoch, 4))).toEqual({ known: true, next: 5 })
      })

      it('before the first event of all is known while that is held', async () => {
        const log = await create({ maxEvents: 5 })
        expect(locate(log, formatEventId(log.epoch, 0))).toEqual({ known: true, next: 1 })
        appendNumbered(log, 5)
        expect(locate(log, formatEventId(log.epoch, 0))).toEqual({ known: true, next: 1 })
        appendNumbered(log, 1)
        expect(locate(log, formatEventId(log.epoch, 0))).toEqual({ known: false, cause: 'evicted' })
      })

      it.each([0, 1, 2, 3])(
        'at the event %i, whose follower is not held any more, is evicted',
        async (at) => {
          const log = await logFrom5To9()
          expect(locate(log, formatEventId(log.epoch, at))).toEqual({ known: false, cause: 'evicted' })
        },
      )

      it.each([10, 11, 10 ** 15])(
        'at the event %i, which was not given out yet, is in the future',
        async (at) => {
          const log = await logFrom5To9()
          expect(locate(log, formatEventId(log.epoch, at))).toEqual({ known: false, cause: 'future' })
        },
      )

      it('in another history is of another epoch, though the sequence would be held', async () => {
        const log = await logFrom5To9()
        const other = await create({})
        for (const epoch of [other.epoch, `${log.epoch}x`, `${log.epoch}-`, log.epoch.slice(1) || 'x']) {
          expect(locate(log, formatEventId(epoch, 7))).toEqual({ known: false, cause: 'other-epoch' })
        }
      })

      it('that is no id is unknown', async () => {
        const log = await logFrom5To9()
        const { epoch } = log
        const ids = ['', '7', '-7', epoch, `${epoch}-`, `${epoch}-07`, `${epoch}-7.0`, `${epoch}-7e0`]
        for (const id of [...ids, `${epoch}-7 `, `${epoch}-${'7'.repeat(10_000)}`, 'x'.repeat(10_000)]) {
          expect(locate(log, id)).toEqual({ known: false, cause: 'unknown' })
        }
      })
    })
  })
}
