import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { recordFault } from './faults.js'
import { FLAWLESS, type Line, Network, SILENCE } from './network.js'
import type { Program } from './process.js'

const PORT = 8000
/** What issue and docs promise, by default settings. */
const SEEN_WITHIN_MS = 45_000
const DOWN_MS = 30_000
/** The clients of one kind open so far apart that their heartbeats are spread over an interval. */
const STAGGER_MS = 2500
const STAGGERED = 6

interface Closing {
  key: string
  reason: string
  at: number
}

interface ClientState {
  key: string
  events: number
  last: number
  connections: number
  isConnected: boolean
  gaps: number
  faults: string[]
}

interface Left {
  handlers: number
  kernel: string[]
}

/** One line for each kind of client that vanishes, so that the kernel's table tells what is left of it. */
type LineName =
  | `${'link' | 'silence'}-${'idle' | 'busy' | 'flood'}`
  | 'loss'
  | 'delay'
  | 'bandwidth'
  | 'link-30s'
  | 'silence-30s'

const KINDS = ['idle', 'busy', 'flood'] as const
const SILENT = ['silence-idle', 'silence-busy', 'silence-flood', 'silence-30s'] as const
const UNPLUGGED = ['link-idle', 'link-busy', 'link-flood', 'link-30s'] as const

let network: Network
let server: Program
let clients: Program
const lines = new Map<LineName, Line>()
let cutAt = 0

const lineOf = (name: LineName) => lines.get(name) as Line

function open(name: LineName, kind: string, nth: number, comesBack = false): Promise<void> {
  const key = `${name} ${kind} ${nth}`
  const query = new URLSearchParams({ kind, key })
  return clients.call('open', key, `http://${lineOf(name).serverAddress}:${PORT}/?${query}`, comesBack)
}

async function statesOf(name?: LineName): Promise<ClientState[]> {
  const states = await clients.call<ClientState[]>('states')
  return states.filter(({ key }) => name === undefined || key.startsWith(`${name} `))
}

async function closingsOf(name: LineName): Promise<Closing[]> {
  const closings = await server.call<Closing[]>('closings')
  return closings.filter(({ key }) => key.startsWith(`${name} `))
}

/** Resolves with whether it became so. Looks twice a second: these faults take their time. */
async function within(limitMs: number, isSo: () => Promise<boolean>): Promise<boolean> {
  const deadline = Date.now() + limitMs
  while (!(await isSo())) {
    if (Date.now() > deadline) return false
    await wait(500)
  }
  return true
}

// Without namespaces there is nothing to test with; the set-up of the tests says so aloud.
describe.skipIf(process.platform !== 'linux').concurrent('over a network that fails', () => {
  beforeAll(async () => {
    network = await Network.create()
    for (const name of UNPLUGGED) lines.set(name, network.addCable())
    for (const name of SILENT) lines.set(name, await network.addTunnel())
    lines.set('loss', await network.addTunnel({ ...FLAWLESS, lossToClient: 0.2 }))
    lines.set('delay', await network.addTunnel({ ...FLAWLESS, delayMs: 500 }))
    lines.set('bandwidth', network.addCable())
    const { device } = lineOf('bandwidth')
    network.tc('server', `qdisc add dev ${device} root tbf rate 64kbit burst 4kb latency 400ms`)
    server = network.start('server', 'server')
    clients = network.start('clients', 'client')
    await server.call('listen', PORT)
    await server.call('publishEvery', 200)

    for (const name of ['loss', 'delay', 'bandwidth'] as const) await open(name, 'idle', 1)
    for (const nth of [1, 2, 3]) {
      for (const name of ['loss', 'delay'] as const) await open(name, 'ticks', nth)
      for (const name of ['link-30s', 'silence-30s'] as const) await open(name, 'ticks', nth, true)
    }
    await open('bandwidth', 'ticks', 1)
    await open('bandwidth', 'flood', 1)
    for (let nth = 1; nth <= STAGGERED; nth += 1) {
      for (const kind of KINDS) {
        await open(`link-${kind}`, kind, nth)
        await open(`silence-${kind}`, kind, nth)
      }
      await wait(STAGGER_MS)
    }
    const areAllConnected = async () => (await statesOf()).every(({ isConnected }) => isConnected)
    expect(await within(10_000, areAllConnected), 'everybody is connected').toBe(true)
    for (const name of UNPLUGGED) network.ip('client', `link set ${lineOf(name).device} down`)
    for (const name of SILENT) await network.impair(lineOf(name), SILENCE)
    cutAt = Date.now()
  }, 60_000)

  afterAll(() => network?.close())

  it.each(['link-idle', 'link-busy', 'link-flood', 'silence-idle', 'silence-busy', 'silence-flood'] as const)(
    'a peer that vanishes without a packet is closed within 45 s, and nothing of it is left: %s',
    async (name) => {
      const areAllClosed = async () => (await closingsOf(name)).length === STAGGERED
      const isSeen = await within(cutAt + SEEN_WITHIN_MS + 1000 - Date.now(), areAllClosed)
      const closings = await closingsOf(name)
      const timesMs = closings.map(({ at }) => at - cutAt)
      const reasons = closings.map(({ reason }) => reason)
      expect({ isSeen, timesMs, reasons }).toMatchObject({ isSeen: true })
      expect(Math.max(...timesMs)).toBeLessThan(SEEN_WITHIN_MS)
      // Nobody was closed before, for another cause.
      expect(Math.min(...timesMs)).toBeGreaterThan(0)
      for (const reason of reasons)
        expect(['vanished', 'write-stalled', 'heartbeat-missed']).toContain(reason)
      const left = await server.call<Left>('left', lineOf(name).clientAddress)
      expect(left).toEqual({ handlers: 0, kernel: [] })
      recordFault(name, { timesMs, reasons, left: 'nothing' })
    },
    60_000,
  )

  it.each(['loss', 'delay', 'bandwidth'] as const)(
    'a bad line loses nothing, and nobody is closed for it: %s',
    async (name) => {
      // Beside the others, for as long as these take: some 50 s in all.
      await wait(Math.max(0, cutAt + 30_000 - Date.now()))
      const isFlowing = ({ key }: ClientState) => !key.includes(' idle ')
      const hasMany = ({ events }: ClientState) => events > 50
      const haveAllMany = async () => (await statesOf(name)).filter(isFlowing).every(hasMany)
      const isCarried = await within(30_000, haveAllMany)
      const states = await statesOf(name)
      expect({ isCarried, states }).toMatchObject({ isCarried: true })
      expect(states.flatMap(({ faults }) => faults)).toEqual([])
      expect(states.filter(({ gaps }) => gaps > 0)).toEqual([])
      expect(states.filter(({ isConnected, connections }) => !isConnected || connections > 1)).toEqual([])
      expect(await closingsOf(name)).toEqual([])
      recordFault(name, { timesMs: [], reasons: [], left: 'every event arrived once, in order' })
    },
    80_000,
  )

  it.each([
    ['link-30s', () => network.ip('client', `link set ${lineOf('link-30s').device} up`)],
    ['silence-30s', () => network.impair(lineOf('silence-30s'), FLAWLESS)],
  ] as const)(
    'a client whose network is gone for 30 s goes on without loss: %s',
    async (name, repair) => {
      await wait(cutAt + DOWN_MS - Date.now())
      await repair()
      const haveAll = async () => {
        const published = await server.call<number>('published')
        return (await statesOf(name)).every(({ last }) => last > published - 10)
      }
      const hasResumed = await within(40_000, haveAll)
      const states = await statesOf(name)
      expect({ hasResumed, states }).toMatchObject({ hasResumed: true })
      expect(states.flatMap(({ faults }) => faults)).toEqual([])
      expect(states.filter(({ gaps }) => gaps > 0)).toEqual([])
      // The old connections go when the server hears of the client again, or has given it up.
      const areOldClosed = async () => (await closingsOf(name)).length === states.length
      expect(await within(40_000, areOldClosed), 'the old connections are closed').toBe(true)
      const closings = await closingsOf(name)
      recordFault(name, {
        timesMs: closings.map(({ at }) => at - cutAt),
        reasons: closings.map(({ reason }) => reason),
        left: 'every event arrived once, in order',
      })
    },
    80_000,
  )
})
