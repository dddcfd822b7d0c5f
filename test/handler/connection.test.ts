import type { IncomingMessage, ServerResponse } from 'node:http'
import fc from 'fast-check'
import {
  type ClosedInfo,
  type CloseReason,
  createMemoryLog,
  createSSEHandler,
  type EventLog,
  type Phase,
  type SSEHandler,
  type SSEHandlerOptions,
  type SSEHandlerStats,
} from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { connectFake, sendUntilFull, track, turns, untilStuck } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

interface Opened {
  sse: SSEHandler
  client: TestClient
  clock: ManualClock
  req: IncomingMessage
  res: ServerResponse
}

/** A real stream: a server, a connection of it, and the client at its other end. */
async function open(options: SSEHandlerOptions = {}, headers: Record<string, string> = {}): Promise<Opened> {
  const clock = new ManualClock()
  const opened = { clock } as Opened
  const { url } = await serve((req, res) => {
    Object.assign(opened, { req, res, sse: createSSEHandler(req, res, { clock, ...options }) })
  })
  opened.client = await connect(url, { headers })
  return opened
}

/** Sends to a client that does not read until nothing moves any more. */
async function fillUp({ sse, client }: Opened): Promise<void> {
  client.pause()
  const large = { data: 'x'.repeat(60_000) }
  await untilStuck(sse, () => sendUntilFull(sse, large))
  expect(sse.phase).toBe('blocked')
}

describe('the first event', () => {
  it('tells the session and the delay before a reconnect', async () => {
    const { client, sse } = await open({ sessionId: 'session-1' })
    await client.until(({ length }) => length > 0)
    expect(client.text).toBe('retry: 2000\nevent: connected\ndata: {"sessionId":"session-1"}\n\n')
    expect(sse.sessionId).toBe('session-1')
  })

  it('names a random session when none is given', async () => {
    const { client, sse } = await open()
    await client.until(({ length }) => length > 0)
    expect(sse.sessionId).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/)
    expect(client.events).toEqual([
      { event: 'connected', data: JSON.stringify({ sessionId: sse.sessionId }), id: undefined },
    ])
  })

  it('can be another one with raw data, as the MCP transport of 2024-11-05 wants it', async () => {
    const firstEvent = { event: 'endpoint', data: '/messages?session=7' }
    const { client } = await open({ firstEvent, retryMs: 0 })
    await client.until(({ length }) => length > 0)
    expect(client.text).toBe('retry: 0\nevent: endpoint\ndata: /messages?session=7\n\n')
  })

  it('can be none: then only the delay is told', async () => {
    const { client, sse } = await open({ firstEvent: false, retryMs: 750 })
    sse.trySend({ data: 'a' })
    await client.until(({ length }) => length > 0)
    expect(client.text).toBe('retry: 750\n\ndata: a\n\n')
  })

  it('carries the position in the log, so that a reconnect before the next event misses nothing', async () => {
    const log = createMemoryLog({ epoch: 'e' })
    log.append('data: before\n\n')
    const { client, sse } = await open({ log })
    await client.until(({ length }) => length > 0)
    expect(client.lastEventId).toBe('e-1')
    expect(sse.stats().lastId).toBe('e-1')
  })
})

describe('a delay before a reconnect', () => {
  it('goes out at once, and of several that wait the last one counts', async () => {
    const { sse, transport } = connectFake({ firstEvent: false })
    await turns()
    expect([sse.retry(1), sse.retry(2), sse.retry(500)]).toEqual(['queued', 'queued', 'queued'])
    transport.take()
    await turns()
    expect(transport.chunks).toEqual(['retry: 2000\n\n', 'retry: 500\n\n'])
    for (const bad of [-1, 0.5, Number.NaN, '5' as unknown as number]) {
      expect(() => sse.retry(bad)).toThrow(expect.objectContaining({ code: 'ERR_SSE_INVALID_EVENT' }))
    }
    sse.abort()
    expect(sse.retry(3)).toBe('closed')
  })
})

describe('a comment', () => {
  it('passes the events that wait, line by line, and no listener sees it', async () => {
    const { client, sse } = await open({ firstEvent: false })
    sse.trySend({ data: 'a' })
    expect(sse.comment('one\ndata: two\r\nthree')).toBe('queued')
    await client.until(({ length }) => length > 0)
    expect(client.text).toBe('retry: 2000\n\n: one\n: data: two\n: three\n\ndata: a\n\n')
    expect(client.events.map(({ data }) => data)).toEqual(['a'])
  })

  it('is dropped above maxEventBytes of comments that wait, and refused when it is no text', async () => {
    const { sse, transport } = connectFake({ firstEvent: false, maxEventBytes: 100 })
    await turns()
    const text = 'x'.repeat(46)
    expect([sse.comment(text), sse.comment(text), sse.comment('')]).toEqual(['queued', 'queued', 'dropped'])
    expect(() => sse.comment(undefined as unknown as string)).toThrow(
      /ERR_SSE_INVALID_EVENT|expected a string/,
    )
    transport.take()
    await turns()
    expect(transport.chunks.at(-1)).toBe(`: ${text}\n\n: ${text}\n\n`)
    expect(sse.comment('there is room again')).toBe('queued')
    void sse.close()
    expect(sse.comment('late')).toBe('closed')
  })
})

describe('the heartbeat', () => {
  const written = ({ client }: Opened) => client.text.slice(client.text.indexOf('\n\n') + 2)

  it('is a comment each interval in which nothing was written', async () => {
    const opened = await open({ firstEvent: false })
    await until(() => opened.client.text !== '')
    opened.clock.advance(14_999)
    await turns()
    opened.clock.advance(1)
    await until(() => opened.client.comments.length === 1)
    opened.clock.advance(15_000)
    await until(() => opened.client.comments.length === 2)
    expect(written(opened)).toBe(': \n\n: \n\n')
    expect(opened.client.events).toEqual([])
  })

  it('can be an event with the time', async () => {
    const { client, clock } = await open({
      firstEvent: false,
      heartbeat: { intervalMs: 100, format: 'event' },
    })
    const before = Date.now()
    clock.advance(100)
    await client.until(({ length }) => length > 0)
    expect(client.events[0]?.event).toBe('heartbeat')
    const { timestamp, ...rest } = JSON.parse(client.events[0]?.data ?? '')
    expect(rest).toEqual({})
    expect(timestamp).toBeGreaterThanOrEqual(before)
    expect(timestamp).toBeLessThanOrEqual(Date.now())
  })

  it('can be none: then there is no timer at all', async () => {
    const { sse, transport, clock } = connectFake({ firstEvent: false, heartbeat: { format: 'none' } })
    transport.take()
    await turns()
    transport.take()
    expect(clock.pending).toBe(0)
    clock.advance(1_000_000)
    await turns()
    expect([sse.phase, transport.chunks]).toEqual(['flowing', ['retry: 2000\n\n']])
  })

  it('is skipped after a write, and due an interval after that write', async () => {
    const { sse, transport, clock } = connectFake(
      { firstEvent: false, heartbeat: { intervalMs: 1000 } },
      { transport: (fake) => Object.assign(fake, { takesAtOnce: true }) },
    )
    await turns()
    for (const [ms, data] of [
      [600, 'a'],
      [600, 'b'],
      [999, null],
      [1, null],
    ] as const) {
      clock.advance(ms)
      await turns()
      if (data !== null) sse.trySend({ data })
      await turns()
    }
    expect(transport.chunks).toEqual(['retry: 2000\n\n', 'data: a\n\n', 'data: b\n\n', ': \n\n'])
    clock.advance(1000)
    await turns()
    expect(transport.chunks.slice(4)).toEqual([': \n\n'])
  })

  it('does not pile up for a client that does not read', async () => {
    const { transport, clock } = connectFake({
      firstEvent: false,
      heartbeat: { intervalMs: 1000, maxMissed: 1000 },
      writeStallMs: 1_000_000,
    })
    await turns()
    for (let i = 0; i < 50; i += 1) {
      clock.advance(1000)
      await turns(1)
    }
    expect(transport.chunks).toHaveLength(1)
    transport.take()
    await turns()
    expect(transport.chunks).toEqual(['retry: 2000\n\n', ': \n\n'])
  })

  it('that is missed maxMissed times in a row closes the connection by force', async () => {
    const { sse, transport, clock } = connectFake({
      heartbeat: { intervalMs: 1000, maxMissed: 3 },
      writeStallMs: 1_000_000,
    })
    const missed: number[] = []
    sse.on('heartbeat', (info) => missed.push(info.missed))
    await turns()
    clock.advance(2999)
    expect([sse.phase, sse.stats().heartbeatsMissed]).toEqual(['blocked', 2])
    clock.advance(1)
    expect((await sse.closed).reason).toBe('heartbeat-missed')
    expect(missed).toEqual([1, 2, 3])
    expect(transport.calls).toContain('reset')
    expect(clock.pending).toBe(0)
  })

  it('is not missed while the peer takes some bytes of what was written', async () => {
    const { sse, transport, clock } = connectFake({
      heartbeat: { intervalMs: 1000, maxMissed: 2 },
      writeStallMs: 1_000_000,
    })
    await turns()
    for (let i = 0; i < 20; i += 1) {
      clock.advance(1000)
      expect(sse.stats().heartbeatsMissed).toBeLessThan(2)
      transport.take(1)
    }
    expect(sse.phase).toBe('blocked')
    transport.take()
    await turns()
    clock.advance(1000)
    expect(sse.stats().heartbeatsMissed).toBe(0)
    sse.abort()
  })
})

describe('a client that does not take what it is sent', () => {
  it('is told of once per crossing, by blocked and unblocked and the phase', async () => {
    const { sse, transport } = connectFake({ firstEvent: false })
    const told: unknown[] = []
    sse.on('blocked', () => told.push('blocked'))
    sse.on('unblocked', () => told.push('unblocked'))
    sse.on('phase', (phase, previous) => told.push([previous, phase]))
    for (let crossing = 0; crossing < 3; crossing += 1) {
      for (let i = 0; i < 5; i += 1) {
        sse.trySend({ data: i })
        await turns()
      }
      transport.take()
    }
    await turns()
    const crossing = ['blocked', ['flowing', 'blocked'], 'unblocked', ['blocked', 'flowing']]
    expect(told).toEqual([...crossing, ...crossing, ...crossing, ...crossing.slice(0, 2)])
    expect(transport.violations).toEqual([])
  })

  it('is not told of when it takes everything within the turn', async () => {
    const { sse, transport } = connectFake({ firstEvent: false })
    const told: string[] = []
    for (const name of ['blocked', 'unblocked'] as const) sse.on(name, () => told.push(name))
    for (let i = 0; i < 5; i += 1) {
      await turns(1)
      transport.take()
      sse.trySend({ data: i })
    }
    expect(told).toEqual([])
    expect(transport.chunks.length).toBeGreaterThan(2)
  })

  it('is written nothing more until it has taken the last chunk, whatever is asked meanwhile', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.constant('send') },
      { weight: 1, arbitrary: fc.constantFrom('comment', 'retry', 'beat', 'large') },
      { weight: 3, arbitrary: fc.constantFrom('turn', 'take', 'take a byte') },
    )
    const runs = fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, withLog) => {
      const { sse, transport, clock } = connectFake({
        firstEvent: false,
        maxEvents: 8,
        ...(withLog && { log: createMemoryLog() }),
        heartbeat: { intervalMs: 1000 },
        writeStallMs: 1_000_000,
      })
      const accepted: number[] = []
      for (const [i, what] of steps.entries()) {
        const data = what === 'large' ? 'x'.repeat(70_000) : ''
        if (what === 'send' || what === 'large') {
          if (sse.trySend({ event: `e${i}`, data }) === 'queued') accepted.push(i)
        }
        if (what === 'comment') sse.comment('c')
        if (what === 'retry') sse.retry(i)
        if (what === 'beat') clock.advance(1000)
        if (what === 'turn') await turns(1)
        if (what === 'take') transport.take()
        if (what === 'take a byte') transport.take(1)
      }
      const closed = track(sse.close())
      await until(() => {
        transport.take()
        transport.finish()
        return closed.state !== 'pending'
      })
      const sent = [...transport.text.matchAll(/^event: e(\d+)$/gm)].map(([, number]) => Number(number))
      expect(sent).toEqual(accepted)
      expect(closed.value).toMatchObject({
        reason: 'server-closed',
        eventsSent: accepted.length,
        eventsUnsent: 0,
        bytesSent: Buffer.byteLength(transport.text),
      })
      expect(transport.violations).toEqual([])
      expect(transport.calls.slice(-2)).toEqual(['end', 'detach'])
    })
    await fc.assert(runs)
  })

  it.each([1, 2, 3])('gets no more than maxEvents queued for it, %i turns after the write', async (later) => {
    const { sse, transport } = connectFake({ firstEvent: false, maxEvents: 2 })
    await turns(later)
    expect(transport.isWaiting).toBe(true)
    const sends = Array.from({ length: 10 }, (_, i) => track(sse.send({ data: i })))
    await turns(3)
    const states = sends.map(({ state }) => state)
    expect(states).toEqual(['fulfilled', 'fulfilled', ...Array(8).fill('pending')])
    expect(sse.stats()).toMatchObject({ queuedEvents: 2, waiters: 8 })
  })

  it('is closed as write-stalled when it takes no byte for writeStallMs', async () => {
    const opened = await open({ writeStallMs: 3000, heartbeat: { format: 'none' } })
    const { sse, client, clock } = opened
    await fillUp(opened)
    clock.advance(2999)
    await turns()
    expect(sse.phase).toBe('blocked')
    clock.advance(1)
    const { reason, eventsUnsent } = await sse.closed
    expect(reason).toBe('write-stalled')
    expect(eventsUnsent).toBeGreaterThan(0)
    client.resume()
    await until(() => client.closed)
    expect(client.ended).toBe(false)
  })

  it('is not closed while it takes some bytes, however slowly', async () => {
    const { sse, transport, clock } = connectFake({ writeStallMs: 1000, heartbeat: { format: 'none' } })
    sse.trySend({ data: 'x'.repeat(50) })
    for (let i = 0; i < 20; i += 1) {
      await turns()
      clock.advance(999)
      transport.take(1)
      clock.advance(1)
      expect([i, sse.phase]).toEqual([i, 'blocked'])
    }
    clock.advance(1000)
    await expect(sse.closed).resolves.toMatchObject({ reason: 'write-stalled' })
    expect(transport.calls.slice(-2)).toEqual(['reset', 'detach'])
  })

  it('is not closed as stalled when it was blocked again and again, each time for less', async () => {
    const { sse, transport, clock } = connectFake({ writeStallMs: 1000, heartbeat: { format: 'none' } })
    for (let i = 0; i < 5; i += 1) {
      await turns()
      expect(sse.phase).toBe('blocked')
      clock.advance(900)
      transport.take()
      sse.trySend({ data: i })
    }
    expect(sse.phase).toBe('flowing')
  })
})

describe('close()', () => {
  it('writes what was accepted, ends the stream, and resolves with the figures', async () => {
    const { client, sse, clock } = await open({ maxEvents: 4, sessionId: 's' })
    clock.advance(250)
    const sent = Array.from({ length: 3 }, (_, i) => sse.send({ data: i }))
    const permit = sse.tryRequestSend()
    const closed = await sse.close()
    await Promise.all(sent)
    await until(() => client.ended)
    expect(closed).toEqual({
      sessionId: 's',
      reason: 'server-closed',
      at: expect.any(Number),
      durationMs: 250,
      eventsSent: 3,
      eventsUnsent: 0,
      bytesSent: Buffer.byteLength(client.text),
    })
    expect(client.events.slice(1).map(({ data }) => data)).toEqual(['0', '1', '2'])
    expect(permit?.send({ data: 'late' })).toBe('closed')
    expect(Math.abs(closed.at - Date.now())).toBeLessThan(60_000)
    expect(clock.pending).toBe(0)
  })

  it('rejects those who wait at once, though what was accepted is still to be written', async () => {
    const { sse, transport } = connectFake({ firstEvent: false, maxEvents: 1 })
    await turns()
    sse.trySend({ data: 'accepted' })
    const waiters = [track<unknown>(sse.requestSend()), track<unknown>(sse.send({ data: 'waits' }))]
    const closed = track(sse.close({ reason: 'shutdown' }))
    await turns()
    const error = expect.objectContaining({ code: 'ERR_SSE_CLOSED', reason: 'shutdown' })
    expect(waiters).toEqual(Array(2).fill({ state: 'rejected', error }))
    expect([closed.state, sse.phase]).toEqual(['pending', 'draining'])
    transport.take()
    await turns()
    expect(transport.chunks.at(-1)).toBe('data: accepted\n\n')
  })

  it('takes no event more while it drains, and beats no more', async () => {
    const { sse, transport, clock } = connectFake({
      firstEvent: false,
      drainMs: 100_000,
      writeStallMs: 100_000,
    })
    sse.trySend({ data: 'a' })
    const closed = track(sse.close({ reason: 'completed' }))
    expect(sse.phase).toBe('draining')
    expect(sse.trySend({ data: 'b' })).toBe('closed')
    await expect(sse.send({ data: 'b' })).rejects.toMatchObject({ reason: 'completed' })
    expect([sse.retry(1), sse.comment('c'), sse.tryRequestSend()]).toEqual(['closed', 'closed', null])
    clock.advance(60_000)
    await turns()
    transport.take()
    await turns()
    expect(transport.calls.at(-1)).toBe('end')
    expect(closed.state).toBe('pending')
    transport.finish()
    await turns()
    expect(closed.value?.reason).toBe('completed')
    expect(transport.text).toBe('retry: 2000\n\ndata: a\n\n')
    expect(transport.violations).toEqual([])
  })

  it('takes drainMs at most: then the connection is reset, with the same reason', async () => {
    const opened = await open({ drainMs: 1000, heartbeat: { format: 'none' } })
    const { sse, client, clock } = opened
    await fillUp(opened)
    const { queuedEvents } = sse.stats()
    const closing = sse.close({ reason: 'shutdown' })
    clock.advance(999)
    await turns()
    expect(sse.phase).toBe('draining')
    clock.advance(1)
    await expect(closing).resolves.toMatchObject({ reason: 'shutdown', eventsUnsent: queuedEvents })
    expect(queuedEvents).toBeGreaterThan(0)
    client.resume()
    await until(() => client.closed)
    expect(client.ended).toBe(false)
    expect(clock.pending).toBe(0)
  })

  it('with drainMs 0 resets what cannot be written at once', async () => {
    const { sse, transport, clock } = connectFake({ drainMs: 0 })
    await turns()
    const closing = sse.close()
    clock.advance(0)
    await expect(closing).resolves.toMatchObject({ reason: 'server-closed' })
    expect(transport.calls).toContain('reset')
  })

  it('writes what is in the log at the call, and leaves what comes later to the next connection', async () => {
    const log = createMemoryLog()
    const { client, sse } = await open({ log, firstEvent: false })
    for (let i = 0; i < 40; i += 1) sse.trySend({ data: i })
    const closing = sse.close()
    log.append('data: later\n\n')
    await expect(closing).resolves.toMatchObject({ eventsSent: 40, eventsUnsent: 0 })
    await until(() => client.ended)
    expect(client.events.map(({ data }) => data)).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`))
  })

  it('called again changes nothing and resolves alike; a reason that is none is refused', async () => {
    const { sse, transport } = connectFake()
    const first = sse.close({ reason: 'completed' })
    await turns()
    transport.take()
    await turns()
    const second = sse.close({ reason: 'shutdown' })
    transport.finish()
    expect(await second).toBe(await first)
    expect(await sse.close()).toBe(await first)
    const bad = 'whatever' as CloseReason
    await expect(sse.close({ reason: bad })).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_OPTION' })
    expect(() => sse.abort(bad)).toThrow(expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }))
    expect(transport.calls.filter((call) => call === 'end')).toHaveLength(1)
  })
})

describe('abort()', () => {
  it('resets the connection at once and drops what is queued', async () => {
    const opened = await open({ heartbeat: { format: 'none' } })
    const { sse, client, clock } = opened
    await client.until(({ length }) => length > 0)
    sse.trySend({ data: 'never seen' })
    sse.abort()
    expect(sse.phase).toBe('closed')
    await expect(sse.closed).resolves.toMatchObject({ reason: 'aborted', eventsUnsent: 1, eventsSent: 0 })
    await until(() => client.closed)
    expect([client.ended, client.events.length, clock.pending]).toEqual([false, 1, 0])
  })

  it('cuts a close() that drains short, with the reason of the close', async () => {
    const { sse, transport, clock } = connectFake()
    await turns()
    const closing = sse.close({ reason: 'completed' })
    sse.abort('replaced')
    await expect(closing).resolves.toMatchObject({ reason: 'completed' })
    expect(transport.calls.slice(-2)).toEqual(['reset', 'detach'])
    expect(clock.pending).toBe(0)
  })

  const names = ['phase', 'blocked', 'unblocked', 'gap', 'dropped', 'error'] as const
  it.each(names)('from inside a listener of %s writes nothing any more', async (name) => {
    const log = createMemoryLog({ maxEvents: 2, epoch: 'e' })
    for (let i = 0; i < 5; i += 1) log.append(`data: ${i}\n\n`)
    const request = { header: (header: string) => (header === 'last-event-id' ? 'e-1' : undefined) }
    const { sse, transport } = connectFake({ log, maxEvents: 2 }, { request })
    let chunksAtAbort = -1
    sse.on(name, () => {
      sse.abort('replaced')
      chunksAtAbort = transport.chunks.length
    })
    if (name === 'error') {
      sse.on('phase', () => {
        throw new Error('a listener that throws')
      })
    }
    for (let i = 0; i < 6; i += 1) {
      sse.trySend({ data: 'x' })
      await turns()
      if (name !== 'blocked') transport.take()
    }
    await expect(sse.closed).resolves.toMatchObject({ reason: 'replaced' })
    expect(transport.violations).toEqual([])
    expect(transport.chunks).toHaveLength(chunksAtAbort)
    expect(transport.calls.at(-1)).toBe('detach')
  })
})

describe('a gap that closes the connection', () => {
  // A producer that finds the queue full has the pump take from it ahead of the write, which may meet the gap.
  it.each([
    ['requestSend', 'oldest'],
    ['requestSend', 'close'],
    ['send', 'oldest'],
    ['send', 'close'],
  ] as const)(
    'met on behalf of %s leaves no permit and nobody who waits (after the gap: %s)',
    async (how, afterGap) => {
      const log = createMemoryLog({ epoch: 'e', maxEvents: 10 })
      for (let i = 1; i <= 12; i += 1) log.append(`data: ${i}\n\n`)
      const request = { header: (name: string) => (name === 'last-event-id' ? 'e-1' : undefined) }
      const { sse, transport, clock } = connectFake({ log, maxEvents: 2, replay: { afterGap } }, { request })
      if (afterGap === 'oldest') sse.on('gap', () => sse.abort())
      else sendUntilFull(sse, { data: 'fills the queue' })
      const { next } = log
      const asked = Array.from({ length: 3 }, () =>
        track<unknown>(how === 'send' ? sse.send({ data: 'x' }) : sse.requestSend()),
      )
      await turns()
      transport.take()
      await turns()
      transport.finish()
      await expect(sse.closed).resolves.toMatchObject({ reason: afterGap === 'close' ? 'gap' : 'aborted' })
      await turns()
      expect(asked.map(({ state }) => state)).not.toContain('pending')
      const accepted = asked.filter(({ value }) => value === 'queued').length
      expect(log.next).toBe(next + accepted)
      expect(sse.stats()).toMatchObject({ permits: 0, waiters: 0, gaps: 1 })
      expect([clock.pending, transport.violations]).toEqual([0, []])
    },
  )
})

describe('sendError()', () => {
  const secret = new Error('password=hunter2 at db.internal')

  it('sends an error and a close event after what was accepted, and never the error itself', async () => {
    const { client, sse } = await open({ firstEvent: false })
    sse.trySend({ data: 'accepted' })
    const closed = await sse.sendError(secret)
    expect(closed.reason).toBe('error')
    expect(closed.error).toBe(secret)
    await until(() => client.ended)
    expect(client.events).toEqual([
      { data: 'accepted', event: undefined, id: undefined },
      {
        event: 'error',
        data: '{"code":"internal_error","message":"The stream ended because of an error on the server."}',
        id: undefined,
      },
      { event: 'close', data: '{"reason":"error"}', id: undefined },
    ])
    expect(client.text).not.toMatch(/hunter2|db\.internal/)
  })

  it('sends the data it is given instead', async () => {
    const { client, sse } = await open({ firstEvent: false })
    await sse.sendError(secret, { data: { code: 'quota', retryAfterS: 60 } })
    await until(() => client.ended)
    expect(client.events.map(({ data }) => data)).toEqual([
      '{"code":"quota","retryAfterS":60}',
      '{"reason":"error"}',
    ])
  })

  it('refuses data that cannot be sent, and the connection stays open', async () => {
    const { sse } = connectFake({ maxEventBytes: 1000 })
    await expect(sse.sendError(secret, { data: 1n })).rejects.toMatchObject({ code: 'ERR_SSE_INVALID_EVENT' })
    const large = 'x'.repeat(1000)
    await expect(sse.sendError(secret, { data: large })).rejects.toMatchObject({
      code: 'ERR_SSE_EVENT_TOO_LARGE',
    })
    expect(sse.phase).toBe('flowing')
    expect(sse.trySend({ data: 'still open' })).toBe('queued')
  })

  it('after another end changes nothing of it', async () => {
    const { sse, transport } = connectFake({ firstEvent: false })
    void sse.close({ reason: 'completed' })
    const failed = sse.sendError(secret)
    await turns()
    transport.take()
    await turns()
    transport.finish()
    const closed = await failed
    expect([closed.reason, closed.error]).toEqual(['completed', undefined])
    expect(transport.text).toBe('retry: 2000\n\n')
  })

  it.each(['close', 'abort'] as const)(
    'after %s() in the same listener sends nothing, and its error is not told',
    async (way) => {
      const { sse, transport } = connectFake({ firstEvent: false })
      const failed: Promise<ClosedInfo>[] = []
      sse.on('blocked', () => {
        if (way === 'close') void sse.close({ reason: 'completed' })
        else sse.abort('completed')
        failed.push(sse.sendError(secret))
      })
      await until(() => {
        if (failed.length > 0) transport.take()
        transport.finish()
        return sse.phase === 'closed'
      })
      expect(failed).toHaveLength(1)
      const closed = await sse.closed
      expect([closed.reason, closed.error]).toEqual(['completed', undefined])
      await expect(failed[0]).resolves.toBe(closed)
      expect(transport.text).toBe('retry: 2000\n\n')
    },
  )

  it('is the error that closed tells, though another follows while the stream ends', async () => {
    for (const following of [new Error('read ECONNRESET'), undefined]) {
      const { sse, transport } = connectFake()
      void sse.sendError(secret)
      transport.lose(following)
      await expect(sse.closed).resolves.toMatchObject({ reason: 'error', error: secret })
    }
  })

  it('waits for its place behind a queue that the client takes slowly', async () => {
    const { sse, transport } = connectFake({ firstEvent: false, drainMs: 1_000_000, maxBytes: 10_000_000 })
    const large = 'x'.repeat(40_000)
    for (let i = 0; i < 6; i += 1) expect(sse.trySend({ event: `e${i}`, data: large })).toBe('queued')
    const failed = track(sse.sendError(secret))
    await until(() => {
      transport.take()
      transport.finish()
      return failed.state !== 'pending'
    })
    const names = [...transport.text.matchAll(/^event: (\S+)/gm)].map(([, name]) => name)
    expect(names).toEqual(['e0', 'e1', 'e2', 'e3', 'e4', 'e5', 'error', 'close'])
    expect(failed.value).toMatchObject({ eventsSent: 6, eventsUnsent: 0 })
  })
})

describe('the end', () => {
  const ways = {
    close: (sse: SSEHandler) => void sse.close({ reason: 'completed' }),
    abort: (sse: SSEHandler) => sse.abort('replaced'),
    sendError: (sse: SSEHandler) => void sse.sendError(new Error('failed')),
  }

  it('has one reason, the first, is told once, and resolves the same for everybody, in whatever order it comes', async () => {
    const reasons = {
      close: 'completed',
      abort: 'replaced',
      sendError: 'error',
      leave: 'client-closed',
      stall: 'write-stalled',
      fail: 'transport-error',
    } as const
    const all = Object.keys(reasons) as (keyof typeof reasons)[]
    const steps = fc.shuffledSubarray(all, { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(steps, fc.array(fc.boolean()), async (order, goesRound) => {
        const { sse, transport, clock } = connectFake({ writeStallMs: 1000, drainMs: 500, firstEvent: false })
        await turns()
        const told: ClosedInfo[] = []
        sse.on('closed', (info) => told.push(info))
        const early = sse.closed
        sse.trySend({ data: 'a' })
        for (const [i, what] of order.entries()) {
          if (what === 'leave') transport.lose()
          else if (what === 'stall') clock.advance(1000)
          else if (what === 'fail') {
            transport.throwing.set('write', new Error('write failed'))
            transport.take()
            await turns()
          } else ways[what](sse)
          if (goesRound[i]) await turns()
        }
        clock.advance(2000)
        const info = await early
        expect(info.reason).toBe(reasons[order[0] as keyof typeof reasons])
        expect(told).toEqual([info])
        expect(await sse.closed).toBe(info)
        expect(await sse.close()).toBe(info)
        expect([sse.phase, clock.pending, transport.isAttached]).toEqual(['closed', 0, false])
        expect(transport.violations).toEqual([])
      }),
    )
  })

  it('has one reason over a real socket too', async () => {
    const order = fc.shuffledSubarray(['close', 'abort', 'sendError', 'leave'] as const, { minLength: 4 })
    await fc.assert(
      fc.asyncProperty(order, async (steps) => {
        const { sse, client } = await open({ drainMs: 50 })
        let told = 0
        sse.on('closed', () => {
          told += 1
        })
        for (const step of steps) {
          if (step === 'leave') client.leave()
          else ways[step](sse)
          if (step === 'leave' && steps[0] === 'leave') await sse.closed
        }
        const { reason } = await sse.closed
        expect(reason).toBe(
          { close: 'completed', abort: 'replaced', sendError: 'error', leave: 'client-closed' }[
            steps[0] as (typeof steps)[number]
          ],
        )
        await turns()
        expect(told).toBe(1)
      }),
      { numRuns: 24 },
    )
  })

  it.each(['close', 'abort', 'leave', 'drain times out'] as const)(
    'by %s leaves no timer, no listener and nobody who waits',
    async (way) => {
      const log = createMemoryLog({ maxBytes: 100 * 1024 * 1024 })
      const listening = countListeners(log)
      const clock = new ManualClock()
      const emitters: { name: string; before: Map<string | symbol, number>; emitter: NodeJS.EventEmitter }[] =
        []
      let sse = null as SSEHandler | null
      const { url } = await serve((req, res) => {
        for (const [name, emitter] of Object.entries({ req, res, socket: req.socket })) {
          emitters.push({ name, emitter, before: counted(emitter) })
        }
        sse = createSSEHandler(req, res, { clock, log, maxEvents: 2, maxEventBytes: 64 * 1024 * 1024 })
      })
      const client = await connect(url)
      await client.until(({ length }) => length > 0)
      const connection = sse as SSEHandler | null
      if (connection === null) throw new Error('The handler ran before its response came.')
      expect(listening.count).toBe(1)
      const { signal } = connection
      for (const name of ['phase', 'closed', 'error'] as const) connection.on(name, () => {})

      if (way === 'drain times out') {
        client.pause()
        expect(connection.trySend({ data: 'x'.repeat(60 * 1024 * 1024) })).toBe('queued')
        await until(() => connection.phase === 'blocked')
      }
      const waiters = Array.from({ length: 5 }, () => track(connection.send({ data: 'x' })))
      const permit = connection.tryRequestSend()
      if (way === 'close' || way === 'drain times out') void connection.close()
      if (way === 'drain times out') clock.advance(5000)
      if (way === 'abort') connection.abort()
      if (way === 'leave') client.leave()
      await connection.closed
      await until(() => client.closed || way === 'drain times out')
      await turns()

      expect(waiters.map(({ state }) => state)).not.toContain('pending')
      expect(permit?.send({ data: 'late' }) ?? 'closed').toBe('closed')
      expect(signal.aborted).toBe(true)
      expect([clock.pending, listening.count]).toEqual([0, 0])
      expect(connection.eventNames()).toEqual([])
      expect(connection.stats()).toMatchObject({ permits: 0, waiters: 0 })
      for (const { name, emitter, before } of emitters) {
        const more = [...counted(emitter)].filter(([event, count]) => count > (before.get(event) ?? 0))
        expect([name, more.map(([event]) => event)]).toEqual([name, name === 'res' ? ['error'] : []])
      }
    },
  )

  it('is told by the signal, with the reason', async () => {
    const { sse, transport } = connectFake()
    const { signal } = sse
    expect([signal.aborted, sse.signal === signal]).toEqual([false, true])
    void sse.close({ reason: 'shutdown' })
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'shutdown' })
    transport.lose()
    expect(sse.phase).toBe('closed')
  })

  const endings = ['close', 'abort', 'leave'] as const
  it.each(endings.flatMap((way) => (['phase', 'closed'] as const).map((name) => [name, way] as const)))(
    'is told by a signal that is first asked for in a listener of %s, after %s',
    async (name, way) => {
      const { sse, transport } = connectFake()
      const signals: AbortSignal[] = []
      sse.on(name, () => signals.push(sse.signal))
      if (way === 'close') void sse.close()
      if (way === 'abort') sse.abort()
      transport.lose()
      await sse.closed
      expect(signals.length).toBeGreaterThan(0)
      expect(signals.every(({ aborted }) => aborted)).toBe(true)
      expect(sse.signal.aborted).toBe(true)
    },
  )

  it('is told by a signal that is first asked for afterwards', async () => {
    const { sse } = connectFake()
    sse.abort('unauthorized')
    expect(sse.signal.reason).toMatchObject({ code: 'ERR_SSE_CLOSED', reason: 'unauthorized' })
  })

  it.each(Object.keys(ways) as (keyof typeof ways)[])(
    'that %s() asks for in a listener has begun: a comment or a delay right after it is too late',
    async (way) => {
      const { sse, transport } = connectFake({ firstEvent: false })
      const outcomes: string[] = []
      sse.on('blocked', () => {
        ways[way](sse)
        outcomes.push(sse.comment('late'), sse.retry(1))
      })
      await until(() => {
        if (outcomes.length > 0) transport.take()
        transport.finish()
        return sse.phase === 'closed'
      })
      expect(outcomes).toEqual(['closed', 'closed'])
      expect(transport.text).not.toMatch(/late|retry: 1$/m)
    },
  )

  it.each(['refused', 'lost', 'open fails'] as const)(
    'before the caller has the handler is told by closed all the same, once, and no listener is left (%s)',
    async (how) => {
      const { sse, clock } = connectFake(
        {},
        {
          request: { method: how === 'refused' ? 'HEAD' : 'GET' },
          transport(fake) {
            fake.isLostAtAttach = how === 'lost'
            if (how === 'open fails') fake.throwing.set('open', new Error('no such socket'))
          },
        },
      )
      const told: ClosedInfo[] = []
      sse.on('closed', (info) => told.push(info))
      sse.on('phase', () => {})
      expect([sse.phase, told]).toEqual(['closed', []])
      await turns()
      expect(told).toEqual([await sse.closed])
      const reasons = { refused: 'refused', lost: 'client-closed', 'open fails': 'transport-error' }
      expect(told[0]?.reason).toBe(reasons[how])
      expect([sse.eventNames(), clock.pending]).toEqual([[], 0])
    },
  )

  it('goes through its phases in order, and closed comes last', async () => {
    const { sse, client } = await open()
    const told: (Phase | string)[] = []
    sse.on('phase', (phase) => told.push(phase))
    sse.on('closed', ({ reason }) => told.push(`closed: ${reason}`))
    await client.until(({ length }) => length > 0)
    await sse.close()
    expect(told.filter((what) => what !== 'blocked' && what !== 'flowing')).toEqual([
      'draining',
      'closed',
      'closed: server-closed',
    ])
  })

  it.each(['open', 'write', 'end'] as const)(
    'is told by closed, which never rejects, when the transport fails to %s',
    async (name) => {
      const failure = new Error('no such socket')
      const { sse, clock } = connectFake(
        {},
        {
          transport(fake) {
            fake.takesAtOnce = true
            fake.throwing.set(name, failure)
          },
        },
      )
      if (name === 'end') void sse.close()
      await turns()
      const reason = name === 'end' ? 'server-closed' : 'transport-error'
      await expect(sse.closed).resolves.toMatchObject({ reason, error: failure })
      expect(clock.pending).toBe(0)
    },
  )

  it('runs every step of its clean-up though one throws, and reports that', async () => {
    const errors: unknown[] = []
    const log = createMemoryLog()
    const stop = log.onAppend
    const failure = new Error('cannot stop')
    log.onAppend = (listener) => {
      const really = stop.call(log, listener)
      return () => {
        really()
        throw failure
      }
    }
    const { sse, transport, clock } = connectFake({ log })
    const detachFailure = new Error('cannot detach')
    transport.throwing.set('detach', detachFailure)
    const resetFailure = new Error('cannot reset')
    transport.throwing.set('reset', resetFailure)
    sse.on('error', (error, during) => errors.push([error, during]))
    const told: string[] = []
    sse.on('closed', ({ reason }) => told.push(reason))
    sse.abort()
    expect((await sse.closed).reason).toBe('aborted')
    expect(told).toEqual(['aborted'])
    expect(errors).toEqual([
      [resetFailure, 'resetTransport'],
      [failure, 'clean-up'],
      [detachFailure, 'clean-up'],
    ])
    expect([clock.pending, sse.eventNames()]).toEqual([0, []])
  })

  it('by a client that left with an error keeps the error', async () => {
    const { sse, transport } = connectFake()
    const reset = new Error('read ECONNRESET')
    transport.lose(reset)
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed', error: reset })
  })
})

describe('a listener that throws', () => {
  const failure = new Error('listener failed')

  it('is reported to error, with what it listened to, and disturbs nothing', async () => {
    const { sse, client } = await open({ maxEvents: 1 })
    const reports: unknown[] = []
    sse.on('error', (error, during) => reports.push([error, during]))
    for (const name of ['phase', 'blocked', 'unblocked', 'dropped', 'closed'] as const) {
      sse.on(name, () => {
        throw failure
      })
    }
    sse.trySend({ data: 'a' })
    expect(sse.trySend({ data: 'b' })).toBe('dropped')
    await client.until((events) => events.some(({ data }) => data === 'a'))
    await sse.close()
    await until(() => client.ended)
    const during = new Set(reports.map((report) => (report as unknown[])[1]))
    expect([...during]).toEqual(
      expect.arrayContaining(["listener of 'dropped'", "listener of 'phase'", "listener of 'closed'"]),
    )
    expect(reports.every((report) => (report as unknown[])[0] === failure)).toBe(true)
  })

  it('is a process warning when nobody listens to error', async () => {
    const warnings = listenToWarnings()
    const { sse } = connectFake()
    sse.on('closed', () => {
      throw failure
    })
    sse.abort()
    await until(() => warnings.length === 1)
    expect(warnings[0]).toMatchObject({
      name: 'SSEWarning',
      message: 'Error: listener failed',
      detail: "during listener of 'closed'",
    })
  })

  it('that listens to error becomes a warning, and so does what it was told', async () => {
    const warnings = listenToWarnings()
    const { sse } = connectFake()
    sse.on('error', () => {
      throw new Error('error listener failed')
    })
    sse.on('phase', () => {
      throw failure
    })
    void sse.close()
    expect(sse.phase).toBe('draining')
    await until(() => warnings.length === 2)
    expect(warnings.map(({ message }) => message)).toEqual([
      'Error: error listener failed',
      'Error: listener failed',
    ])
  })
})

describe('what a listener throws that has no text', () => {
  const refuse = () => {
    throw new Error('no text')
  }
  const values: [string, unknown][] = [
    ['an object without a prototype', Object.create(null)],
    ['an object that refuses', { toString: refuse }],
  ]

  it.each(values)('is a process warning too, and disturbs nothing: %s', async (_, thrown) => {
    const warnings = listenToWarnings()
    const { sse, transport } = connectFake({ firstEvent: false, maxEvents: 1 })
    const names = ['dropped', 'blocked', 'unblocked', 'phase', 'closed'] as const
    for (const name of names) {
      sse.on(name, () => {
        throw thrown
      })
    }
    expect([sse.trySend({ data: 'a' }), sse.trySend({ data: 'b' })]).toEqual(['queued', 'dropped'])
    await turns()
    transport.take()
    await turns()
    const closing = sse.close()
    await until(() => {
      transport.take()
      transport.finish()
      return sse.phase === 'closed'
    })
    await expect(closing).resolves.toMatchObject({ reason: 'server-closed', eventsSent: 1, eventsUnsent: 0 })
    await turns()
    const told = new Set(warnings.map(({ detail }) => detail))
    expect(told).toEqual(new Set(names.map((name) => `during listener of '${name}'`)))
    expect(warnings.every(({ message }) => /cannot be shown/.test(message))).toBe(true)
  })

  it.each(values)(
    'to a listener of error becomes a warning, and so does what it was told: %s',
    async (_, thrown) => {
      const warnings = listenToWarnings()
      const { sse } = connectFake({ firstEvent: false, maxEvents: 1 })
      for (const name of ['dropped', 'error'] as const) {
        sse.on(name, () => {
          throw thrown
        })
      }
      expect([sse.trySend({ data: 'a' }), sse.trySend({ data: 'b' })]).toEqual(['queued', 'dropped'])
      await until(() => warnings.length === 2)
      expect(warnings.map(({ detail }) => detail)).toEqual([
        "in a listener of 'error'",
        "during listener of 'dropped'",
      ])
    },
  )
})

describe('stats()', () => {
  it('count as sent what the transport was handed, and no more', async () => {
    const { sse, transport } = connectFake({ firstEvent: false, maxEvents: 2 })
    await turns()
    transport.take()
    const sends = Array.from({ length: 10 }, (_, i) => track(sse.send({ event: `e${i}` })))
    sse.abort()
    await turns()
    const accepted = sends.filter(({ state }) => state === 'fulfilled').length
    expect(accepted).toBeGreaterThanOrEqual(2)
    expect(transport.text).toBe('retry: 2000\n\n')
    await expect(sse.closed).resolves.toMatchObject({
      eventsSent: 0,
      eventsUnsent: accepted,
      bytesSent: Buffer.byteLength(transport.text),
    })
    expect(sse.stats()).toMatchObject({ eventsSent: 0, bytesSent: Buffer.byteLength(transport.text) })
  })

  it('tell what the connection is like at the moment', async () => {
    const { sse, transport, clock } = connectFake({ sessionId: 's', maxEvents: 3, firstEvent: false })
    const dropped: number[] = []
    sse.on('dropped', (info) => dropped.push(info.dropped))
    await turns()
    clock.advance(40)
    sse.trySend({ data: 'é' })
    sse.trySend({ data: 'b' })
    const permit = sse.tryRequestSend()
    const waiter = track(sse.requestSend())
    expect([sse.trySend({ data: 'c' }), sse.trySend({ data: 'd' })]).toEqual(['dropped', 'dropped'])
    expect(sse.stats()).toEqual({
      sessionId: 's',
      phase: 'blocked',
      openedAt: expect.any(Number),
      durationMs: 40,
      eventsSent: 0,
      bytesSent: 13,
      eventsReplayed: 0,
      unsentEvents: 2,
      queuedEvents: 2,
      queuedBytes: 19,
      permits: 1,
      waiters: 1,
      dropped: 2,
      gaps: 0,
      heartbeatsMissed: 0,
      lastId: null,
    })
    permit?.release()
    transport.take()
    await turns()
    expect(waiter.state).toBe('fulfilled')
    expect(sse.stats()).toMatchObject({
      eventsSent: 2,
      bytesSent: 32,
      unsentEvents: 0,
      queuedEvents: 0,
      permits: 1,
      waiters: 0,
    })
    expect([sse.trySend({ data: 'e' }), sse.trySend({ data: 'f' })]).toEqual(['queued', 'queued'])
    expect(sse.trySend({ data: 'g' })).toBe('dropped')
    expect(dropped).toEqual([1, 3])
    sse.abort()
    clock.advance(1000)
    expect(sse.stats()).toMatchObject({ phase: 'closed', durationMs: 40, dropped: 3, permits: 0 })
  })

  it.each([false, true])(
    'stay after the close what they were at its end (with a log: %s)',
    async (withLog) => {
      const log = createMemoryLog({ epoch: 'e' })
      const { sse, transport, clock } = connectFake({ firstEvent: false, ...(withLog && { log }) })
      expect(sse.trySend({ data: 'a' })).toBe('queued')
      await turns()
      clock.advance(40)
      expect([sse.trySend({ data: 'b' }), sse.trySend({ data: 'c' })]).toEqual(['queued', 'queued'])
      const toldAtClosed: SSEHandlerStats[] = []
      sse.on('closed', () => toldAtClosed.push(sse.stats()))
      const before = sse.stats()
      expect(before).toMatchObject({
        phase: 'blocked',
        durationMs: 40,
        eventsSent: 1,
        bytesSent: Buffer.byteLength(transport.text),
        unsentEvents: 2,
        queuedEvents: 2,
        lastId: withLog ? 'e-1' : null,
      })
      expect(before.queuedBytes).toBeGreaterThan(0)
      sse.abort()
      const after = sse.stats()
      expect(after).toEqual({ ...before, phase: 'closed' })
      clock.advance(1000)
      log.append('data: later\n\n')
      expect([sse.trySend({ data: 'late' }), sse.comment('late')]).toEqual(['closed', 'closed'])
      await turns()
      expect(sse.stats()).toEqual(after)
      expect(toldAtClosed).toEqual([after])
    },
  )

  it('tell what was replayed, what is missing, and how far the client has got', async () => {
    const log = createMemoryLog({ epoch: 'e', maxEvents: 3 })
    for (let i = 1; i <= 5; i += 1) log.append(`data: ${i}\n\n`)
    const { client, sse } = await open({ log, firstEvent: false }, { 'last-event-id': 'e-1' })
    sse.trySend({ data: 6 })
    await client.until((events) => events.some(({ data }) => data === '6'))
    expect(sse.lastEventId).toBe('e-1')
    expect(sse.stats()).toMatchObject({
      eventsSent: 4,
      eventsReplayed: 3,
      gaps: 1,
      lastId: 'e-6',
      queuedEvents: 0,
    })
    expect(client.events.map(({ id }) => id)).toEqual(['e-2', 'e-3', 'e-4', 'e-5', 'e-6'])
  })
})

describe('a gap', () => {
  it.each(['oldest', 'newest', 'close'] as const)(
    'is told to the client and to the program, and then goes on as afterGap says: %s',
    async (afterGap) => {
      const log = createMemoryLog({ epoch: 'e', maxEvents: 3 })
      for (let i = 1; i <= 5; i += 1) log.append(`event: e${i}\ndata: \n\n`)
      const request = { header: (name: string) => (name === 'last-event-id' ? 'e-1' : undefined) }
      const { sse, transport } = connectFake(
        { log, replay: { afterGap }, firstEvent: false },
        { request, transport: (fake) => Object.assign(fake, { takesAtOnce: true }) },
      )
      const gaps: unknown[] = []
      sse.on('gap', (gap) => gaps.push(gap))
      await turns(3)
      const gap = { asked: 'e-1', oldest: 'e-3', cause: 'evicted', continues: afterGap }
      expect(gaps).toEqual([gap])
      const position = afterGap === 'oldest' ? 'e-2' : 'e-5'
      const told = `retry: 2000\n\nid: ${position}\nevent: gap\ndata: ${JSON.stringify(gap)}\n\n`
      const rest = [3, 4, 5].map((i) => `id: e-${i}\nevent: e${i}\ndata: \n\n`).join('')
      expect(transport.text).toBe(afterGap === 'oldest' ? told + rest : told)
      if (afterGap === 'close') await expect(sse.closed).resolves.toMatchObject({ reason: 'gap' })
      else expect(sse.phase).toBe('flowing')
    },
  )
})

describe('options', () => {
  const refused: [string, SSEHandlerOptions, RegExp][] = [
    ['an unknown one', { maxEvent: 5 } as SSEHandlerOptions, /no option "maxEvent"/],
    [
      'an unknown one of heartbeat',
      { heartbeat: { interval: 5 } } as SSEHandlerOptions,
      /no option "interval"/,
    ],
    ['an unknown one of replay', { replay: { from: 'oldest' } } as SSEHandlerOptions, /no option "from"/],
    ['maxEvents 0', { maxEvents: 0 }, /maxEvents is 0; expected a whole number of at least 1/],
    ['maxBytes 0', { maxBytes: 0 }, /maxBytes is 0/],
    ['maxEventBytes -1', { maxEventBytes: -1 }, /maxEventBytes is -1/],
    ['maxWaiters -1', { maxWaiters: -1 }, /maxWaiters is -1; expected a whole number of at least 0/],
    ['leaseMs 0', { leaseMs: 0 }, /leaseMs is 0; expected a whole number from 1 to 2147483647/],
    ['leaseMs that no timer keeps', { leaseMs: 2 ** 31 }, /leaseMs is 2147483648/],
    ['writeStallMs 1.5', { writeStallMs: 1.5 }, /writeStallMs is 1.5/],
    ['drainMs -1', { drainMs: -1 }, /drainMs is -1/],
    ['retryMs -1', { retryMs: -1 }, /retryMs is -1/],
    ['a text', { maxEvents: '5' as unknown as number }, /maxEvents is "5"/],
    ['an interval of 0', { heartbeat: { intervalMs: 0 } }, /heartbeat.intervalMs is 0/],
    ['a format', { heartbeat: { format: 'ping' as 'none' } }, /heartbeat.format is "ping"; expected one of/],
    ['a start', { replay: { start: 'now' as 'newest' } }, /replay.start is "now"/],
    ['what follows a gap', { replay: { afterGap: 'stop' as 'close' } }, /replay.afterGap is "stop"/],
    ['an empty session', { sessionId: '' }, /sessionId is ""/],
    ['a first event with a bad name', { firstEvent: { event: 'a\nb' } }, /event name "a\\nb" cannot be sent/],
    ['a first event that is too large', { maxEventBytes: 50 }, /more than the 50 of maxEventBytes/],
    ['a log that is none', { log: {} as EventLog }, /log is an object; expected an event log/],
    ['a first event without JSON', { firstEvent: { data: 1n } }, /cannot be serialised/],
    [
      'a first event with an id beside a log',
      { log: createMemoryLog(), firstEvent: { id: 'x' } },
      /leave the id out/,
    ],
  ]

  it.each(refused)('out of range throw before anything is sent: %s', async (_, options, message) => {
    const thrown: unknown[] = []
    const traces: unknown[] = []
    const { url } = await serve((req, res) => {
      const before = [counted(req), counted(res), counted(req.socket)]
      try {
        createSSEHandler(req, res, options)
      } catch (error) {
        thrown.push(error)
      }
      const after = [counted(req), counted(res), counted(req.socket)]
      traces.push({ headersSent: res.headersSent, before, after })
      res.writeHead(500).end('refused')
    })
    const client = await connect(url)
    await until(() => client.ended)
    expect([client.response.statusCode, client.text]).toEqual([500, 'refused'])
    const { before } = traces[0] as { before: unknown }
    expect(traces).toEqual([{ headersSent: false, before, after: before }])
    expect(thrown).toEqual([
      expect.objectContaining({
        name: 'SSEError',
        code: expect.stringMatching(/^ERR_SSE_(INVALID_OPTION|INVALID_EVENT|EVENT_TOO_LARGE)$/),
        message: expect.stringMatching(message),
      }),
    ])
  })

  it('that are undefined are as good as left out', async () => {
    const take = (fake: { takesAtOnce: boolean }) => Object.assign(fake, { takesAtOnce: true })
    const { sse, transport, clock } = connectFake(
      {
        sessionId: undefined,
        log: undefined,
        replay: undefined,
        firstEvent: undefined,
        retryMs: undefined,
        heartbeat: { intervalMs: undefined, format: undefined },
        maxEvents: undefined,
        maxBytes: undefined,
        maxEventBytes: undefined,
        maxWaiters: undefined,
        leaseMs: undefined,
        writeStallMs: undefined,
        drainMs: undefined,
      },
      { transport: take },
    )
    sse.trySend({ event: undefined, data: undefined, id: undefined, retry: undefined })
    await turns()
    clock.advance(15_000)
    await turns()
    const connected = `retry: 2000\nevent: connected\ndata: {"sessionId":"${sse.sessionId}"}\n\n`
    expect(transport.text).toBe(`${connected}data: \n\n: \n\n`)
  })

  it('at the ends of their ranges are taken', () => {
    const { sse } = connectFake({
      firstEvent: false,
      maxEvents: 1,
      maxBytes: 1,
      maxEventBytes: 1,
      maxWaiters: 0,
      leaseMs: 1,
      writeStallMs: 2 ** 31 - 1,
      drainMs: 0,
      retryMs: 0,
      heartbeat: { intervalMs: 2 ** 31 - 1, format: 'comment' },
    })
    expect(sse.phase).toBe('flowing')
  })
})

describe('a replay of 10,000 events to a client that does not read', () => {
  const KIB = 1024
  const SIZE = 2 * KIB
  // One write of the pump, the event that takes it over its size, and what HTTP puts around.
  const MOST_PENDING = 64 * KIB + SIZE + KIB

  async function slowReader(options: SSEHandlerOptions, headers: Record<string, string> = {}) {
    const opened = await open({ firstEvent: false, heartbeat: { format: 'none' }, ...options }, headers)
    opened.client.pause()
    const { socket } = opened.res
    if (socket === null) throw new Error('The response has no socket.')
    const seen = { mostPending: 0 }
    const write = socket.write
    socket.write = function watched(...args: unknown[]) {
      const result = Reflect.apply(write, socket, args)
      seen.mostPending = Math.max(seen.mostPending, socket.writableLength)
      return result
    } as typeof socket.write
    return { ...opened, seen }
  }

  it('hands the socket no more than live events would, and then gives it each one once', async () => {
    const log = createMemoryLog({ maxEvents: 20_000, maxBytes: 100 * KIB * KIB, epoch: 'e' })
    const text = (i: number) => `${i}:${'x'.repeat(SIZE - 64)}`
    for (let i = 1; i <= 10_001; i += 1) log.append(`data: ${text(i)}\n\n`)

    const replayed = await slowReader({ log }, { 'last-event-id': 'e-1' })
    const waiter = track(replayed.sse.requestSend())
    await untilStuck(replayed.sse)
    const stalled = replayed.sse.stats()
    expect(replayed.sse.phase).toBe('replaying')
    expect(stalled.bytesSent).toBeLessThan(10_000 * SIZE * 0.8)
    expect(stalled.eventsSent + stalled.queuedEvents).toBe(10_000)
    expect([waiter.state, stalled.waiters]).toEqual(['pending', 1])

    const live = await slowReader({ maxEvents: 64 })
    const producer = (async () => {
      let sent = 0
      for await (const permit of live.sse.demand()) {
        permit.send({ data: text(sent) })
        sent += 1
      }
      return sent
    })()
    await untilStuck(live.sse)
    expect(live.sse.stats().queuedEvents).toBeLessThanOrEqual(64)
    live.sse.abort()
    const accepted = await producer
    const { eventsSent, eventsUnsent } = await live.sse.closed
    expect(eventsSent + eventsUnsent).toBe(accepted)

    for (const { seen } of [replayed, live]) {
      expect(seen.mostPending).toBeGreaterThan(0)
      expect(seen.mostPending).toBeLessThanOrEqual(MOST_PENDING)
    }

    replayed.client.resume()
    await replayed.client.until(({ length }) => length === 10_000)
    const { events } = replayed.client
    expect(events.every(({ id, data }, i) => id === `e-${i + 2}` && data === text(i + 2))).toBe(true)
    await until(() => waiter.state === 'fulfilled')
    expect(replayed.sse.stats()).toMatchObject({ eventsReplayed: 10_000, queuedEvents: 0, gaps: 0 })
    expect(replayed.seen.mostPending).toBeLessThanOrEqual(MOST_PENDING)
    waiter.value?.send({ data: 'live' })
    await replayed.client.until(({ length }) => length === 10_001)
    expect(events.at(-1)).toMatchObject({ id: 'e-10002', data: 'live' })
  })
})

function counted(emitter: NodeJS.EventEmitter): Map<string | symbol, number> {
  return new Map(emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]))
}

/** Counts who listens to a log. */
function countListeners(log: EventLog): { count: number } {
  const listening = { count: 0 }
  const onAppend = log.onAppend.bind(log)
  log.onAppend = (listener) => {
    const stop = onAppend(listener)
    listening.count += 1
    return () => {
      listening.count -= 1
      stop()
    }
  }
  return listening
}

function listenToWarnings(): (Error & { detail?: string })[] {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => void warnings.push(warning)
  process.on('warning', onWarning)
  onTestFinished(() => void process.off('warning', onWarning))
  return warnings
}
