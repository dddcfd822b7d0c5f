import { type ChannelsOptions, createChannels, SSEError } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'

const IDLE_MS = 1000

function make(options: ChannelsOptions = {}) {
  const clock = new ManualClock()
  const channels = createChannels({ idleMs: IDLE_MS, flushIntervalMs: 0, clock, ...options })
  return { channels, clock }
}

function refusalOf(act: () => unknown): SSEError {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(SSEError)
    return error as SSEError
  }
  throw new Error('Nothing was thrown.')
}

describe('a channel of a set', () => {
  it('is made when its name is opened, and is the same for the same name', () => {
    const { channels } = make()
    expect(channels.get('a')).toBeUndefined()
    const a = channels.open('a')
    expect([channels.open('a') === a, channels.get('a') === a, channels.open('b') === a]).toEqual([
      true,
      true,
      false,
    ])
    expect(channels.size).toBe(2)
    channels.close()
  })

  it('has a history of its own, with the bounds that were asked for', () => {
    const { channels } = make({ log: { maxEvents: 2 } })
    const [a, b] = [channels.open('a'), channels.open('b')]
    for (const data of [1, 2, 3]) void a.publish({ data })
    expect([a.stats().heldEvents, b.stats().heldEvents]).toEqual([2, 0])
    expect(a.lastId.slice(0, -2)).not.toBe(b.lastId.slice(0, -2))
    channels.close()
  })

  it('ends when it is deleted: its readers get the rest, and its name is free', async () => {
    const { channels } = make()
    const old = channels.open('a')
    const reader = connectReader()
    old.subscribe(reader.sse)
    void old.publish({ data: 'last' })
    expect([channels.delete('a'), channels.delete('a'), channels.size]).toEqual([true, false, 0])
    expect((await reader.sse.closed).reason).toBe('completed')
    expect(reader.data).toEqual(['last'])
    expect(channels.open('a')).not.toBe(old)
    channels.close()
  })

  it('gets the options of all channels', async () => {
    const { channels } = make({ maxEventBytes: 20 })
    await expect(channels.open('a').publish({ data: 'x'.repeat(20) })).rejects.toMatchObject({
      code: 'ERR_SSE_EVENT_TOO_LARGE',
    })
    channels.close()
  })

  it('has a name that is a string', () => {
    const { channels } = make()
    expect(refusalOf(() => channels.open(undefined as unknown as string)).code).toBe('ERR_SSE_INVALID_OPTION')
    expect([channels.size, channels.get('a')]).toEqual([0, undefined])
  })
})

describe('an idle channel', () => {
  it('is disposed of after idleMs, to a quarter, and its name is free', () => {
    const { channels, clock } = make()
    const a = channels.open('a')
    clock.advance(IDLE_MS - 1)
    expect(channels.size).toBe(1)
    clock.advance(IDLE_MS / 4 + 1)
    expect([channels.size, a.signal.aborted, clock.pending]).toEqual([0, true, 0])
    expect(channels.stats().disposed).toBe(1)
  })

  it('is none while it has a reader, is published to, or is looked up', async () => {
    const { channels, clock } = make()
    const reader = connectReader({ clock })
    channels.open('read').subscribe(reader.sse)
    channels.open('looked up')
    const published = channels.open('published to')
    for (let round = 0; round < 10; round += 1) {
      clock.advance(IDLE_MS / 2)
      void published.publish({ data: round })
      channels.get('looked up')
      await turns()
    }
    expect(channels.size).toBe(3)
    reader.transport.lose()
    clock.advance(3 * IDLE_MS)
    expect([channels.size, clock.pending]).toEqual([0, 0])
  })

  it('goes first when there are maxChannels: the one looked up longest ago', () => {
    const { channels } = make({ maxChannels: 2 })
    channels.open('a')
    channels.open('b')
    channels.get('a')
    channels.open('c')
    expect(['a', 'b', 'c'].map((name) => channels.get(name) !== undefined)).toEqual([true, false, true])
    channels.close()
  })
})

describe('channels in use', () => {
  it('are not disposed of: one more than maxChannels is refused', () => {
    const { channels } = make({ maxChannels: 1 })
    const reader = connectReader()
    channels.open('a').subscribe(reader.sse)
    const error = refusalOf(() => channels.open('b'))
    expect(error.code).toBe('ERR_SSE_TOO_MANY_CHANNELS')
    expect(error.message).toMatch(/^All 1 channels are in use/)
    reader.transport.lose()
    expect(channels.open('b').readers).toBe(0)
    channels.close()
  })

  it('hold maxBytes together: the one that is published to gives its own oldest events up', () => {
    const { channels } = make({ maxBytes: 3000 })
    const [a, b] = [channels.open('a'), channels.open('b')]
    const readers = [a, b].map((channel) => {
      const reader = connectReader()
      channel.subscribe(reader.sse)
      return reader
    })
    void a.publish({ data: 'x'.repeat(900) })
    for (let i = 0; i < 10; i += 1) void b.publish({ data: 'x'.repeat(900) })
    expect([a.stats().heldEvents, b.stats().heldEvents]).toEqual([1, 2])
    expect(channels.stats()).toMatchObject({ channels: 2, inUse: 2, readers: 2, disposed: 0 })
    expect(channels.stats().heldBytes).toBeLessThanOrEqual(3000)
    for (const { transport } of readers) transport.lose()
    channels.close()
  })

  it('take the room of an idle one, which was not published to since the last sweep', () => {
    const { channels, clock } = make({ maxBytes: 2000 })
    const idle = channels.open('idle')
    void idle.publish({ data: 'x'.repeat(900) })
    clock.advance(IDLE_MS / 4)
    const active = channels.open('active')
    for (let i = 0; i < 2; i += 1) void active.publish({ data: 'x'.repeat(900) })
    expect([channels.get('idle'), idle.signal.aborted, active.stats().heldEvents]).toEqual([
      undefined,
      true,
      2,
    ])
    channels.close()
  })
})

describe('a closed set of channels', () => {
  it('has ended each of them, opens none, and leaves no timer', () => {
    const { channels, clock } = make()
    const all = ['a', 'b'].map((name) => channels.open(name))
    channels.close()
    expect(all.map(({ signal }) => signal.aborted)).toEqual([true, true])
    expect([channels.size, channels.stats().heldBytes, clock.pending]).toEqual([0, 0, 0])
    expect(refusalOf(() => channels.open('a')).code).toBe('ERR_SSE_CLOSED')
  })
})

describe('createChannels', () => {
  it.each([
    { maxChannels: 0 },
    { maxBytes: 0 },
    { idleMs: 0 },
    { slowConsumer: 'later' },
    { log: { maxEvents: 0 } },
    { log: { epoch: 'mine' } },
    { unheardOf: 1 },
  ])('refuses %o before a channel is opened', (options) => {
    expect(refusalOf(() => createChannels(options as ChannelsOptions)).code).toBe('ERR_SSE_INVALID_OPTION')
  })

  it('sums the bytes of every log exactly, whatever is published and given up', () => {
    const { channels, clock } = make({ log: { maxEvents: 5, maxAgeMs: 50 } })
    for (let i = 0; i < 100; i += 1) {
      void channels.open(`c${i % 7}`).publish({ data: 'x'.repeat(i) })
      if (i % 10 === 0) clock.advance(20)
      if (i % 33 === 0) channels.delete(`c${i % 5}`)
      const held = Array.from({ length: 7 }, (_, of) => channels.get(`c${of}`)?.stats().heldBytes ?? 0)
      expect(channels.stats().heldBytes).toBe(held.reduce((sum, bytes) => sum + bytes, 0))
    }
    channels.close()
  })
})
