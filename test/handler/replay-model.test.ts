import fc from 'fast-check'
import { createMemoryLog, createSSEHandler, type EventLog, type SSEError, type SSEHandler } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { connect, type TestClient } from '../support/client.js'
import { connectFake, turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const EPOCH = 'e'

/** What happens next in the life of one client and its log. */
type Step =
  /** The producer of the session sends, and waits whenever it is told to. */
  | { what: 'send'; count: number }
  /** Another producer of the same log sends all at once: it waits for nobody. */
  | { what: 'burst'; count: number }
  | { what: 'go round'; turns: number }
  /** The client has got everything. */
  | { what: 'catch up' }
  | { what: 'stop reading' | 'read on' }
  | { what: 'cut'; by: 'client' | 'server' | 'close' }

const small = fc.integer({ min: 1, max: 12 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ what: fc.constant('send' as const), count: small }) },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('burst' as const), count: small }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant('go round' as const), turns: small }) },
  { weight: 1, arbitrary: fc.constant({ what: 'catch up' as const }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constantFrom('stop reading' as const, 'read on' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('cut' as const),
      by: fc.constantFrom('client' as const, 'server' as const, 'close' as const),
    }),
  },
)
const scenario = fc.record({
  ring: fc.integer({ min: 1, max: 40 }),
  maxEvents: fc.integer({ min: 1, max: 20 }),
  size: fc.constantFrom(0, 200, 20_000),
  steps: fc.array(step, { minLength: 5, maxLength: 50, size: 'max' }),
})
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

/** One client, as a browser is: it comes back with the last id it got, and keeps all that it was told. */
class Follower {
  readonly told: { event?: string | undefined; id?: string | undefined; data: string }[] = []
  lastEventId = ''
  #client: TestClient | null = null
  #kept = 0

  constructor(readonly url: string) {}

  get client(): TestClient | null {
    return this.#client
  }

  async comeBack(): Promise<void> {
    const headers = this.lastEventId === '' ? {} : { 'last-event-id': this.lastEventId }
    this.#client = await connect(this.url, { headers })
    this.#kept = 0
  }

  /** Takes over what came until now, and remembers its position. */
  note(): void {
    const events = this.#client?.events.slice(this.#kept) ?? []
    this.#kept += events.length
    this.told.push(...events)
    for (const { id } of events) this.lastEventId = id ?? this.lastEventId
  }

  /** What comes after this is not got any more. */
  lose(): void {
    this.note()
    this.#client?.leave()
    this.#client = null
  }
}

interface Run {
  log: EventLog
  /** The data of every event ever appended, by sequence; the first has 1. */
  appended: string[]
  sse: SSEHandler | null
  opened: number
}

/** Nothing, for a connection that is closed: another will come. */
function unlessClosed(error: SSEError): null {
  if (error.code !== 'ERR_SSE_CLOSED') throw error
  return null
}

const sequenceOf = (id: string | undefined) => Number((id ?? '').slice(EPOCH.length + 1))

/** Walks through what the client was told; fails at a hole, a repeat, or a gap that is none. */
function verify({ told }: Follower, { appended, log }: Run): { got: number; gaps: number; missed: number } {
  const seen = { got: 0, gaps: 0, missed: 0 }
  /** A client that was cut before its first id has no position: it starts with the oldest event held then. */
  let start: number | null = null
  let position = 0
  for (const { event, id, data } of told) {
    if (start === null) {
      expect(event).toBe('connected')
      start = sequenceOf(id)
      position = start
      expect(start).toBeLessThan(log.oldest)
    } else if (event === 'connected') {
      // It says where the client stands; where that cannot be said, a gap follows, which does.
      if (id !== undefined) expect(sequenceOf(id)).toBe(position)
    } else if (event === 'gap') {
      const { asked, oldest, cause, continues } = JSON.parse(data)
      expect([asked, cause, continues]).toEqual([`${EPOCH}-${position}`, 'evicted', 'oldest'])
      const behind = sequenceOf(id)
      expect(behind).toBeGreaterThan(position)
      expect(behind).toBeLessThan(log.oldest)
      expect(oldest).toBe(`${EPOCH}-${behind + 1}`)
      seen.gaps += 1
      seen.missed += behind - position
      position = behind
    } else {
      expect([sequenceOf(id), data]).toEqual([position + 1, appended[position]])
      seen.got += 1
      position += 1
    }
  }
  expect(position).toBe(log.next - 1)
  expect((start ?? 0) + seen.got + seen.missed).toBe(appended.length)
  return seen
}

it('a client that is cut at random gets each event once, in order, or a gap exactly at the hole', async () => {
  const runs = new Map<string, { run: Run; maxEvents: number }>()
  const { url } = await serve((req, res) => {
    const found = runs.get(req.url ?? '')
    if (found === undefined) throw new Error(`There is no run ${req.url}.`)
    const { run, maxEvents } = found
    run.opened += 1
    run.sse = createSSEHandler(req, res, {
      log: run.log,
      maxEvents,
      drainMs: 100,
      replay: { start: 'oldest' },
    })
  })
  const totals = { got: 0, gaps: 0, missed: 0, connections: 0, replayed: 0 }

  async function play({ ring, maxEvents, size, steps }: Scenario): Promise<void> {
    const log = createMemoryLog({ maxEvents: ring, epoch: EPOCH })
    const appended: string[] = []
    const run: Run = { log, appended, sse: null, opened: 0 }
    const append = log.append.bind(log)
    log.append = (block) => {
      appended.push(/^data: (.*)$/m.exec(block)?.[1] ?? 'no data')
      return append(block)
    }
    const path = `/${runs.size}`
    runs.set(path, { run, maxEvents })
    const other = connectFake(
      { log },
      { transport: (fake) => Object.assign(fake, { takesAtOnce: true }) },
    ).sse
    const follower = new Follower(url.slice(0, -1) + path)

    let produced = 0
    const next = () => {
      produced += 1
      return { data: `${produced}:${'x'.repeat(size)}` }
    }
    /** The session's producer: what one connection did not accept goes to the next. */
    let owed = 0
    let isOver = false
    const producer = (async () => {
      while (!isOver || owed > 0) {
        const permit = owed > 0 ? await run.sse?.requestSend().catch(unlessClosed) : undefined
        if (permit?.send(next()) === 'queued') owed -= 1
        else await turns(1)
      }
    })()
    const stop = () => {
      isOver = true
      owed = 0
    }
    onTestFinished(stop)

    await follower.comeBack()
    for (const current of steps) {
      if (current.what === 'send') owed += current.count
      if (current.what === 'burst') {
        for (let i = 0; i < current.count; i += 1) log.append(`data: ${next().data}\n\n`)
      }
      if (current.what === 'go round') await turns(current.turns)
      if (current.what === 'stop reading') follower.client?.pause()
      if (current.what === 'read on') follower.client?.resume()
      if (current.what === 'catch up') {
        follower.client?.resume()
        await until(() => {
          follower.note()
          return owed === 0 && sequenceOf(follower.lastEventId) === log.next - 1
        }, 'the client has caught up')
      }
      if (current.what === 'cut') {
        if (current.by === 'client') follower.lose()
        if (current.by === 'server') run.sse?.abort()
        if (current.by === 'close') void run.sse?.close()
        if (follower.client !== null) {
          follower.client.resume()
          await until(() => follower.client?.closed)
        }
        follower.lose()
        totals.replayed += run.sse?.stats().eventsReplayed ?? 0
        await follower.comeBack()
      }
    }
    follower.client?.resume()
    isOver = true
    await producer
    await until(() => {
      follower.note()
      return sequenceOf(follower.lastEventId) === log.next - 1
    }, 'the client has got the last event')
    totals.connections += run.opened
    totals.replayed += run.sse?.stats().eventsReplayed ?? 0
    const closed = run.sse?.close()
    await closed
    follower.lose()
    other.abort()
    const { got, gaps, missed } = verify(follower, run)
    totals.got += got
    totals.gaps += gaps
    totals.missed += missed
  }

  await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 80 })
  // A model in which nobody is cut in the middle, or nothing is ever lost, proves nothing.
  expect(totals.connections).toBeGreaterThan(150)
  expect(totals.gaps).toBeGreaterThan(10)
  expect(totals.replayed).toBeGreaterThan(100)
  expect(totals.got).toBeGreaterThan(totals.missed)
}, 90_000)
