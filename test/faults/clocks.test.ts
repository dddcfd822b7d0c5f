import { setTimeout as wait } from 'node:timers/promises'
import { createChannel, createSluice } from 'sluice'
import { expect, it, onTestFinished, vi } from 'vitest'
import { range } from '../support/channel.js'
import { connect, type TestClient } from '../support/client.js'
import { recordFault } from './faults.js'
import { CountedClock, SWEEP_MS, serveStreams } from './streams.js'

const CLIENTS = 20
const BATCH = 10
const HEARTBEAT_MS = 50
const SECOND_MS = 1000
const HOUR_MS = 3600 * SECOND_MS

/** Time that goes on, stands still, or leaps, while timers go on. */
class FaultyClock extends CountedClock {
  #standsAt: number | null = null
  #leaptMs = 0

  override now(): number {
    return this.#standsAt ?? super.now() + this.#leaptMs
  }

  /** Stops just before a second ends, which is when the least time is left to wait for. */
  stand(): void {
    this.#standsAt = Math.ceil(this.now() / SECOND_MS) * SECOND_MS - 0.5
  }

  goOn(): void {
    this.#standsAt = null
  }

  leap(ms: number): void {
    this.#leaptMs += ms
  }
}

/** Like `until` of the other tests, by a clock that the test has not bent. */
async function steadily(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Waited 10 s in vain until ${what}`)
    await wait(5)
  }
}

async function readersOfChannel(clock: FaultyClock) {
  const channel = createChannel({ clock })
  const sluice = createSluice({ clock, heartbeat: { intervalMs: HEARTBEAT_MS }, sweepMs: SWEEP_MS })
  const streams = await serveStreams((sse) => channel.subscribe(sse), clock, sluice)
  const clients = await Promise.all(range(1, CLIENTS).map(() => connect(streams.url)))
  let published = 0
  return {
    streams,
    clients,
    /** Publishes some, and waits until everybody has exactly all. */
    async publishSome() {
      for (const _ of range(1, BATCH)) {
        published += 1
        await channel.publish({ data: published })
      }
      const expected = range(1, published).map(String)
      await steadily(() => clients.every((client) => eventsOf(client).length >= published), 'all have all')
      for (const client of clients) expect(eventsOf(client)).toEqual(expected)
    },
    async leave() {
      for (const client of clients) client.leave()
      await streams.untilNothingIsLeft()
    },
  }
}

function eventsOf({ events }: TestClient): string[] {
  return events.filter(({ event }) => event !== 'connected').map(({ data }) => data)
}

it('a wall clock that jumps by hours closes nobody, and loses nothing', async () => {
  const { streams, clients, publishSome, leave } = await readersOfChannel(new FaultyClock())
  const now = Date.now.bind(Date)
  let offsetMs = 0
  const jumping = vi.spyOn(Date, 'now').mockImplementation(() => now() + offsetMs)
  onTestFinished(() => jumping.mockRestore())
  for (const hours of [6, -6, 24, -24, 1, 0]) {
    offsetMs = hours * HOUR_MS
    const beats = clients.map(({ comments }) => comments.length)
    await steadily(() => clients.every(({ comments }, i) => comments.length > (beats[i] ?? 0)), 'hearts beat')
    await publishSome()
  }
  expect(streams.open.size).toBe(CLIENTS)
  jumping.mockRestore()
  await leave()
  const durations = streams.closings.map(({ durationMs }) => durationMs)
  expect(Math.min(...durations)).toBeGreaterThan(0)
  expect(Math.max(...durations)).toBeLessThan(60 * SECOND_MS)
  recordFault('wall-clock', { timesMs: [], reasons: [], left: 'nothing' })
})

it('a monotonic clock that stands still closes nobody, loses nothing, and keeps the process free', async () => {
  const clock = new FaultyClock()
  const { streams, publishSome, leave } = await readersOfChannel(clock)
  clock.stand()
  const timersBefore = clock.set
  for (const _ of range(1, 4)) {
    await publishSome()
    await wait(500)
  }
  expect(clock.set - timersBefore).toBeLessThan(10_000)
  clock.goOn()
  await publishSome()
  expect(streams.open.size).toBe(CLIENTS)
  await leave()
  recordFault('clock-stands', { timesMs: [], reasons: [], left: 'nothing' })
})

it('a monotonic clock that leaps by less than the idle time closes nobody, and loses nothing', async () => {
  const clock = new FaultyClock()
  const { streams, clients, publishSome, leave } = await readersOfChannel(clock)
  for (const _ of range(1, 4)) {
    clock.leap(300 * SECOND_MS)
    const beats = clients.map(({ comments }) => comments.length)
    await steadily(() => clients.every(({ comments }, i) => comments.length > (beats[i] ?? 0)), 'hearts beat')
    await publishSome()
  }
  expect(streams.open.size).toBe(CLIENTS)
  await leave()
  recordFault('clock-leaps', { timesMs: [], reasons: [], left: 'nothing' })
})

it('a monotonic clock that leaps beyond every limit ends the streams gracefully, and new ones open', async () => {
  const clock = new FaultyClock()
  const { streams, clients, publishSome, leave } = await readersOfChannel(clock)
  await publishSome()
  clock.leap(2 * HOUR_MS)
  const leaptAt = performance.now()
  await steadily(() => streams.closings.length === CLIENTS, 'all are closed')
  const reasons = streams.closings.map(({ reason }) => reason)
  for (const reason of reasons) expect(['idle', 'lifetime']).toContain(reason)
  await steadily(() => clients.every(({ ended }) => ended), 'all are ended')
  const again = await connect(streams.url)
  await steadily(() => again.comments.length > 2, 'the heart of a new stream beats')
  again.leave()
  const timesMs = streams.closings.slice(0, CLIENTS).map(({ seenAt }) => seenAt - leaptAt)
  await leave()
  recordFault('clock-leaps-far', { timesMs, reasons, left: 'nothing' })
})
