import { expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { turns } from '../support/fake-transport.js'
import { supervise } from '../support/sluice.js'
import { until } from '../support/until.js'

const STREAMS = 1000
const LIFETIME_MS = 3_600_000
const CLASSES = 10
const CLASS_MS = LIFETIME_MS / 5 / CLASSES
const STEPS = 8

it('1,000 clients that came at once are let go over the last fifth of the lifetime, as many in each part of it', async () => {
  const clock = new ManualClock()
  const { url, sluice } = await supervise({
    clock,
    lifetimeMs: LIFETIME_MS,
    idleMs: Number.POSITIVE_INFINITY,
    sweepMs: Number.POSITIVE_INFINITY,
    heartbeat: { format: 'none' },
    drainMs: LIFETIME_MS,
  })
  const clients = await Promise.all(Array.from({ length: STREAMS }, () => connect(url, { agent: false })))
  clock.advance(LIFETIME_MS - CLASSES * CLASS_MS)
  expect(sluice.stats().open).toBe(STREAMS)

  const histogram: number[] = []
  for (let i = 0; i < CLASSES; i += 1) {
    const before = STREAMS - sluice.sessions().filter(({ phase }) => phase === 'flowing').length
    // At most 128 are ended in one turn of the event loop, and time stands still in between.
    for (let step = 0; step < STEPS; step += 1) {
      clock.advance(CLASS_MS / STEPS)
      await turns()
    }
    const after = STREAMS - sluice.sessions().filter(({ phase }) => phase === 'flowing').length
    histogram.push(after - before)
  }
  // The timers of all connections share one, which is a second late at most.
  clock.advance(1000)
  await until(() => clients.every(({ ended }) => ended), 'every client has the end of its stream')
  // 100 to each part, were it not for chance.
  console.log(`Ends by ${CLASS_MS / 1000} s in the last fifth of the lifetime: ${histogram.join(', ')}`)
  expect(sluice.stats().closed.lifetime).toBe(STREAMS)
  expect(Math.max(...histogram)).toBeLessThan(200)
  expect(Math.min(...histogram)).toBeGreaterThan(30)
})
