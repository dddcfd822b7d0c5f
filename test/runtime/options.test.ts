import { createMemoryLog, createSluice, type OpenOptions } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { turns } from '../support/fake-transport.js'
import { fakeClient, supervise, superviseFakes } from '../support/sluice.js'

const invalid = expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' })

it.each([
  null,
  5,
  { nonsense: 1 },
  { log: createMemoryLog() },
  { limits: null },
  { limits: { nonsense: 1 } },
  { limits: { maxConnections: 0 } },
  { limits: { maxConnections: Number.POSITIVE_INFINITY } },
  { limits: { maxPerKey: 0 } },
  { limits: { maxPerKey: 1.5 } },
  { limits: { atMaxPerKey: 'close' } },
  { limits: { maxBytes: 0 } },
  { limits: { retryAfterMs: 999 } },
  { limits: { retryAfterMs: 2 ** 31 } },
  { key: 'tenant' },
  { authorize: true },
  { authorizeTimeoutMs: 0 },
  { authorizeTimeoutMs: Number.POSITIVE_INFINITY },
  { sessionId: 'mine' },
  { onOpenSession: 'close' },
  { idleMs: 0 },
  { idleMs: 2 ** 31 },
  { lifetimeMs: -1 },
  { lifetimeMs: Number.NaN },
  { sweepMs: 999 },
  { logger: {} },
  { logger: 'console' },
  { clock: {} },
  { maxEvents: 0 },
  { heartbeat: { intervalMs: 0 } },
  { headers: { 'Content-Type': 'text/plain' } },
])('createSluice refuses options that mean nothing: %j', (options) => {
  expect(() => createSluice(options as never)).toThrow(invalid)
})

it('a wrong name is answered with the right ones', () => {
  expect(() => createSluice({ maxConnections: 5 } as never)).toThrow(
    /createSluice has no option "maxConnections"; expected some of .*limits.*lifetimeMs/,
  )
})

describe('the options of open', () => {
  it.each([
    { nonsense: 1 },
    { clock: {} },
    { maxEvents: 0 },
    { log: 'none' },
    { headers: 'abc' },
    { headers: null },
    { headers: { 'a\r\nb': 'c' } },
    { headers: { a: 'b\r\nc: d' } },
    { sessionId: '' },
  ])('that mean nothing throw before anything is sent: %j', (options) => {
    const { sluice, open } = superviseFakes()
    const client = fakeClient()
    expect(() => open(client, options as OpenOptions)).toThrow(invalid)
    expect(client.transport.answer).toBeNull()
    expect(sluice.stats()).toMatchObject({ open: 0, opened: 0 })
  })

  it('that are left out, or undefined, are those of createSluice', async () => {
    const { open } = superviseFakes({
      maxEvents: 2,
      heartbeat: { intervalMs: 5000, format: 'event' },
      retryMs: 77,
    })
    const client = fakeClient()
    client.transport.takesAtOnce = false
    const { sse, transport } = open(client, { maxEvents: undefined, heartbeat: { intervalMs: undefined } })
    await turns()
    expect(transport.text).toContain('retry: 77\n')
    for (let i = 0; i < 3; i += 1) sse.trySend({ data: 'x' })
    expect(sse.stats()).toMatchObject({ queuedEvents: 2, dropped: 1 })
  })

  it('that are given take their place, one by one', async () => {
    const { clock, open } = superviseFakes({ heartbeat: { intervalMs: 5000, format: 'event' } })
    const { transport } = open(fakeClient(), { heartbeat: { intervalMs: 2000 }, firstEvent: false })
    await turns()
    clock.advance(3000)
    await turns()
    expect(transport.text).toContain('event: heartbeat\n')
  })

  it('may add headers to those of createSluice', async () => {
    const { url } = await supervise({ headers: { 'X-All': '1', 'X-Both': 'all' } }, () => ({
      headers: { 'x-one': '2', 'x-both': 'one' },
    }))
    const { response } = await connect(url)
    expect(response.headers).toMatchObject({ 'x-all': '1', 'x-one': '2', 'x-both': 'one' })
  })
})
