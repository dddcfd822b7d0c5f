import assert from 'node:assert/strict'
import { createChannel, createMemoryLog, type SSEHandler } from 'sluice'
import { ManualClock } from './manual-clock.js'
import { type Played, Stage } from './stage.js'
import type { TransportHarness } from './transport-harness.js'
import { until } from './until.js'

/** One test of a suite, for any test runner. */
export interface ConformanceCase {
  readonly name: string
  /** Rejects when the transport does not do what the name says. */
  run(): Promise<void>
}

const KiB = 1024
const MiB = 1024 * KiB

/** More than the kernel takes for a client that reads nothing: 20,000 bytes of each of these. */
const MANY = 1000

/** As much as a kernel takes for a client that reads nothing, or most of it: 20,000 bytes of each of these. */
const LATE_EVENTS = 100

/**
 * What every transport does, whatever the server, over real connections. Each case has a server of its own, and may run
 * by itself; no two may run at the same time, because warnings of the process are looked at.
 */
export function transportConformance(harness: TransportHarness): ConformanceCase[] {
  const cases = harness.answerLate === undefined ? CASES : { ...CASES, ...LATE_CASES }
  return Object.entries(cases).map(([name, play]) => ({
    name,
    async run() {
      const stage = await Stage.set(harness)
      try {
        await play(stage)
        // What a transport tells too late it tells in a later turn.
        await turns(3)
        stage.assertDuties()
      } finally {
        await stage.close()
      }
    },
  }))
}

const CASES: Record<string, (stage: Stage) => Promise<void>> = {
  'answers with the head of an event stream and the headers of the options': async (stage) => {
    const { client, sse } = await stage.connect({ options: { headers: { 'X-Stream': 'one' } } })
    assert.equal(client.status, 200)
    assert.equal(client.header('content-type'), 'text/event-stream')
    assert.equal(client.header('cache-control'), 'no-cache, no-transform')
    assert.equal(client.header('x-accel-buffering'), 'no')
    assert.equal(client.header('x-stream'), 'one')
    assert.equal(client.header('content-length'), undefined)
    assert.notEqual(sse.phase, 'closed')
  },

  'delivers what is sent, byte for byte and in order': async (stage) => {
    const { client, sse, gets, events } = await stage.connect()
    const texts = ['one', 'two\nlines', '', ' leading', 'é\u{1F600}', ':', 'x'.repeat(200 * KiB), 'last']
    for (const data of texts) await sse.send({ event: 'text', data })
    await gets(texts.length)
    assert.deepEqual(
      events().map(({ data }) => data),
      texts,
    )
    assert.equal(Buffer.byteLength(client.text), sse.stats().bytesSent)
  },

  'answers HEAD with the head alone': async (stage) => {
    const { client, closed } = await stage.connect({ method: 'HEAD' })
    assert.equal(client.status, 200)
    assert.equal(client.header('content-type'), 'text/event-stream')
    await until(() => client.ended, 'the client has the end')
    assert.equal(client.text, '')
    assert.equal((await closed()).reason, 'refused')
  },

  'answers 406 to a client that takes no event stream': async (stage) => {
    const { client, closed } = await stage.connect({ headers: { accept: 'application/json' } })
    assert.equal(client.status, 406)
    assert.equal(client.header('content-type'), 'application/problem+json')
    await until(() => client.ended, 'the client has the end')
    assert.equal(JSON.parse(client.text).status, 406)
    assert.equal((await closed()).reason, 'refused')
  },

  'answers 204 in place of a stream whose head has not left': async (stage) => {
    const channel = createChannel()
    const id = await channel.publish({ data: 'all there is' })
    channel.end()
    const { client, closed } = await stage.connect({
      headers: { 'last-event-id': id },
      onOpen: (sse) => channel.subscribe(sse),
    })
    assert.equal(client.status, 204)
    await until(() => client.ended, 'the client has the end')
    assert.equal(client.text, '')
    assert.equal((await closed()).reason, 'completed')
  },

  'does not answer again when the head has left': async (stage) => {
    const { sse, transport, gets } = await stage.connect()
    await sse.send({ data: 'first' })
    await gets(1)
    assert.equal(transport.open({ stream: false, status: 204, headers: {}, body: '' }), false)
    await sse.send({ data: 'second' })
    await gets(2)
  },

  'tells that the client has left while nothing is sent': async (stage) => {
    const { sse, client, gets, closed } = await stage.connect()
    await sse.send({ data: 'first' })
    await gets(1)
    client.leave()
    assert.equal((await closed()).reason, 'client-closed')
  },

  'tells that the client has left while a producer waits for it': async (stage) => {
    const played = await stage.connect({ options: { maxEvents: 4 } })
    const { sse, client, closed } = played
    client.pause()
    const outcome = sendWhile(sse, () => true).catch((error: unknown) => error)
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1, 'the producer waits')
    client.leave()
    assert.equal((await closed()).reason, 'client-closed')
    const error = await outcome
    assert.ok(error instanceof Error && 'code' in error)
    assert.equal(error.code, 'ERR_SSE_CLOSED')
  },

  'holds little for a client that reads nothing, and gives it everything in order when it reads': async (
    stage,
  ) => {
    const { sse, transport, client, gets, events } = await stage.connect()
    client.pause()
    let sent = 0
    const producer = sendWhile(sse, () => sent++ < MANY)
    await untilStuck(sse)
    assert.ok(sent < MANY, 'the producer waits')
    assert.ok(transport.pendingBytes > 0, 'the transport holds what the client has not taken')
    // One write of a connection, and what a server may add.
    assert.ok(transport.pendingBytes < 512 * KiB, `${transport.pendingBytes} bytes are held`)
    client.resume()
    await producer
    await gets(MANY)
    assert.ok(events().every(({ data }, i) => data.startsWith(`${i} `)))
    assert.equal(events().length, MANY)
  },

  'has fewer bytes pending while a slow client takes a large event': async (stage) => {
    const limits = { maxBytes: 64 * MiB, maxEventBytes: 64 * MiB }
    const { sse, transport, client, gets, events } = await stage.connect({ options: limits })
    await sse.send({ data: 'first' })
    await gets(1)
    client.pause()
    await sse.send({ data: 'x'.repeat(16 * MiB) })
    await until(() => sse.phase === 'blocked', 'the client is slow')
    const seen: number[] = []
    while (seen.length < 3) {
      const { length } = client.text
      client.resume()
      await until(() => client.text.length >= length + 256 * KiB, 'the client has read a part')
      client.pause()
      const { pendingBytes } = transport
      if (pendingBytes < (seen.at(-1) ?? Number.POSITIVE_INFINITY)) seen.push(pendingBytes)
      assert.equal(sse.phase, 'blocked')
    }
    assert.ok((seen.at(-1) ?? 0) > 0, `pendingBytes was ${seen.join(', ')}`)
    client.resume()
    await gets(2)
    assert.equal(events()[1]?.data.length, 16 * MiB)
  },

  'cuts off a client that has stalled, and no other one': async (stage) => {
    const clock = new ManualClock()
    const other = await stage.connect()
    const stalled = await stage.connect({ options: { clock, writeStallMs: 30_000 } })
    stalled.client.pause()
    // It sends until the connection closes, and rejects with that.
    const producer = sendWhile(stalled.sse, () => true).catch(() => {})
    await untilStuck(stalled.sse)
    // Twice: what it took before it was stuck is progress.
    clock.advance(30_000)
    clock.advance(30_000)
    assert.equal((await stalled.closed()).reason, 'write-stalled')
    await producer
    stalled.client.resume()
    await isCut(stalled)
    await other.sse.send({ data: 'still there' })
    await other.gets(1)
  },

  'ends the response after what was accepted': async (stage) => {
    const { sse, transport, client, events, closed } = await stage.connect()
    for (let i = 0; i < 50; i += 1) sse.trySend({ data: i })
    await sse.close({ reason: 'completed' })
    await until(() => client.closed, 'the client knows that its stream is over')
    assert.ok(client.ended, 'the client has got an end in order')
    assert.deepEqual(
      events().map(({ data }) => Number(data)),
      Array.from({ length: 50 }, (_, i) => i),
    )
    assert.equal((await closed()).reason, 'completed')
    assert.ok(transport.hasEnded, 'the transport has told that the end has left')
  },

  'gives a client that reads late all that was accepted, and the end in order': async (stage) => {
    const clock = new ManualClock()
    const options = { clock, maxEvents: LATE_EVENTS, maxBytes: 64 * MiB }
    const { sse, transport, client, events, closed } = await stage.connect({ options })
    client.pause()
    const filling = 'x'.repeat(20_000)
    for (let i = 0; i < LATE_EVENTS; i += 1) assert.equal(sse.trySend({ data: `${i} ${filling}` }), 'queued')
    const closing = sse.close({ reason: 'completed' })
    await untilStill(sse)
    client.resume()
    await until(() => client.closed, 'the client knows that its stream is over')
    assert.ok(client.ended, 'the client has got an end in order')
    assert.deepEqual(
      events().map(({ data }) => Number.parseInt(data, 10)),
      Array.from({ length: LATE_EVENTS }, (_, i) => i),
    )
    await closing
    assert.equal((await closed()).reason, 'completed')
    assert.ok(transport.hasEnded, 'the transport has told that the end has left')
  },

  'shows an abort to the client as one, and to no other one': async (stage) => {
    const other = await stage.connect()
    const aborted = await stage.connect()
    await aborted.sse.send({ data: 'first' })
    await aborted.gets(1)
    aborted.sse.abort()
    assert.equal((await aborted.closed()).reason, 'aborted')
    await isCut(aborted)
    await other.sse.send({ data: 'still there' })
    await other.gets(1)
  },

  'lets a client resume where it was': async (stage) => {
    const log = createMemoryLog()
    const first = await stage.connect({ options: { log } })
    for (let i = 1; i <= 3; i += 1) await first.sse.send({ data: i })
    await first.gets(3)
    const id = first.events()[1]?.id ?? ''
    first.client.leave()
    await first.closed()
    const second = await stage.connect({ options: { log }, headers: { 'last-event-id': id } })
    await second.sse.send({ data: 4 })
    await second.gets(2)
    assert.equal(second.sse.lastEventId, id)
    assert.deepEqual(
      second.events().map(({ data }) => data),
      ['3', '4'],
    )
  },

  'carries many streams at a time, without a warning of the process': async (stage) => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => void warnings.push(warning)
    process.on('warning', onWarning)
    try {
      const all: Played[] = []
      for (let i = 0; i < 30; i += 1) all.push(await stage.connect())
      for (const [i, { sse }] of all.entries()) await sse.send({ data: i })
      for (const [i, { gets, events }] of all.entries()) {
        await gets(1)
        assert.equal(events()[0]?.data, String(i))
      }
      const [kept, ...left] = all
      for (const { client } of left) client.leave()
      for (const { closed } of left) assert.equal((await closed()).reason, 'client-closed')
      await kept?.sse.send({ data: 'kept' })
      await kept?.gets(2)
      await turns(3)
      assert.deepEqual(warnings, [])
    } finally {
      process.off('warning', onWarning)
    }
  },
}

/** Those of a harness that can have a client leave before it is answered. */
const LATE_CASES: typeof CASES = {
  'tells at once of a client that has left before': async (stage) => {
    const { sse, phase } = await stage.connectLate()
    assert.equal(phase, 'closed')
    assert.equal((await sse.closed).reason, 'client-closed')
  },
}

async function isCut({ client }: Played): Promise<void> {
  await until(() => client.closed, 'the client knows that its stream is over')
  assert.equal(client.ended, false, 'what the client got is no end in order')
}

/** Sends events of 20,000 bytes that begin with their number. */
async function sendWhile(sse: SSEHandler, condition: () => boolean): Promise<void> {
  const filling = 'x'.repeat(20_000)
  for (let i = 0; condition(); i += 1) await sse.send({ data: `${i} ${filling}` })
}

/** Resolves when nothing more leaves for a client that does not read: no byte in 25 looks in a row. */
async function untilStuck(sse: SSEHandler): Promise<void> {
  let unmoved = 0
  let bytes = -1
  await until(() => {
    const { bytesSent, phase } = sse.stats()
    unmoved = phase === 'blocked' && bytesSent === bytes ? unmoved + 1 : 0
    bytes = bytesSent
    return unmoved === 25
  }, 'the client is sent nothing more')
}

/** Resolves when nothing more leaves, because the system has taken all or takes no more. */
async function untilStill(sse: SSEHandler): Promise<void> {
  let unmoved = 0
  let bytes = -1
  await until(() => {
    const { bytesSent } = sse.stats()
    unmoved = bytesSent === bytes ? unmoved + 1 : 0
    bytes = bytesSent
    return unmoved === 25
  }, 'nothing more leaves')
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve))
}
