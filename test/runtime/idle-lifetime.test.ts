import { createMemoryLog } from 'sluice'
import { describe, expect, it, vi } from 'vitest'
import { connect } from '../support/client.js'
import { turns } from '../support/fake-transport.js'
import { fakeClient, overfill, stalledClient, supervise, superviseFakes, WIDE } from '../support/sluice.js'
import { until } from '../support/until.js'

const NEVER = Number.POSITIVE_INFINITY
/** Nothing but what is tested has a timer. */
const SILENT = { heartbeat: { format: 'none' } } as const
const SECOND = 1000

describe('a stream without events', () => {
  it.each([8, 80, 8000, 60_000, 600_000])(
    'closes as idle after idleMs, soon after 9/8 of it: %d ms',
    async (idleMs) => {
      const { clock, open } = superviseFakes({ idleMs, lifetimeMs: NEVER })
      const { sse } = open()
      clock.advance(idleMs - 1)
      expect(sse.phase).toBe('flowing')
      // Eight looks, each of which the wheel calls up to a second late.
      clock.advance(idleMs / 8 + (idleMs >= 8000 ? 9 * SECOND : 2))
      expect((await sse.closed).reason).toBe('idle')
    },
  )

  it('is not kept open by heartbeats, of either format, nor by comments', async () => {
    for (const format of ['comment', 'event'] as const) {
      const { clock, open } = superviseFakes({
        idleMs: 60_000,
        lifetimeMs: NEVER,
        heartbeat: { format, intervalMs: 5000 },
      })
      const { sse, transport } = open()
      for (let i = 0; i < 80 && sse.phase !== 'closed'; i += 1) {
        clock.advance(SECOND)
        sse.comment('still here')
        await turns()
      }
      expect(sse.stats().durationMs).toBeLessThanOrEqual(60_000 * 1.125 + 9 * SECOND)
      expect((await sse.closed).reason).toBe('idle')
      expect(transport.text).toContain(': still here')
    }
  })

  it('is kept open by touch(), of its session only, and without anything on the wire', async () => {
    const { clock, sluice, open } = superviseFakes({
      idleMs: 60_000,
      lifetimeMs: NEVER,
      heartbeat: { format: 'none' },
    })
    const [touched, other] = [open(fakeClient(), { sessionId: 'a' }), open(fakeClient(), { sessionId: 'b' })]
    await turns()
    const { text } = touched.transport
    for (let i = 0; i < 30; i += 1) {
      clock.advance(10_000)
      expect(sluice.touch('a')).toBe(true)
    }
    expect((await other.sse.closed).reason).toBe('idle')
    expect(touched.sse.phase).toBe('flowing')
    expect(touched.transport.text).toBe(text)
    expect(sluice.touch('b')).toBe(false)
    expect(sluice.touch('nobody')).toBe(false)
  })

  it('is never idle with Infinity, and sessions() tell how long it has been quiet', async () => {
    const { clock, sluice, open } = superviseFakes({ ...SILENT, idleMs: NEVER, lifetimeMs: NEVER })
    const { sse } = open()
    clock.advance(365 * 86_400 * SECOND)
    await turns()
    expect(sse.phase).toBe('flowing')
    sluice.sessions()
    sse.trySend({ data: 'x' })
    await turns()
    expect(sluice.sessions()[0]?.idleMs).toBe(0)
    clock.advance(3000)
    expect(sluice.sessions()[0]?.idleMs).toBe(3000)
  })
})

describe('a stream with events', () => {
  it('is not idle, and is so from the last of them on', async () => {
    const { clock, open } = superviseFakes({ idleMs: 60_000, lifetimeMs: NEVER })
    const { sse } = open()
    for (let i = 0; i < 20; i += 1) {
      sse.trySend({ data: 'x' })
      await turns()
      clock.advance(30_000)
    }
    expect(sse.phase).toBe('flowing')
    clock.advance(48_000)
    await turns()
    expect((await sse.closed).reason).toBe('idle')
    expect(sse.stats().durationMs).toBeGreaterThanOrEqual(19 * 30_000 + 60_000)
  })

  it('from a log that others append to is not idle, either', async () => {
    const log = createMemoryLog()
    const { clock, open } = superviseFakes({ idleMs: 60_000, lifetimeMs: NEVER })
    const { sse } = open(fakeClient(), { log })
    for (let i = 0; i < 10; i += 1) {
      log.append('data: x\n\n')
      await turns()
      clock.advance(30_000)
    }
    expect(sse.phase).toBe('flowing')
  })
})

describe('a lifetime', () => {
  it('ends between 80 and 100 % of lifetimeMs, a second later at most', async () => {
    const { clock, open } = superviseFakes({ ...SILENT, idleMs: NEVER, lifetimeMs: 100_000 })
    const streams = Array.from({ length: 100 }, () => open().sse)
    clock.advance(79_999)
    expect(streams.every(({ phase }) => phase === 'flowing')).toBe(true)
    clock.advance(21_001)
    const reasons = await Promise.all(streams.map(({ closed }) => closed))
    expect(new Set(reasons.map(({ reason }) => reason))).toEqual(new Set(['lifetime']))
  })

  it('is spread evenly over that fifth: 1,000 streams do not come back together', async () => {
    // The same 1,000 numbers in each run: a golden ratio apart, as even as numbers at random are on the average.
    let drawn = 0
    const random = vi.spyOn(Math, 'random').mockImplementation(() => {
      drawn += 1
      return (drawn * 0.618_033_988_749) % 1
    })
    const { clock, open } = superviseFakes({ ...SILENT, idleMs: NEVER, lifetimeMs: 1_000_000 })
    const streams = Array.from({ length: 1000 }, () => open().sse)
    random.mockRestore()
    clock.advance(800_000)
    const perTwentieth: number[] = []
    for (let i = 0; i < 20; i += 1) {
      const before = streams.filter(({ phase }) => phase !== 'flowing').length
      clock.advance(10_000)
      await turns(3)
      perTwentieth.push(streams.filter(({ phase }) => phase !== 'flowing').length - before)
    }
    expect(Math.min(...perTwentieth)).toBeGreaterThanOrEqual(40)
    expect(Math.max(...perTwentieth)).toBeLessThanOrEqual(60)
  })

  it('is drawn at random, from the whole fifth', async () => {
    const { clock, sluice, open } = superviseFakes({ ...SILENT, idleMs: NEVER, lifetimeMs: 1_000_000 })
    for (let i = 0; i < 400; i += 1) open()
    // 400 draws all miss a half once in 10^120.
    clock.advance(900_000)
    await turns(5)
    const { length } = sluice.sessions()
    expect(length).toBeGreaterThan(100)
    expect(length).toBeLessThan(300)
  })

  it('ends though the stream is busy, and what was accepted is sent', async () => {
    const { clock, open } = superviseFakes({ lifetimeMs: 20_000 })
    const { sse, transport } = open()
    for (let i = 0; sse.phase === 'flowing' && i < 25; i += 1) {
      sse.trySend({ data: `event ${i}` })
      clock.advance(SECOND)
    }
    await turns(3)
    const { reason, eventsUnsent } = await sse.closed
    expect({ reason, eventsUnsent }).toEqual({ reason: 'lifetime', eventsUnsent: 0 })
    expect(transport.calls).toContain('end')
  })

  it('never ends with Infinity', () => {
    const { clock, open } = superviseFakes({ ...SILENT, idleMs: NEVER, lifetimeMs: NEVER })
    const { sse } = open()
    clock.advance(10 * 365 * 86_400 * SECOND)
    expect(sse.phase).toBe('flowing')
  })

  it('that is over is looked at no more while the stream drains', async () => {
    const { clock, open } = superviseFakes({ lifetimeMs: 2000, drainMs: 60_000, writeStallMs: 600_000 })
    const client = fakeClient()
    client.transport.takesAtOnce = false
    const { sse } = open(client)
    sse.trySend({ data: 'x' })
    await turns()
    clock.advance(4000)
    expect(sse.phase).toBe('draining')
    const set = vi.spyOn(clock, 'setTimeout')
    clock.advance(10_000)
    expect(set.mock.calls.length).toBeLessThanOrEqual(20)
    clock.advance(60_000)
    expect((await sse.closed).reason).toBe('lifetime')
  })
})

describe('over real sockets', () => {
  it('a stream without events closes as idle, and one with events does not', async () => {
    const { url, opened } = await supervise({ idleMs: 80, heartbeat: { intervalMs: 10 } })
    const quiet = await connect(url)
    const busy = await connect(url)
    const sending = setInterval(() => opened[1]?.trySend({ data: 'x' }), 5)
    await until(() => quiet.ended)
    clearInterval(sending)
    expect((await opened[0]?.closed)?.reason).toBe('idle')
    expect(quiet.comments.length).toBeGreaterThan(0)
    expect(busy.closed).toBe(false)
  })

  it('a stream ends after its lifetime, and its client may come back at once', async () => {
    const { url, opened } = await supervise({ lifetimeMs: 50 })
    const client = await connect(url)
    await until(() => client.ended)
    expect((await opened[0]?.closed)?.reason).toBe('lifetime')
    expect((await connect(url)).response.statusCode).toBe(200)
  })

  it('a client that does not read is reset when its drain is over', async () => {
    const { port, opened, sluice } = await supervise({ lifetimeMs: 50, drainMs: 50, ...WIDE })
    await stalledClient(port)
    await until(() => opened.length === 1)
    const [sse] = opened
    if (!sse) throw new Error('There is no stream.')
    overfill(sse)
    expect((await sse.closed).reason).toBe('lifetime')
    expect(sluice.sessions()).toEqual([])
  })
})
