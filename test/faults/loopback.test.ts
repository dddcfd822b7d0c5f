import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as wait } from 'node:timers/promises'
import { createSluice, type SSEHandler } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { range } from '../support/channel.js'
import { until } from '../support/until.js'
import { recordFault } from './faults.js'
import { rawStream, takeBytes } from './raw-client.js'
import { CountedClock, type Streams, serveStreams } from './streams.js'

const FIRST_EVENTS = 3

function sendFirstEvents(sse: SSEHandler): void {
  for (const n of range(1, FIRST_EVENTS)) sse.trySend({ event: 'first', data: { n } })
}

/** Runs so many at a time. */
async function inLanes<T>(
  items: readonly T[],
  lanes: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values()
  await Promise.all(
    range(1, lanes).map(async () => {
      for (const item of queue) await work(item)
    }),
  )
}

async function closingOf(streams: Streams, url: string) {
  await until(() => streams.closings.some((closing) => closing.url === url), `${url} is closed`)
  return streams.closings.find((closing) => closing.url === url) as Streams['closings'][number]
}

it.each([
  ['idle', 'reset-idle'],
  ['busy', 'reset-busy'],
] as const)(
  'a client that resets after any number of bytes of the head and the first events is seen, and nothing is left: %s',
  async (kind, fault) => {
    const streams = await serveStreams((sse) => {
      sendFirstEvents(sse)
      if (kind === 'idle') return
      const sending = setInterval(() => sse.trySend({ data: 'more' }), 1)
      sse.on('closed', () => clearInterval(sending))
    })
    const whole = await rawStream(streams.port, '/whole')
    let text = ''
    whole.setEncoding('latin1').on('data', (part: string) => {
      text += part
    })
    const end = `data: {"n":${FIRST_EVENTS}}\n\n\r\n`
    await until(() => text.includes(end))
    const bytes = text.indexOf(end) + end.length
    whole.resetAndDestroy()
    await closingOf(streams, '/whole')

    const timesMs: number[] = []
    await inLanes(range(0, bytes), 8, async (n) => {
      const path = `/after-${n}`
      const socket = await takeBytes(streams.port, path, n)
      // What asks for nothing is no stream.
      if (n === 0) await until(() => streams.opened > 1)
      const resetAt = performance.now()
      socket.removeAllListeners('close').resetAndDestroy()
      const { seenAt } = await closingOf(streams, path)
      timesMs.push(seenAt - resetAt)
    })
    expect(bytes).toBeGreaterThan(300)
    expect(timesMs).toHaveLength(bytes + 1)
    expect(new Set(streams.closings.map(({ reason }) => reason))).toEqual(new Set(['client-closed']))
    await streams.untilNothingIsLeft()
    recordFault(fault, { timesMs, reasons: ['client-closed'], left: 'nothing' })
  },
)

it('a client that half-closes and goes on reading has left: it is seen at once, and nothing is left', async () => {
  const streams = await serveStreams(sendFirstEvents)
  const timesMs: number[] = []
  await inLanes(range(1, 50), 4, async (n) => {
    const path = `/half-${n}`
    const socket = await rawStream(streams.port, path)
    await once(socket, 'data')
    const finAt = performance.now()
    socket.end()
    const { seenAt, reason } = await closingOf(streams, path)
    expect(reason).toBe('client-closed')
    timesMs.push(seenAt - finAt)
    if (!socket.readableEnded && !socket.destroyed) await once(socket.resume(), 'close')
  })
  await streams.untilNothingIsLeft()
  recordFault('half-close', { timesMs, reasons: ['client-closed'], left: 'nothing' })
})

it('2,000 clients that come and abort, at any moment, leave nothing', async () => {
  const streams = await serveStreams(sendFirstEvents)
  const before = process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
  const aborts: (() => Promise<void>)[] = [
    async () => {
      connectSocket(streams.port, '127.0.0.1')
        .on('error', () => {})
        .destroy()
    },
    async () => void (await rawStream(streams.port, '/asked')).destroy(),
    async () => {
      const socket = await rawStream(streams.port, '/asked-and-reset')
      await nextTurn()
      socket.resetAndDestroy()
    },
    async () => {
      const socket = await rawStream(streams.port, '/read')
      await once(socket, 'data')
      socket.destroy()
    },
    async () => {
      const socket = await rawStream(streams.port, '/stayed')
      await wait(Math.random() * 20)
      socket.resetAndDestroy()
    },
  ]
  await inLanes(range(1, 2000), 40, (n) => aborts[n % aborts.length]?.() ?? Promise.resolve())
  const lastAt = performance.now()
  await until(() => streams.open.size === 0)
  const timeMs = performance.now() - lastAt
  await streams.untilNothingIsLeft()
  expect(streams.opened).toBeGreaterThan(1000)
  expect(new Set(streams.closings.map(({ reason }) => reason))).toEqual(new Set(['client-closed']))
  await until(
    () => process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length <= before,
  )
  recordFault('abort-storm', {
    timesMs: [timeMs],
    reasons: ['client-closed'],
    left: 'nothing',
  })
})

it('a client that stops reading, by default settings, is closed within 45 s, and nothing of it is left', async () => {
  const clock = new CountedClock()
  const flood = async (sse: SSEHandler) => {
    for await (const permit of sse.demand()) permit.send({ data: 'x'.repeat(1000) })
  }
  const streams = await serveStreams(flood, clock, createSluice({ clock }))
  const sockets = await Promise.all(range(1, 5).map((n) => takeBytes(streams.port, `/paused-${n}`, 10_000)))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
  })
  for (const socket of sockets)
    socket
      .removeAllListeners('close')
      .removeAllListeners('error')
      .on('error', () => {})
  const pausedAt = performance.now()
  while (streams.closings.length < sockets.length && performance.now() < pausedAt + 45_000) await wait(100)
  const timesMs = streams.closings.map(({ seenAt }) => seenAt - pausedAt)
  const reasons = streams.closings.map(({ reason }) => reason)
  expect(reasons).toHaveLength(sockets.length)
  for (const reason of reasons) expect(['write-stalled', 'heartbeat-missed']).toContain(reason)
  await streams.untilNothingIsLeft()
  recordFault('paused', { timesMs, reasons, left: 'nothing' })
}, 60_000)
