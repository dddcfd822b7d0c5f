import { createChannel, createMemoryLog, type EventLog } from 'sluice'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { scheduleFlush } from '../../src/handler/flush.js'
import { connectReader, range, settle, texts } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'

beforeEach(() => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  return () => warned.mockRestore()
})

describe('a flush that throws', () => {
  it('leaves the others of its turn flushed, and those of later turns', async () => {
    const flushed: string[] = []
    const named = (name: string) => ({ flush: () => void flushed.push(name) })
    const failing = {
      flush() {
        flushed.push('failing')
        throw new Error('boom')
      },
    }
    for (const round of [1, 2]) {
      for (const one of [named(`a${round}`), failing, named(`b${round}`)]) scheduleFlush(one)
      await turns(2)
    }
    expect(flushed).toEqual(['a1', 'failing', 'b1', 'a2', 'failing', 'b2'])
    expect(process.emitWarning).toHaveBeenCalledTimes(2)
    expect(process.emitWarning).toHaveBeenCalledWith('Error: boom', {
      type: 'SSEWarning',
      detail: 'in a flush',
    })
  })
})

type Part = 'oldest' | 'next' | 'bytesFrom'

/** A memory log of which one part throws once, when it was asked so often. */
function logFailingAt(part: Part) {
  const inner = createMemoryLog({ epoch: 'e' })
  const state = { failsAt: 0, hasFailed: false }
  const asked = (what: Part) => {
    if (what !== part || state.failsAt === 0) return
    state.failsAt -= 1
    if (state.failsAt > 0) return
    state.hasFailed = true
    throw new Error(`boom ${part}`)
  }
  const log: EventLog = {
    epoch: inner.epoch,
    maxEvents: inner.maxEvents,
    maxBytes: inner.maxBytes,
    get oldest() {
      asked('oldest')
      return inner.oldest
    },
    get next() {
      asked('next')
      return inner.next
    },
    append: (block, label) => inner.append(block, label),
    read: (...args) => inner.read(...args),
    frameAt: (sequence) => inner.frameAt(sequence),
    labelAt: (sequence) => inner.labelAt(sequence),
    onAppend: (listener) => inner.onAppend(listener),
    bytesFrom(from) {
      asked('bytesFrom')
      return inner.bytesFrom(from)
    },
  }
  return { log, state }
}

describe.each(['oldest', 'next', 'bytesFrom'] as const)('a log whose %s throws once in a flush', (part) => {
  it.each(range(1, 12))('wedges neither its channel nor others, at look %i', async (failsAt) => {
    const clock = new ManualClock()
    const { log, state } = logFailingAt(part)
    const channel = createChannel({ log, clock, flushIntervalMs: 0, maxLag: { bytes: 1_000_000 } })
    const others = [1, 2].map(() => createChannel({ clock, flushIntervalMs: 0 }))
    const readers = [channel, channel, others[0], others[1]].map((followed) => {
      const reader = connectReader({ clock })
      reader.sse.on('error', () => {})
      followed?.subscribe(reader.sse)
      return reader
    })
    await settle()
    void others[0]?.publish({ data: 1 })
    const first = track(channel.publish({ data: 1 }))
    void others[1]?.publish({ data: 1 })
    state.failsAt = failsAt
    await turns(4)
    state.failsAt = 0
    const second = track(channel.publish({ data: 2 }))
    for (const other of others) void other.publish({ data: 2 })
    await turns(4)
    expect([first.state, second.state]).toEqual(['fulfilled', 'fulfilled'])
    const [one, two, ...rest] = readers
    for (const reader of rest) expect(reader.data).toEqual(['1', '2'])
    // The reader whose read failed is closed, and says why; else it has everything.
    for (const reader of [one, two]) {
      if (reader?.sse.phase === 'closed') {
        expect(state.hasFailed).toBe(true)
        expect(await reader.sse.closed).toMatchObject({ reason: 'transport-error' })
      } else expect(reader?.data).toEqual(['1', '2'])
    }
    const burst = range(3, 600).map((data) => track(channel.publish({ data })))
    await turns(6)
    expect(burst.every((one) => one.state === 'fulfilled')).toBe(true)
    const again = connectReader({ clock, lastEventId: 'e-0' })
    channel.subscribe(again.sse)
    await turns(10)
    expect(again.data).toEqual(texts(range(1, 600)))
    expect(channel.stats()).toMatchObject({ gaps: 0, slow: 0 })
  })
})

it('looks that fail are among those tested', async () => {
  for (const part of ['oldest', 'next', 'bytesFrom'] as const) {
    const clock = new ManualClock()
    const { log, state } = logFailingAt(part)
    const channel = createChannel({ log, clock, flushIntervalMs: 0, maxLag: { bytes: 1_000_000 } })
    channel.subscribe(connectReader({ clock }).sse)
    await settle()
    void channel.publish({ data: 1 })
    state.failsAt = 1
    await turns(4)
    expect([part, state.hasFailed]).toEqual([part, true])
  }
  expect(process.emitWarning).toHaveBeenCalled()
})
