import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FrameQueue } from '../../src/buffer/frame-queue.js'
import type { Frame } from '../../src/wire/frame.js'

interface Model {
  maxEvents: number
  frames: Frame[]
}

type QueueCommand = fc.Command<Model, FrameQueue>

function bytesOf(frames: Frame[]): number {
  return frames.reduce((sum, frame) => sum + Buffer.byteLength(frame), 0)
}

function command(name: string, run: (model: Model, queue: FrameQueue) => void): QueueCommand {
  return { check: () => true, run, toString: () => name }
}

function push(frame: Frame): QueueCommand {
  return command(`push(${typeof frame} ${JSON.stringify(frame.toString())})`, (model, queue) => {
    const fits = model.frames.length < model.maxEvents
    if (fits) model.frames.push(frame)
    expect(queue.push(frame)).toBe(fits)
    expect(queue.length).toBe(model.frames.length)
  })
}

function take(maxBytes: number): QueueCommand {
  return command(`take(${maxBytes})`, (model, queue) => {
    const expected: Frame[] = []
    let units = 0
    while (units < maxBytes && model.frames.length > 0) {
      const frame = model.frames.shift() as Frame
      units += frame.length
      expected.push(frame)
    }
    const taken: Frame[] = ['before']
    queue.take(maxBytes, taken)
    expect(taken).toEqual(['before', ...expected])
    expect(queue.length).toBe(model.frames.length)
  })
}

const askBytes = command('bytes', (model, queue) => {
  expect(queue.bytes).toBe(bytesOf(model.frames))
})

/** Asks around the true size, where the answer changes. */
function askBelow(distance: number): QueueCommand {
  return command(`isBelow(bytes + ${distance})`, (model, queue) => {
    const bytes = bytesOf(model.frames)
    expect(queue.isBelow(bytes + distance)).toBe(bytes < bytes + distance)
  })
}

const clear = command('clear()', (model, queue) => {
  model.frames = []
  queue.clear()
  expect(queue.length).toBe(0)
})

/** Text of 1, 2, 3 and 4 bytes a character, of lone surrogates, and none. */
const texts = fc
  .array(
    fc.oneof(fc.constantFrom('a', 'é', '€', '😀', '\ud83d', '\ude00', '\0'), fc.string({ unit: 'binary' })),
    {
      maxLength: 8,
    },
  )
  .map((parts) => parts.join(''))
const frames: fc.Arbitrary<Frame> = fc.oneof(
  { weight: 3, arbitrary: texts },
  { weight: 1, arbitrary: texts.map((text) => Buffer.from(text)) },
)

/** Whoever asks for the bytes changes how the queue counts from there on: histories with and without are tried. */
function commandsOf(asksForBytes: boolean): fc.Arbitrary<Iterable<QueueCommand>> {
  return fc.commands(
    [
      frames.map(push),
      frames.map(push),
      fc.integer({ min: 1, max: 60 }).map(take),
      fc.integer({ min: -60, max: 60 }).map(askBelow),
      fc.integer({ min: 0, max: 9 }).map((dice) => (dice === 0 ? clear : askBelow(dice - 5))),
      ...(asksForBytes ? [fc.constant(askBytes)] : []),
    ],
    { maxCommands: 60, size: 'max' },
  )
}

describe('a frame queue', () => {
  it.each([
    ['seldom asked for its bytes', false],
    ['often asked for its bytes', true],
  ])('does what an array of bounded length does, %s', (_, asksForBytes) => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), commandsOf(asksForBytes), (maxEvents, history) => {
        const queue = new FrameQueue(maxEvents)
        const model: Model = { maxEvents, frames: [] }
        fc.modelRun(() => ({ model, real: queue }), history)
        askBelow(1).run(model, queue)
        askBelow(0).run(model, queue)
        askBytes.run(model, queue)
        take(Number.POSITIVE_INFINITY).run(model, queue)
        askBytes.run(model, queue)
      }),
      { numRuns: 500 },
    )
  })

  it('takes at least one frame, however large', () => {
    const queue = new FrameQueue(4)
    queue.push('x'.repeat(1000))
    queue.push('y')
    const taken: Frame[] = []
    queue.take(1, taken)
    expect(taken).toEqual(['x'.repeat(1000)])
    expect(queue.length).toBe(1)
  })

  it('stops taking at the bound', () => {
    const queue = new FrameQueue(64)
    for (let i = 0; i < 50; i += 1) queue.push('x'.repeat(10))
    const exactly: Frame[] = []
    queue.take(100, exactly)
    expect(exactly).toHaveLength(10)
    const oneMore: Frame[] = []
    queue.take(101, oneMore)
    expect(oneMore).toHaveLength(11)
  })

  it('takes nothing when it is empty', () => {
    const queue = new FrameQueue(1)
    const taken: Frame[] = []
    queue.take(100, taken)
    expect(taken).toEqual([])
  })

  it('refuses one frame more than its bound, and counts nothing of it', () => {
    const queue = new FrameQueue(2)
    expect([queue.push('é'), queue.push('x'), queue.push('yyy')]).toEqual([true, true, false])
    expect([queue.length, queue.bytes]).toEqual([2, 3])
    expect(queue.push('yyy')).toBe(false)
    expect([queue.length, queue.bytes, queue.isBelow(3), queue.isBelow(4)]).toEqual([2, 3, false, true])
  })

  it('is below any limit above zero when it is empty, and below none that it has reached', () => {
    const queue = new FrameQueue(2)
    expect([queue.isBelow(1), queue.isBelow(0)]).toEqual([true, false])
    queue.push('€')
    expect([queue.isBelow(3), queue.isBelow(4)]).toEqual([false, true])
    queue.clear()
    expect([queue.isBelow(1), queue.bytes]).toEqual([true, 0])
  })
})
