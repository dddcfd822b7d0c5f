import { createHealthHandler } from 'sluice'
import { expect, it } from 'vitest'
import { liveSluice } from '../support/figures.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

async function probed(options: Parameters<typeof liveSluice>[0] = {}) {
  const live = await liveSluice(options)
  const { url } = await serve(createHealthHandler(live.sluice))
  const probe = async (path: string) => {
    const response = await fetch(new URL(path, url))
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      cacheControl: response.headers.get('cache-control'),
      retryAfter: response.headers.get('retry-after'),
      health: await response.json(),
    }
  }
  return { ...live, live, probe }
}

it('says that it is ready, and with what', async () => {
  const { probe, client } = await probed({ limits: { maxConnections: 7, maxBytes: 1000 } })
  await client()
  expect(await probe('/health')).toEqual({
    status: 200,
    type: 'application/json',
    cacheControl: 'no-store',
    retryAfter: null,
    health: {
      status: 'ok',
      isReady: true,
      open: 1,
      maxConnections: 7,
      heldBytes: 0,
      maxBytes: 1000,
      loopLagMs: expect.any(Number),
    },
  })
})

it('is not ready while it is full, and is alive', async () => {
  const { live, probe } = await probed({ limits: { maxConnections: 1 } })
  const client = await live.client()
  expect(await probe('/ready')).toMatchObject({
    status: 503,
    retryAfter: '5',
    health: { status: 'overloaded', isReady: false },
  })
  expect(await probe('/live')).toMatchObject({ status: 200, retryAfter: null })
  client.leave()
  await until(() => live.sluice.stats().open === 0)
  expect(await probe('/ready')).toMatchObject({ status: 200, health: { status: 'ok' } })
})

it.each(['/live', '/health/live', '/health?live', '/health?x=1&live=1'])(
  'is alive while it stops: %s',
  async (path) => {
    const { sluice, probe } = await probed()
    await sluice.shutdown()
    expect(await probe(path)).toMatchObject({ status: 200, health: { status: 'stopping', isReady: false } })
  },
)

it.each(['/', '/ready', '/alive', '/live/ready', '/health?alive', '/health?x=live'])(
  'is not ready while it stops: %s',
  async (path) => {
    const { sluice, probe } = await probed()
    await sluice.shutdown()
    expect(await probe(path)).toMatchObject({ status: 503, retryAfter: '5' })
  },
)

it('answers HEAD without a body', async () => {
  const { sluice } = await liveSluice()
  const { url } = await serve(createHealthHandler(sluice))
  const response = await fetch(url, { method: 'HEAD' })
  expect([response.status, await response.text()]).toEqual([200, ''])
})
