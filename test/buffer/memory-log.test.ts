import fc from 'fast-check'
import { createMemoryLog, type EventLog, type MemoryLogOptions, SSEError } from 'sluice'
import { describe, expect, it } from 'vitest'
import { formatEventId, parseEventId } from '../../src/buffer/event-id.js'
import { type LogPosition, locate } from '../../src/buffer/event-log.js'
import { encodeEvent } from '../../src/wire/encode.js'
import type { Frame } from '../../src/wire/frame.js'
import { ManualClock } from '../support/clock.js'

interface Entry {
  sequence: number
  frame: string
  bytes: number
  at: number
}

/** A log as one would write it without a thought for cost. */
class Model {
  entries: Entry[] = []
  next = 1

  constructor(
    readonly limits: { maxEvents: number; maxBytes: number; maxAgeMs: number },
    readonly epoch: string,
    readonly clock: ManualClock,
  ) {}

  get oldest(): number {
    this.dropTheOld()
    return this.entries[0]?.sequence ?? this.next
  }

  append(block: string): number {
    const sequence = this.next
    const frame = `id: ${this.epoch}-${sequence}\n${block}`
    this.dropTheOld()
    this.entries.push({ sequence, frame, bytes: Buffer.byteLength(frame), at: this.clock.now() })
    while (this.entries.length > this.limits.maxEvents || this.bytesFrom(0) > this.limits.maxBytes) {
      this.entries.shift()
    }
    this.next += 1
    return sequence
  }

  bytesFrom(from: number): number {
    return this.entries.reduce((sum, { sequence, bytes }) => sum + (sequence >= from ? bytes : 0), 0)
  }

  read(from: number, maxBytes: number): string[] {
    let bytes = 0
    const frames: string[] = []
    for (const entry of this.entries) {
      if (entry.sequence < from || bytes >= maxBytes) continue
      frames.push(entry.frame)
      bytes += entry.bytes
    }
    return frames
  }

  locate(id: string): LogPosition {
    const dash = id.lastIndexOf('-')
    const sequence = Number(id.slice(dash + 1))
    if (parseEventId(id) === null) return { known: false, cause: 'unknown' }
    if (id.slice(0, dash) !== this.epoch) return { known: false, cause: 'other-epoch' }
    if (sequence >= this.next) return { known: false, cause: 'future' }
    return sequence >= this.oldest - 1
      ? { known: true, next: sequence + 1 }
      : { known: false, cause: 'evicted' }
  }

  private dropTheOld(): void {
    this.entries = this.entries.filter(({ at }) => this.clock.now() - at < this.limits.maxAgeMs)
  }
}

/** What a client gets of a frame. */
function textOf(frame: Frame): string {
  return Buffer.from(frame).toString()
}

type LogCommand = fc.Command<Model, EventLog>

function command(name: string, run: (model: Model, log: EventLog) => void): LogCommand {
  return { check: () => true, run, toString: () => name }
}

function append(data: string): LogCommand {
  return command(`append(${data.length} units)`, (model, log) => {
    const block = encodeEvent({ data })
    expect(log.append(block)).toBe(model.append(block))
    expect(log.next).toBe(model.next)
  })
}

function advance(ms: number): LogCommand {
  return command(`advance(${ms})`, (model) => model.clock.advance(ms))
}

/** Every read begins at the oldest event held, as the port asks. */
function read(offset: number, maxBytes: number): LogCommand {
  return command(`read(oldest + ${offset}, ${maxBytes})`, (model, log) => {
    expect(log.oldest).toBe(model.oldest)
    const from = Math.min(model.oldest + offset, model.next)
    const into: Frame[] = []
    const next = log.read(from, log.next, maxBytes, into)
    const expected = model.read(from, maxBytes)
    expect(into.map(textOf).join('')).toBe(expected.map(textOf).join(''))
    expect(next).toBe(from + expected.length)
    expected.forEach((frame, index) => {
      expect(textOf(log.frameAt(from + index))).toBe(textOf(frame))
    })
    expect(log.bytesFrom(from)).toBe(model.bytesFrom(from))
  })
}

function look(offset: number): LogCommand {
  return command(`locate(next + ${offset})`, (model, log) => {
    const sequence = Math.max(0, model.next + offset)
    for (const id of [formatEventId(log.epoch, sequence), formatEventId('other', sequence), `-${sequence}`]) {
      expect(locate(log, id)).toEqual(model.locate(id))
    }
  })
}

const limits = fc.record({
  maxEvents: fc.integer({ min: 1, max: 20 }),
  maxBytes: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(Number.POSITIVE_INFINITY)),
  maxAgeMs: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constant(Number.POSITIVE_INFINITY)),
})
const texts = fc
  .tuple(
    fc.constantFrom('x', 'é', '😀', '\ud83d'),
    fc.oneof(fc.nat({ max: 10 }), fc.nat({ max: 120 }), fc.constant(5000)),
  )
  .map(([unit, times]) => unit.repeat(times))
const commands = fc.commands(
  [
    texts.map(append),
    texts.map(append),
    fc.integer({ min: 0, max: 12 }).map(advance),
    fc.tuple(fc.nat({ max: 20 }), fc.integer({ min: 1, max: 400 })).map(([offset, max]) => read(offset, max)),
    fc.integer({ min: -25, max: 2 }).map(look),
  ],
  { maxCommands: 60, size: 'max' },
)

function refusalOf(options: unknown): SSEError {
  let error: unknown
  try {
    createMemoryLog(options as MemoryLogOptions)
  } catch (thrown) {
    error = thrown
  }
  expect(error).toBeInstanceOf(SSEError)
  return error as SSEError
}

function framesHeld(log: EventLog): Frame[] {
  const { oldest, next } = log
  return Array.from({ length: next - oldest }, (_, index) => log.frameAt(oldest + index))
}

function bytesOf(frames: Frame[]): number {
  return frames.reduce((sum, frame) => sum + Buffer.byteLength(frame), 0)
}

const block = encodeEvent({ data: 'x' })

describe('the memory log', () => {
  it('does what an array does from which the oldest are taken', () => {
    fc.assert(
      fc.property(limits, commands, (bounds, history) => {
        const clock = new ManualClock()
        const log = createMemoryLog({ ...bounds, epoch: 'here', clock })
        const model = new Model(bounds, 'here', clock)
        fc.modelRun(() => ({ model, real: log }), history)
        read(0, Number.POSITIVE_INFINITY).run(model, log)
        for (let offset = -model.next; offset < 3; offset += 1) look(offset).run(model, log)
        expect(clock.pending).toBe(0)
      }),
      { numRuns: 500 },
    )
  })

  it('keeps 1,000 events and 16 MiB for any time, unless told otherwise', () => {
    const clock = new ManualClock()
    const log = createMemoryLog({ clock })
    for (let i = 0; i < 1001; i += 1) log.append(block)
    clock.advance(Number.MAX_SAFE_INTEGER)
    expect(log.next - log.oldest).toBe(1000)
    const large = encodeEvent({ data: 'x'.repeat(1024 * 1024 - 100) })
    for (let i = 0; i < 20; i += 1) log.append(large)
    expect(log.next - log.oldest).toBe(16)
  })

  it('keeps an event that fills maxBytes exactly, and not one byte more', () => {
    const bytes = Buffer.byteLength(`id: here-1\n${block}`)
    const exact = createMemoryLog({ maxBytes: bytes, epoch: 'here' })
    exact.append(block)
    expect([exact.oldest, exact.next]).toEqual([1, 2])
    const tight = createMemoryLog({ maxBytes: bytes - 1, epoch: 'here' })
    tight.append(block)
    expect([tight.oldest, tight.next]).toEqual([2, 2])
  })

  describe('by age', () => {
    it('keeps an event for maxAgeMs, and lets it go at that moment', () => {
      const clock = new ManualClock()
      const log = createMemoryLog({ maxAgeMs: 100, clock })
      log.append(block)
      clock.advance(60)
      log.append(block)
      clock.advance(39)
      expect(log.oldest).toBe(1)
      clock.advance(1)
      expect(log.oldest).toBe(2)
      clock.advance(60)
      expect([log.oldest, log.next]).toEqual([3, 3])
      expect(framesHeld(log)).toEqual([])
    })

    it('answers a position that time has passed by as evicted, and the newest as known', () => {
      const clock = new ManualClock()
      const log = createMemoryLog({ maxAgeMs: 100, epoch: 'here', clock })
      log.append(block)
      log.append(block)
      expect(locate(log, 'here-1')).toEqual({ known: true, next: 2 })
      clock.advance(100)
      expect(locate(log, 'here-1')).toEqual({ known: false, cause: 'evicted' })
      expect(locate(log, 'here-2')).toEqual({ known: true, next: 3 })
    })

    it('sets no timer', () => {
      const clock = new ManualClock()
      const log = createMemoryLog({ maxAgeMs: 100, clock })
      log.append(block)
      expect(clock.pending).toBe(0)
    })

    it('lets go of more than one event when it is looked at seldom', () => {
      const clock = new ManualClock()
      const log = createMemoryLog({ maxAgeMs: 100, clock })
      for (let i = 0; i < 50; i += 1) log.append(block)
      clock.advance(100)
      log.append(block)
      expect([log.oldest, log.next]).toEqual([51, 52])
      expect(log.bytesFrom(51)).toBe(bytesOf(framesHeld(log)))
    })
  })

  it('stays as small as its bounds over 1,000,000 events', () => {
    const log = createMemoryLog({ maxEvents: 500, maxBytes: 20_000 })
    for (let i = 1; i <= 1_000_000; i += 1) {
      log.append(block)
      if (i % 100_000 !== 0) continue
      const frames = framesHeld(log)
      expect(frames).toHaveLength(log.next - log.oldest)
      expect(frames.length).toBeLessThanOrEqual(500)
      expect(frames.length).toBeGreaterThan(400)
      expect(bytesOf(frames)).toBeLessThanOrEqual(20_000)
      expect(log.bytesFrom(log.oldest)).toBe(bytesOf(frames))
      expect(log.next).toBe(i + 1)
    }
  })

  it('copies no more than maxBytes and one frame for one reader, however much it holds', () => {
    const log = createMemoryLog({ maxEvents: 10_000 })
    for (let i = 0; i < 10_000; i += 1) log.append(block)
    const frames: Frame[] = []
    log.read(1, log.next, 65_536, frames)
    expect(bytesOf(frames)).toBeGreaterThanOrEqual(65_536)
    expect(bytesOf(frames)).toBeLessThan(65_536 + Buffer.byteLength(log.frameAt(9999)))
  })

  describe('its epoch', () => {
    it('is new for each log, and short', () => {
      const epochs = Array.from({ length: 100 }, () => createMemoryLog().epoch)
      expect(new Set(epochs).size).toBe(100)
      for (const epoch of epochs) expect(epoch).toMatch(/^[0-9a-f]{8}$/)
    })

    it.each(['a', 'A.b_c-9', '-', 'x'.repeat(64)])('may be %s', (epoch) => {
      const log = createMemoryLog({ epoch })
      expect(log.epoch).toBe(epoch)
      log.append(block)
      expect(framesHeld(log).map(textOf)).toEqual([`id: ${epoch}-1\n${block}`])
      expect(locate(log, `${epoch}-0`)).toEqual({ known: true, next: 1 })
    })
  })

  describe('refuses options', () => {
    it.each([
      ['maxEvents', 0, 'Option maxEvents is 0; expected a whole number of at least 1.'],
      ['maxEvents', -1, 'Option maxEvents is -1; expected a whole number of at least 1.'],
      ['maxEvents', 1.5, 'Option maxEvents is 1.5; expected a whole number of at least 1.'],
      ['maxEvents', Number.NaN, 'Option maxEvents is NaN; expected a whole number of at least 1.'],
      ['maxEvents', '5', 'Option maxEvents is "5"; expected a whole number of at least 1.'],
      ['maxEvents', null, 'Option maxEvents is null; expected a whole number of at least 1.'],
      ['maxEvents', Infinity, 'Option maxEvents is Infinity; expected a whole number of at least 1.'],
      ['maxBytes', 0, 'Option maxBytes is 0; expected a whole number of at least 1, or Infinity.'],
      [
        'maxBytes',
        -Infinity,
        'Option maxBytes is -Infinity; expected a whole number of at least 1, or Infinity.',
      ],
      ['maxBytes', {}, 'Option maxBytes is an object; expected a whole number of at least 1, or Infinity.'],
      ['maxAgeMs', 0, 'Option maxAgeMs is 0; expected a whole number of at least 1, or Infinity.'],
      ['maxAgeMs', 0.5, 'Option maxAgeMs is 0.5; expected a whole number of at least 1, or Infinity.'],
      ['maxAgeMs', '1s', 'Option maxAgeMs is "1s"; expected a whole number of at least 1, or Infinity.'],
    ])('such as %s: %s', (name, value, message) => {
      const error = refusalOf({ [name]: value })
      expect(error.code).toBe('ERR_SSE_INVALID_OPTION')
      expect(error.message).toBe(message)
    })

    it.each(['', 'x'.repeat(65), 'a b', 'a\n', 'é', 'a:b', 5, null])('such as an epoch of %j', (epoch) => {
      const error = refusalOf({ epoch })
      expect(error.code).toBe('ERR_SSE_INVALID_OPTION')
      expect(error.message).toMatch(/^Option epoch is .+; expected 1 to 64 characters of A-Z a-z 0-9 \. _ -/)
    })

    it('that it does not have, and says which it has', () => {
      const error = refusalOf({ maxEvents: 5, maxAge: 100 })
      expect(error.code).toBe('ERR_SSE_INVALID_OPTION')
      expect(error.message).toBe(
        'createMemoryLog has no option "maxAge"; expected some of maxEvents, maxBytes, maxAgeMs, epoch, clock.',
      )
    })

    it('but takes undefined for any as not given', () => {
      const options = { maxEvents: undefined, maxBytes: undefined, maxAgeMs: undefined, epoch: undefined }
      const log = createMemoryLog(options as unknown as MemoryLogOptions)
      expect(log.append(block)).toBe(1)
    })
  })
})
