import { type ChannelsOptions, createChannels, pipe } from 'sluice'
import { describe, expect, it, vi } from 'vitest'
import { Channel } from '../../src/channel/channel.js'
import { connectReader, range } from '../support/channel.js'
import { ManualClock } from '../support/clock.js'
import { track, turns } from '../support/fake-transport.js'

const IDLE_MS = 1000

function make(options: ChannelsOptions = {}, clock = new ManualClock()) {
  const channels = createChannels({ idleMs: IDLE_MS, flushIntervalMs: 0, clock, ...options })
  return { channels, clock }
}

describe('a channel of a set is in use', () => {
  it('while a permit is out', async () => {
    const { channels, clock } = make({ maxChannels: 2 })
    const run = channels.open('run')
    const permit = await run.requestSend()
    for (const name of ['a', 'b', 'c']) channels.open(name)
    expect([channels.get('run') === run, channels.get('b')]).toEqual([true, undefined])
    for (const _ of range(1, 20)) clock.advance(IDLE_MS / 4)
    expect(channels.get('run')).toBe(run)
    expect(permit.send({ data: 1 })).toBe('queued')
    for (const _ of range(1, 20)) clock.advance(IDLE_MS / 4)
    expect(channels.size).toBe(0)
    channels.close()
  })

  it('while a pipe waits for its source', async () => {
    const { channels, clock } = make({ maxChannels: 2 })
    let give = (_: string) => {}
    const token = new Promise<string>((resolve) => {
      give = resolve
    })
    const source = async function* () {
      yield 'first'
      yield await token
    }
    const run = channels.open('run')
    const piped = track(pipe(source(), run))
    await turns(3)
    expect(run.published).toBe(1)
    for (const name of ['a', 'b']) channels.open(name)
    for (const _ of range(1, 20)) clock.advance(IDLE_MS / 4)
    expect(channels.get('run')).toBe(run)
    give('last')
    await turns(3)
    expect(piped).toMatchObject({ state: 'fulfilled', value: { outcome: 'ended', events: 2 } })
    channels.close()
  })

  it('a turn after a pipe has begun', async () => {
    const { channels } = make({ maxChannels: 2 })
    const source = async function* () {
      await turns(2)
      yield 'token'
    }
    const piped = pipe(source(), channels.open('run'))
    await turns(1)
    for (const name of ['a', 'b']) channels.open(name)
    expect(await piped).toMatchObject({ outcome: 'ended', events: 1 })
    channels.close()
  })

  it('while a caller waits for the end of a burst', async () => {
    const { channels } = make({ maxChannels: 2 })
    const run = channels.open('run')
    for (const n of range(1, 256)) void run.publish({ data: n })
    const waiting = track(run.requestSend())
    expect(run.stats().waiters).toBe(1)
    for (const name of ['a', 'b']) channels.open(name)
    await turns(3)
    expect(waiting.state).toBe('fulfilled')
    waiting.value?.release()
    channels.close()
  })
})

/** A clock on which looking at it takes a while. */
class TickingClock extends ManualClock {
  #looks = 0

  override now(): number {
    this.#looks += 1
    return super.now() + this.#looks
  }
}

it('an open that is refused does not look at all channels again at once, but some time later', () => {
  const { channels, clock } = make({ maxChannels: 100, idleMs: 1_000_000 }, new TickingClock())
  const readers = range(1, 100).map((n) => {
    const reader = connectReader()
    channels.open(`c${n}`).subscribe(reader.sse)
    return reader
  })
  const looked = vi.spyOn(Channel.prototype, 'isInUse', 'get')
  const open = () => channels.open('one more')
  const refused = expect.objectContaining({ code: 'ERR_SSE_TOO_MANY_CHANNELS' })
  try {
    expect(open).toThrow(refused)
    expect(looked).toHaveBeenCalledTimes(100)
    for (const _ of range(1, 10)) expect(open).toThrow(refused)
    expect(looked).toHaveBeenCalledTimes(100)
    readers[50]?.sse.abort()
    clock.advance(1000)
    expect(open().isInUse).toBe(false)
    expect([channels.get('c51'), channels.size]).toEqual([undefined, 100])
  } finally {
    looked.mockRestore()
    for (const { sse } of readers) sse.abort()
    channels.close()
  }
})
