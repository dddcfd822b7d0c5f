import { type ChannelOptions, createChannel, createMemoryLog, type SubscribeOptions } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connectReader, type Reader, type ReaderOptions, range, settle } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'

const LIMIT_BYTES = 10_000
const LIMIT_EVENTS = 20
const MAX_WAIT_MS = 500

function pacedChannel(maxLag: NonNullable<ChannelOptions['maxLag']>) {
  const clock = new ManualClock()
  const log = createMemoryLog({ epoch: 'e', clock })
  const options: ChannelOptions = { log, clock, flushIntervalMs: 0 }
  const channel = createChannel({ ...options, slowConsumer: 'wait', maxWaitMs: MAX_WAIT_MS, maxLag })
  return {
    channel,
    clock,
    /** Another channel on the same log. */
    other: createChannel(options),
    /** A reader whose head was written before it follows. */
    async follow(options: ReaderOptions = {}, select: SubscribeOptions = {}): Promise<Reader> {
      const reader = connectReader({ clock, writeStallMs: 1_000_000, ...options })
      await turns(2)
      channel.subscribe(reader.sse, select)
      await turns(2)
      return reader
    },
  }
}

/** How many sends are accepted while the readers do what they do. */
async function acceptedOf(channel: ReturnType<typeof pacedChannel>['channel'], count: number) {
  const controller = new AbortController()
  let accepted = 0
  for (let i = 0; i < count; i += 1) {
    const sent = track(channel.send({ data: 'y' }, { signal: controller.signal }))
    await turns(2)
    if (sent.state !== 'fulfilled') break
    accepted += 1
  }
  controller.abort()
  await turns(1)
  return accepted
}

describe('a reader that publishers wait for', () => {
  it('is not run away from in bytes when somebody else appends to the log', async () => {
    const { channel, other, follow } = pacedChannel({ events: 1000, bytes: LIMIT_BYTES })
    const slow = await follow({ isSlow: true })
    for (const n of range(1, 5)) await channel.send({ data: n })
    for (const _ of range(1, 30)) void other.publish({ data: 'x'.repeat(1000) })
    await turns(3)
    expect(slow.sse.stats().queuedBytes).toBeGreaterThan(LIMIT_BYTES)
    const sent = track(channel.send({ data: 'last' }))
    await turns(3)
    expect(sent.state).toBe('pending')
    slow.transport.takesAtOnce = true
    slow.transport.take()
    await settle()
    expect(sent).toMatchObject({ state: 'fulfilled', value: 'queued' })
    expect(slow.data.at(-1)).toBe('last')
  })

  it('counts in bytes from when it comes, however far behind', async () => {
    const { channel, follow } = pacedChannel({ events: 1000, bytes: LIMIT_BYTES })
    const fast = await follow()
    for (const _ of range(1, 30)) {
      await channel.send({ data: 'x'.repeat(1000) })
      await turns(2)
    }
    for (const n of range(1, 3)) await channel.send({ data: n })
    await turns(2)
    expect(fast.data).toHaveLength(33)
    const late = await follow({ isSlow: true, lastEventId: 'e-1' })
    expect(late.sse.stats().queuedBytes).toBeGreaterThan(LIMIT_BYTES)
    expect(await acceptedOf(channel, 50)).toBe(0)
    late.transport.takesAtOnce = true
    late.transport.take()
    await settle()
    expect(late.data).toHaveLength(32)
    expect(await acceptedOf(channel, 50)).toBe(50)
  })
})

describe('publishers do not wait for', () => {
  it('a reader that is closing, though it takes nothing', async () => {
    const { channel, clock, follow } = pacedChannel({ events: LIMIT_EVENTS, bytes: Infinity })
    const slow = await follow({ isSlow: true, drainMs: 1_000_000 })
    expect(await acceptedOf(channel, 100)).toBe(LIMIT_EVENTS)
    const waiting = track(channel.send({ data: 'waits' }))
    await turns(2)
    expect(waiting.state).toBe('pending')
    slow.sse.close()
    await turns(3)
    expect(waiting.state).toBe('fulfilled')
    expect(await acceptedOf(channel, 100)).toBe(100)
    expect(slow.sse.phase).toBe('draining')
    clock.advance(MAX_WAIT_MS * 2)
    expect(slow.sse.phase).toBe('draining')
    expect(channel.stats()).toMatchObject({ readers: 1, closedSlow: 0 })
    slow.sse.abort()
  })

  it('one that begins to close with less than the limit left to it', async () => {
    const { channel, follow } = pacedChannel({ events: LIMIT_EVENTS, bytes: Infinity })
    const slow = await follow({ isSlow: true, drainMs: 1_000_000 })
    expect(await acceptedOf(channel, LIMIT_EVENTS / 2)).toBe(LIMIT_EVENTS / 2)
    slow.sse.close()
    await turns(2)
    expect(await acceptedOf(channel, 100)).toBe(100)
    expect(slow.sse.phase).toBe('draining')
    slow.sse.abort()
  })

  it.each([
    ['and takes what it is written', false],
    ['and takes nothing', true],
  ])('readers that wait for their snapshot, whenever they came %s', async (_, isSlow) => {
    const { channel, clock, follow } = pacedChannel({ events: LIMIT_EVENTS, bytes: LIMIT_BYTES })
    let giveState = () => {}
    const state = new Promise<{ events: { data: string }[] }>((resolve) => {
      giveState = () => resolve({ events: [{ data: 'state' }] })
    })
    const readers: Reader[] = []
    for (const _ of range(1, 3)) {
      readers.push(await follow({ isSlow }, { onSubscribe: () => state }))
      expect(await acceptedOf(channel, 3 * LIMIT_EVENTS)).toBe(3 * LIMIT_EVENTS)
    }
    clock.advance(MAX_WAIT_MS * 2)
    expect(channel.stats()).toMatchObject({ readers: 3, slow: 0, closedSlow: 0 })
    giveState()
    await turns(1)
    for (const { transport } of readers) {
      transport.takesAtOnce = true
      transport.take()
    }
    await settle()
    await channel.send({ data: 'last' })
    await settle()
    for (const [i, { events }] of readers.entries()) {
      const got = events.filter(({ event }) => event === undefined).map(({ data }) => data)
      expect(got).toEqual(['state', ...range(1, (3 - i) * 3 * LIMIT_EVENTS).map(() => 'y'), 'last'])
    }
  })

  it('but do for one that has its snapshot and takes nothing', async () => {
    const { channel, follow } = pacedChannel({ events: LIMIT_EVENTS, bytes: Infinity })
    await follow({ isSlow: true }, { onSubscribe: () => ({ events: [{ data: 'state' }] }) })
    expect(await acceptedOf(channel, 100)).toBe(LIMIT_EVENTS)
  })
})
