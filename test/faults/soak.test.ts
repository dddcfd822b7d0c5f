import { setTimeout as wait } from 'node:timers/promises'
import { expect, it, onTestFinished } from 'vitest'
import { recordFault } from './faults.js'
import { startProgram } from './process.js'

/** Seconds; more of them find smaller leaks. */
const SOAK_SECONDS = Number(process.env.SOAK_SECONDS || 60)
const PLACES = 100
const SAMPLE_MS = 2000
/** What a hundred clients hold at one moment may differ by so much from another. A leak of 1 KiB for each is more. */
const NOISE_BYTES = 4 * 1024 * 1024

interface Held {
  heapUsed: number
  external: number
  rss: number
  connections: number
  handlers: number
  resources: string[]
  opened: number
}

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] as number
const inMB = (bytes: number) => (bytes / 1024 / 1024).toFixed(1)

it(
  'a soak with clients of all kinds that come and go leaves memory flat and no handle',
  async () => {
    const server = startProgram('server', [], ['--expose-gc'])
    onTestFinished(() => server.kill())
    const port = await server.call<number>('listen', 0)
    const clients = startProgram('clients')
    onTestFinished(() => clients.kill())
    const url = `http://127.0.0.1:${port}/`

    // A full log is not a leak.
    await server.call('fillLog')
    await server.call('publishEvery', 20)
    await clients.call('churn', PLACES, url)
    const samples: Held[] = []
    const endAt = performance.now() + SOAK_SECONDS * 1000
    while (performance.now() < endAt) {
      await wait(SAMPLE_MS)
      samples.push(await server.call<Held>('held'))
    }
    const { churned, faults } = await clients.call<{ churned: number; faults: string[] }>('endChurn')
    await server.call('publishEvery', 0)
    let left = await server.call<Held>('held')
    // The server listens still; nothing else keeps it alive.
    const isMore = () => left.handlers + left.connections > 0 || left.resources.length > 1
    for (const deadline = performance.now() + 20_000; isMore(); ) {
      if (performance.now() > deadline) break
      await wait(100)
      left = await server.call<Held>('held')
    }

    // The first quarter warms up.
    const warm = samples.slice(Math.floor(samples.length / 4))
    const half = Math.floor(warm.length / 2)
    const bytesOf = ({ heapUsed, external }: Held) => heapUsed + external
    const before = median(warm.slice(0, half).map(bytesOf))
    const after = median(warm.slice(half).map(bytesOf))
    const report = `${SOAK_SECONDS} s, ${churned} clients: ${inMB(before)} MB, then ${inMB(after)} MB; at the end ${inMB(bytesOf(left))} MB, resident ${inMB(samples.at(-1)?.rss ?? 0)} MB; closed: ${JSON.stringify(await server.call('reasons'))}`
    console.log(report)
    expect(faults).toEqual([])
    expect(left, report).toMatchObject({ handlers: 0, connections: 0 })
    expect(left.resources).toEqual(['TCPServerWrap'])
    expect(left.opened, report).toBeGreaterThan(SOAK_SECONDS * 50)
    expect(after - before, report).toBeLessThan(before * 0.05 + NOISE_BYTES)
    expect(bytesOf(left) - before, report).toBeLessThan(NOISE_BYTES)
    recordFault('soak', {
      timesMs: [],
      reasons: Object.keys(await server.call<object>('reasons')),
      left: `${churned} clients in ${SOAK_SECONDS} s: ${inMB(before)} MB in the first half, ${inMB(after)} MB in the second; no handle`,
    })
  },
  (SOAK_SECONDS + 60) * 1000,
)
