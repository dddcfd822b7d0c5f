import type { IncomingMessage } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import {
  type Channel,
  createChannel,
  createMemoryLog,
  createSluice,
  type EventLog,
  type OpenOptions,
  type SluiceOptions,
  type SSEHandler,
  type SSEHandlerEvents,
} from 'sluice'
import { afterAll, expect, it, onTestFinished } from 'vitest'
import { range } from '../support/channel.js'
import { connect } from '../support/client.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'
import { recordFault } from './faults.js'
import { CountedClock } from './streams.js'

const COUNT = 30
/** Longer than the sums over all streams are kept for. */
const SUMMED_AGAIN_MS = 300

function fail(): never {
  throw new Error('on purpose')
}

/** What throws on the stream of one client. */
interface Thrower {
  options?: () => OpenOptions
  /** Called with each stream of that client. */
  use?: (sse: SSEHandler, channel: Channel) => unknown
  /** Hooks of all streams; they throw for that client only. */
  sluice?: (isVictim: (request: IncomingMessage) => boolean) => SluiceOptions<IncomingMessage>
  /** The position that client comes with. */
  lastEventId?: string
}

const LISTENED: Record<keyof SSEHandlerEvents, true> = {
  phase: true,
  blocked: true,
  unblocked: true,
  gap: true,
  heartbeat: true,
  dropped: true,
  closed: true,
  error: true,
}

const listeners = (Object.keys(LISTENED) as (keyof SSEHandlerEvents)[]).map((name): [string, Thrower] => [
  `a listener of ${name}`,
  {
    use(sse) {
      // What is thrown in one listener is told to those of error.
      sse.on('dropped', fail).on(name, fail)
      for (const n of range(1, 100)) sse.trySend({ data: n })
    },
  },
])

const logMethods = [
  'append',
  'read',
  'frameAt',
  'bytesFrom',
  'labelAt',
  'onAppend',
  'oldest',
  'next',
] as const

/** A log of which one part throws, from when it is armed on. */
function brokenLog(part: (typeof logMethods)[number]): EventLog & { arm(): void } {
  let isArmed = false
  const log = createMemoryLog()
  const arm = () => {
    isArmed = true
  }
  return new Proxy(log, {
    get(target, name) {
      if (name === 'arm') return arm
      if (name === part && isArmed) return part === 'oldest' || part === 'next' ? fail() : fail
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  }) as EventLog & { arm(): void }
}

const logs = logMethods.map((part): [string, Thrower] => {
  const log = brokenLog(part)
  return [
    `${part} of a log`,
    {
      options: () => ({ log }),
      async use(sse) {
        await sse.send({ data: 'before' })
        log.arm()
        sse.send({ data: 'after' }).catch(() => {})
      },
    },
  ]
})

const throwers: [string, Thrower][] = [
  ['key', { sluice: (isVictim) => ({ key: (request) => (isVictim(request) ? fail() : 'k') }) }],
  [
    'sessionId',
    { sluice: (isVictim) => ({ sessionId: (request) => (isVictim(request) ? fail() : undefined) }) },
  ],
  [
    'cors.origins',
    { sluice: () => ({ cors: { origins: (origin) => (origin.includes('victim') ? fail() : true) } }) },
  ],
  [
    'redact of a stream',
    { options: () => ({ redact: fail }), use: (sse) => sse.send({ data: 1 }).catch(() => {}) },
  ],
  ['authorize', { sluice: (isVictim) => ({ authorize: (request) => (isVictim(request) ? fail() : 'me') }) }],
  [
    'authorize, later',
    { sluice: (isVictim) => ({ authorize: async (request) => (isVictim(request) ? fail() : 'me') }) },
  ],
  ['toJSON', { use: (sse) => sse.send({ data: { toJSON: fail } }).catch(() => {}) }],
  ['filter', { use: (sse, channel) => channel.subscribe(sse, { filter: fail }) }],
  ['authorize of a topic', { use: (sse, channel) => channel.subscribe(sse, { authorize: fail }) }],
  ['onSubscribe', { use: (sse, channel) => channel.subscribe(sse, { onSubscribe: fail }) }],
  [
    'onSubscribe, later',
    { use: (sse, channel) => channel.subscribe(sse, { onSubscribe: async () => fail() }) },
  ],
  ['onGap', { lastEventId: 'x-1', use: (sse, channel) => channel.subscribe(sse, { onGap: fail }) }],
  ['the logger', { sluice: () => ({ logger: { debug: fail, info: fail, warn: fail, error: fail } }) }],
  [
    'the logger, later',
    {
      sluice: () => {
        const failLater = async () => fail()
        return { logger: { debug: failLater, info: failLater, warn: failLater, error: failLater } }
      },
    },
  ],
  ...listeners,
  ...logs,
]

it.each(throwers)(
  '%s that throws disturbs no other stream, and leaves nothing',
  async (_, thrower) => {
    const uncaught: unknown[] = []
    const note = (error: unknown) => void uncaught.push(error)
    process.on('unhandledRejection', note).on('uncaughtExceptionMonitor', note)
    onTestFinished(() => void process.off('unhandledRejection', note).off('uncaughtExceptionMonitor', note))

    const clock = new CountedClock()
    const isVictim = ({ url }: IncomingMessage) => url === '/victim'
    const options: SluiceOptions<IncomingMessage> = {
      heartbeat: { intervalMs: 20 },
      ...thrower.sluice?.(isVictim),
      clock,
    }
    const sluice = createSluice(options)
    const channel = createChannel({ clock })
    const open = new Set<SSEHandler>()
    const { url, server } = await serve(async (req, res) => {
      const sse = await sluice.open(req, res, isVictim(req) ? thrower.options?.() : {})
      if (sse === null) return
      open.add(sse)
      void sse.closed.then(() => open.delete(sse))
      if (!isVictim(req)) channel.subscribe(sse)
      else void Promise.resolve(thrower.use?.(sse, channel)).catch(note)
    })
    const sound = await connect(url)
    const position = thrower.lastEventId === undefined ? {} : { 'last-event-id': thrower.lastEventId }
    // It may get no stream, or none for long.
    const victim = await connect(`${url}victim`, {
      headers: { origin: 'http://victim.example', ...position },
    }).catch(() => null)
    for (const n of range(1, COUNT)) {
      await channel.publish({ data: n, topic: 't' })
      if (n % 10 === 0) await wait(5)
    }
    await wait(SUMMED_AGAIN_MS)
    const late = await connect(url)
    expect(late.response.statusCode).toBe(200)
    expect(sluice.stats().open).toBeGreaterThanOrEqual(2)
    expect(sluice.health()).toMatchObject({ status: 'ok' })
    await channel.publish({ data: COUNT + 1, topic: 't' })
    const dataOf = (client: typeof sound) =>
      client.events.filter(({ event }) => event === undefined).map(({ data }) => Number(data))
    await until(() => dataOf(sound).length === COUNT + 1 && dataOf(late).length === 1)
    expect(dataOf(sound)).toEqual(range(1, COUNT + 1))
    expect(dataOf(late)).toEqual([COUNT + 1])

    for (const client of [sound, late, victim]) client?.leave()
    await until(() => open.size === 0 && sluice.stats().open === 0)
    server.closeAllConnections()
    await sluice.shutdown({ graceMs: 100 })
    await until(() => clock.pending.size === 0)
    expect(uncaught).toEqual([])
  },
  30_000,
)

afterAll(() => {
  recordFault('hooks', { timesMs: [], reasons: [], left: `nothing, with each of ${throwers.length} hooks` })
})
