import type { IncomingMessage, ServerResponse } from 'node:http'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import fc from 'fast-check'
import {
  type Channel,
  type ChannelOptions,
  type CloseReason,
  createChannel,
  createMemoryLog,
  createSSEHandler,
  type EventLog,
  type SSEHandler,
  type SubscribeOptions,
} from 'sluice'
import { expect, it } from 'vitest'
import { connectReader, parsed, type Reader } from '../support/channel.js'
import { connect, type TestClient } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const EPOCH = 'e'
const CLIENTS = 3

/** An event as it was appended. */
interface Appended {
  name: string
  topic: string | undefined
  data: string
}

interface Selecting {
  options: SubscribeOptions
  /** Says the same in its own words. */
  selects(event: Appended, sequence: number): boolean
}

const SELECTIONS: Record<string, Selecting> = {
  everything: { options: {}, selects: () => true },
  'a name': { options: { events: 'tick' }, selects: ({ name }) => name === 'tick' },
  'a pattern': { options: { events: ['t*', 'none'] }, selects: ({ name }) => /^t/.test(name) },
  topics: {
    options: { topics: ['room:*', 'lobby'] },
    selects: ({ topic }) => topic !== undefined && /^(room:.*|lobby)$/s.test(topic),
  },
  authorized: {
    options: { authorize: (topic) => topic !== 'room:2' },
    selects: ({ topic }) => topic !== 'room:2',
  },
  filtered: {
    options: { filter: ({ id }) => Number(id.slice(2)) % 5 === 0 },
    selects: (_, sequence) => sequence % 5 === 0,
  },
  'nothing at all': { options: { topics: 'nowhere' }, selects: () => false },
}

const sequenceOf = (id: string | undefined) => Number((id ?? '').slice(EPOCH.length + 1))

/** The channel, and all that ever happened to its log. */
interface World {
  readonly channel: Channel
  readonly log: EventLog
  readonly options: ChannelOptions
  readonly appended: Appended[]
}

function createWorld({ ring, maxBytes, maxAgeMs, ...run }: Scenario, clock?: ManualClock): World {
  const options = { ...optionsOf(run), clock }
  const log = createMemoryLog({ maxEvents: ring, maxBytes, maxAgeMs, epoch: EPOCH, clock })
  const appended: Appended[] = []
  const append = log.append.bind(log)
  log.append = (block, label) => {
    const data = /^data: (.*)$/m.exec(block)?.[1] ?? 'no data'
    appended.push({ name: label?.event ?? 'no label', topic: label?.topic, data })
    return append(block, label)
  }
  return { log, appended, options, channel: createChannel({ ...options, log }) }
}

/** The first event that is neither evicted nor, where that makes a gap, too far behind at this moment. */
function firstNotGivenUp({ log, options }: World): number {
  let sequence = log.oldest
  if (options.slowConsumer !== 'gap') return sequence
  const { events = Number.POSITIVE_INFINITY, bytes = Number.POSITIVE_INFINITY } = options.maxLag ?? {}
  while (log.next - sequence > events || log.bytesFrom(sequence) > bytes) sequence += 1
  return sequence
}

/** What one client was told, over all its connections. Fails at a hole, a repeat, or a gap that is none. */
class View {
  readonly totals = { got: 0, gaps: 0, missed: 0, positions: 0, replayed: 0 }
  lastEventId: string | undefined
  /** The last event that the client knows of, by an id. */
  position: number | null = null
  readonly #world: World
  readonly #selecting: Selecting
  /** Where a client without a position begins; where it came from else. */
  #start = 0
  /** Of each gap that this connection was told: what was given up at that moment. */
  #givenUpBefore: number[] = []
  #privates: string[] = []

  constructor(world: World, selecting: Selecting) {
    this.#world = world
    this.#selecting = selecting
  }

  /** The client connects. To be called before it follows the channel. */
  begin(sse: SSEHandler): void {
    const { log, options } = this.#world
    this.#start = (options.replay?.start === 'oldest' ? log.oldest : log.next) - 1
    const givenUpBefore: number[] = []
    this.#givenUpBefore = givenUpBefore
    this.#privates = []
    sse.on('gap', () => givenUpBefore.push(firstNotGivenUp(this.#world)))
  }

  sent(data: string): void {
    this.#privates.push(data)
  }

  read({ event, id, data }: EventSourceMessage): void {
    if (event === 'private') {
      expect([data, id]).toEqual([this.#privates.shift(), undefined])
      return
    }
    if (event === 'connected') this.#readConnected(id)
    else if (event === 'gap') this.#readGap(id, data)
    else if (event === 'position') this.#readPosition(id)
    else this.#readEvent(event, id, data)
    this.lastEventId = id ?? this.lastEventId
  }

  /** The client was told that it has all there will ever be. */
  readEnd(): void {
    if (this.position !== null) this.#expectNoneBetween(this.position, this.#world.log.next)
    else expect(this.totals).toMatchObject({ got: 0, gaps: 0 })
  }

  #readConnected(id: string | undefined): void {
    // Where the position cannot be said, a gap follows, which says it.
    if (id === undefined) expect(this.position).not.toBe(null)
    else if (this.position !== null) expect(sequenceOf(id)).toBe(this.position)
    else {
      expect(sequenceOf(id)).toBe(this.#start)
      this.position = this.#start
    }
  }

  #readGap(id: string | undefined, data: string): void {
    const { options } = this.#world
    const { asked, oldest, cause, continues } = JSON.parse(data)
    expect([cause, continues]).toEqual(['evicted', options.replay?.afterGap ?? 'oldest'])
    const position = this.#known()
    const [from, behind] = [sequenceOf(asked), sequenceOf(id)]
    expect(from).toBeGreaterThanOrEqual(position)
    this.#expectNoneBetween(position, from + 1)
    expect(behind).toBeGreaterThan(from)
    if (oldest !== null) expect(sequenceOf(oldest)).toBeLessThanOrEqual(behind + 1)
    const given = this.#givenUpBefore.shift()
    expect(from + 1).toBeLessThan(given as number)
    if (continues === 'oldest') expect(behind + 1).toBeLessThanOrEqual(given as number)
    this.totals.gaps += 1
    this.totals.missed += behind - from
    this.position = behind
  }

  #readPosition(id: string | undefined): void {
    const sequence = sequenceOf(id)
    expect(sequence).toBeGreaterThan(this.#known())
    this.#expectNoneBetween(this.#known(), sequence + 1)
    this.totals.positions += 1
    this.position = sequence
  }

  #readEvent(event: string | undefined, id: string | undefined, data: string): void {
    const sequence = sequenceOf(id)
    expect(sequence).toBeGreaterThan(this.#known())
    this.#expectNoneBetween(this.#known(), sequence)
    expect(this.#isSelected(sequence)).toBe(true)
    const appended = this.#world.appended[sequence - 1]
    expect([event ?? 'message', data]).toEqual([appended?.name, appended?.data])
    this.totals.got += 1
    this.position = sequence
  }

  #known(): number {
    expect(this.position).not.toBe(null)
    return this.position as number
  }

  #isSelected(sequence: number): boolean {
    return this.#selecting.selects(this.#world.appended[sequence - 1] as Appended, sequence)
  }

  /** That none of the events between two, both excluded, was for this client. */
  #expectNoneBetween(from: number, to: number): void {
    for (let sequence = from + 1; sequence < to; sequence += 1) {
      if (this.#isSelected(sequence)) expect(`${sequence} of ${from} to ${to}`).toBe('not for this client')
    }
  }
}

// What may happen.

const who = fc.integer({ min: 0, max: CLIENTS - 1 })
const part = fc.double({ min: 0, max: 1, noNaN: true })
const event = fc.record({
  name: fc.constantFrom(undefined, 'tick', 'tock', 'other'),
  topic: fc.constantFrom(undefined, 'room:1', 'room:2', 'lobby', 'elsewhere'),
})
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      what: fc.constantFrom('publish' as const, 'send' as const),
      event,
      count: fc.integer({ min: 1, max: 6 }),
      size: fc.constantFrom(0, 0, 0, 100, 1000),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ what: fc.constant('go round' as const), turns: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ what: fc.constant('pass time' as const), ms: fc.constantFrom(1, 2, 5, 600) }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      what: fc.constantFrom(
        'connect' as const,
        'connect' as const,
        'send privately' as const,
        'slow down' as const,
        'speed up' as const,
        'take' as const,
        'look' as const,
        'unsubscribe' as const,
        'subscribe' as const,
        'subscribe' as const,
      ),
      who,
      part,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constantFrom('cut' as const, 'cut' as const, 'abort' as const, 'close' as const),
      who,
      part,
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never
type StepOfAll = Extract<Step, { event: unknown } | { turns: unknown } | { ms: unknown }>
type StepOfOne = Exclude<Step, StepOfAll>

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined })
const scenario = fc.record({
  ring: fc.integer({ min: 1, max: 20 }),
  maxBytes: optional(fc.integer({ min: 50, max: 3000 })),
  maxAgeMs: fc.option(fc.integer({ min: 3, max: 1000 }), { nil: undefined, freq: 2 }),
  slowConsumer: fc.constantFrom('gap' as const, 'close' as const, 'wait' as const),
  maxLag: fc.record({
    events: optional(fc.integer({ min: 1, max: 15 })),
    bytes: optional(fc.integer({ min: 100, max: 3000 })),
  }),
  flushIntervalMs: fc.constantFrom(0, 2, 5),
  start: fc.constantFrom('newest' as const, 'oldest' as const),
  afterGap: fc.constantFrom('oldest' as const, 'oldest' as const, 'newest' as const, 'close' as const),
  selections: fc.array(fc.constantFrom(...Object.keys(SELECTIONS)), {
    minLength: CLIENTS,
    maxLength: CLIENTS,
  }),
  steps: fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }),
})
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

function optionsOf(
  run: Pick<Scenario, 'slowConsumer' | 'maxLag' | 'flushIntervalMs' | 'start' | 'afterGap'>,
) {
  const { slowConsumer, maxLag, flushIntervalMs, start, afterGap } = run
  return { slowConsumer, maxLag, flushIntervalMs, maxWaitMs: 500, replay: { start, afterGap } }
}

/** A client whatever carries its stream. */
interface Client {
  readonly view: View
  /** Null when it has no connection, or when that has closed. */
  readonly sse: SSEHandler | null
  readonly selecting: Selecting
  connect(): void | Promise<void>
  take(part: number): void
  slowDown(): void
  speedUp(): void
  /** Reads what has come. */
  look(): void
  /** Leaves, with a part of what has come and was not looked at. */
  cut(part: number): void | Promise<void>
}

let produced = 0

async function act(step: Step, world: World, clients: Client[], pass: (ms: number) => unknown) {
  if ('who' in step) await actAs(clients[step.who] as Client, step, world)
  else if ('turns' in step) await turns(step.turns)
  else if ('ms' in step) await pass(step.ms)
  else {
    for (let i = 0; i < step.count; i += 1) {
      produced += 1
      const { name, topic } = step.event
      const input = { event: name, topic, data: `${produced}:${'x'.repeat(step.size)}` }
      const done: Promise<unknown> = world.channel[step.what](input)
      done.catch((error) => expect(error).toMatchObject({ code: 'ERR_SSE_CLOSED' }))
    }
  }
}

async function actAs(client: Client, step: StepOfOne, { channel }: World): Promise<void> {
  const { sse, view } = client
  if (sse === null) {
    if (step.what === 'connect') await client.connect()
    return
  }
  if (step.what === 'send privately') {
    produced += 1
    const outcome = sse.trySend({ event: 'private', data: String(produced) })
    if (outcome === 'queued') view.sent(String(produced))
  }
  if (step.what === 'slow down') client.slowDown()
  if (step.what === 'speed up') client.speedUp()
  if (step.what === 'take') client.take(step.part)
  if (step.what === 'look') client.look()
  if (step.what === 'unsubscribe') channel.unsubscribe(sse)
  if (step.what === 'subscribe') {
    channel.unsubscribe(sse)
    channel.subscribe(sse, client.selecting.options)
  }
  if (step.what === 'cut') await client.cut(step.part)
  if (step.what === 'abort') sse.abort()
  if (step.what === 'close') void sse.close()
}

/** What happened in all runs together: a model in which little happens proves little. */
class Tally {
  readonly reasons: Partial<Record<CloseReason, number>> = {}
  readonly totals = { got: 0, gaps: 0, missed: 0, positions: 0, replayed: 0 }
  connections = 0
  noContent = 0

  opened(sse: SSEHandler): void {
    this.connections += 1
    void sse.closed.then(({ reason }) => {
      this.reasons[reason] = (this.reasons[reason] ?? 0) + 1
      this.totals.replayed += sse.stats().eventsReplayed
    })
  }

  add({ totals }: View): void {
    for (const name of ['got', 'gaps', 'missed', 'positions'] as const) this.totals[name] += totals[name]
  }
}

class FakeClient implements Client {
  readonly view: View
  readonly selecting: Selecting
  #reader: Reader | null = null
  #parser = createParser({})
  #decoder = new TextDecoder()
  #read = 0
  #isSlow = false

  constructor(
    readonly world: World,
    readonly clock: ManualClock,
    readonly tally: Tally,
    selection: string,
  ) {
    this.selecting = SELECTIONS[selection] as Selecting
    this.view = new View(world, this.selecting)
  }

  get sse(): SSEHandler | null {
    return this.#reader === null || this.#reader.sse.phase === 'closed' ? null : this.#reader.sse
  }

  get wasAnsweredNoContent(): boolean {
    const answer = this.#reader?.transport.answer
    return answer?.stream === false && answer.status === 204
  }

  connect(): void {
    this.look()
    const { clock, world, view } = this
    const reader = connectReader({ clock, lastEventId: view.lastEventId, writeStallMs: 1e9, drainMs: 50 })
    reader.transport.takesAtOnce = !this.#isSlow
    this.#reader = reader
    this.#read = 0
    this.#decoder = new TextDecoder()
    this.#parser = createParser({ onEvent: (message) => view.read(message) })
    this.tally.opened(reader.sse)
    view.begin(reader.sse)
    world.channel.subscribe(reader.sse, this.selecting.options)
    if (this.wasAnsweredNoContent) this.tally.noContent += 1
  }

  take(part: number): void {
    const transport = this.#reader?.transport
    transport?.take(Math.ceil(transport.pendingBytes * part))
  }

  slowDown(): void {
    this.#isSlow = true
    if (this.#reader !== null) this.#reader.transport.takesAtOnce = false
  }

  speedUp(): void {
    this.#isSlow = false
    if (this.#reader !== null) this.#reader.transport.takesAtOnce = true
    this.#reader?.transport.take()
    this.#reader?.transport.finish()
  }

  look(part = 1): void {
    if (this.#reader === null) return
    const { transport } = this.#reader
    expect(transport.violations).toEqual([])
    const bytes = Buffer.from(transport.text)
    const come = bytes.length - transport.pendingBytes
    const end = this.#read + Math.ceil((come - this.#read) * part)
    this.#parser.feed(this.#decoder.decode(bytes.subarray(this.#read, end), { stream: true }))
    this.#read = end
  }

  cut(part: number): void {
    this.look(part)
    this.#reader?.transport.lose()
    this.#expectNoGapTwice()
    this.#reader = null
  }

  /** What adjoins in one write is one hole. */
  #expectNoGapTwice(): void {
    for (const chunk of this.#reader?.transport.chunks ?? []) {
      const told = parsed(chunk)
      const twice = told.filter(({ event }, i) => event === 'gap' && told[i + 1]?.event === 'gap')
      expect(twice).toEqual([])
    }
  }
}

it('each reader gets exactly the events after its id, or a gap at the hole, whatever happens', async () => {
  const tally = new Tally()
  const play = async (run: Scenario) => {
    const clock = new ManualClock()
    const world = createWorld(run, clock)
    const clients = run.selections.map((name) => new FakeClient(world, clock, tally, name))
    for (const one of run.steps) await act(one, world, clients, (ms) => clock.advance(ms))
    world.channel.end()
    for (const client of clients) {
      for (let i = 0; !client.wasAnsweredNoContent; i += 1) {
        expect(i).toBeLessThan(60)
        if (client.sse === null) client.connect()
        else if (i > 30) world.channel.subscribe(client.sse, client.selecting.options)
        client.speedUp()
        await turns(3)
        clock.advance(60)
        client.speedUp()
        if (client.sse !== null && i % 10 === 9) client.cut(1)
      }
      client.look()
      client.view.readEnd()
      tally.add(client.view)
    }
    await turns(2)
    // What was published last is flushed still, though to nobody.
    clock.advance(5)
    expect(world.channel.stats()).toMatchObject({ readers: 0, permits: 0, waiters: 0 })
    expect(clock.pending).toBe(0)
    expect(new Set(world.appended.map(({ data }) => data)).size).toBe(world.appended.length)
  }
  await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 400 })
  expectALot(tally, 100)
  expect(tally.totals.positions).toBeGreaterThan(100)
  expect(tally.reasons['slow-consumer']).toBeGreaterThan(50)
  expect(tally.reasons.gap).toBeGreaterThan(50)
}, 60_000)

/** A model in which nobody is cut in the middle, or nothing is ever lost, proves nothing. */
function expectALot({ totals, reasons, connections, noContent }: Tally, much: number): void {
  for (const name of ['got', 'gaps', 'missed', 'replayed'] as const) {
    expect([name, totals[name]]).toEqual([name, expect.toSatisfy((count: number) => count > much)])
  }
  for (const reason of ['client-closed', 'server-closed', 'aborted', 'completed'] as const) {
    expect([reason, reasons[reason]]).toEqual([reason, expect.toSatisfy((count: number) => count > much / 4)])
  }
  expect(connections).toBeGreaterThan(much)
  expect(noContent).toBeGreaterThan(much / 4)
}

class SocketClient implements Client {
  readonly view: View
  readonly selecting: Selecting
  wasAnsweredNoContent = false
  #sse: SSEHandler | null = null
  #client: TestClient | null = null
  #read = 0

  constructor(
    readonly world: World,
    readonly url: string,
    readonly tally: Tally,
    selection: string,
  ) {
    this.selecting = SELECTIONS[selection] as Selecting
    this.view = new View(world, this.selecting)
  }

  get sse(): SSEHandler | null {
    return this.#sse === null || this.#sse.phase === 'closed' ? null : this.#sse
  }

  /** The server's end of it. */
  serve(req: IncomingMessage, res: ServerResponse): void {
    const sse = createSSEHandler(req, res, { drainMs: 50 })
    this.#sse = sse
    this.tally.opened(sse)
    this.view.begin(sse)
    this.world.channel.subscribe(sse, this.selecting.options)
  }

  async connect(): Promise<void> {
    await this.#readToTheEnd()
    const { lastEventId } = this.view
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    this.#client = await connect(this.url, { headers })
    this.#read = 0
    this.wasAnsweredNoContent = this.#client.response.statusCode === 204
    if (this.wasAnsweredNoContent) this.tally.noContent += 1
  }

  take(): void {
    this.#client?.resume()
  }

  slowDown(): void {
    this.#client?.pause()
  }

  speedUp(): void {
    this.#client?.resume()
  }

  look(part = 1): void {
    const events = this.#client?.events ?? []
    const end = this.#read + Math.ceil((events.length - this.#read) * part)
    for (const message of events.slice(this.#read, end)) this.view.read(message)
    this.#read = end
  }

  async cut(part: number): Promise<void> {
    this.look(part)
    this.#client?.leave()
    this.#client = null
    const sse = this.#sse
    await until(() => sse?.phase === 'closed')
  }

  /** Reads all that a connection which is closed has sent. */
  async #readToTheEnd(): Promise<void> {
    const client = this.#client
    if (client === null) return
    client.resume()
    await until(() => client.closed)
    this.look()
  }
}

it('the same holds over real sockets', async () => {
  const tally = new Tally()
  const clients = new Map<string, SocketClient>()
  const { url } = await serve((req, res) => clients.get(req.url ?? '')?.serve(req, res))
  const play = async (run: Scenario) => {
    const world = createWorld(run)
    const own = run.selections.map((name) => {
      const path = `/${clients.size}`
      const client = new SocketClient(world, url.slice(0, -1) + path, tally, name)
      clients.set(path, client)
      return client
    })
    for (const one of run.steps) await act(one, world, own, (ms) => turns(ms % 10))
    world.channel.end()
    for (const client of own) {
      for (let i = 0; !client.wasAnsweredNoContent; i += 1) {
        expect(i).toBeLessThan(20)
        if (client.sse === null) await client.connect()
        const { sse } = client
        if (sse === null) continue
        world.channel.unsubscribe(sse)
        world.channel.subscribe(sse, client.selecting.options)
        client.speedUp()
        await sse.closed
      }
      client.view.readEnd()
      tally.add(client.view)
    }
    expect(world.channel.stats()).toMatchObject({ readers: 0, permits: 0, waiters: 0 })
  }
  // Over sockets no run is like another: to look for a smaller one takes long and finds nothing.
  await fc.assert(fc.asyncProperty(scenario, play), { numRuns: 60, endOnFailure: true })
  expectALot(tally, 16)
}, 60_000)
