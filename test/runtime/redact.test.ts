import { createChannel, createSluice, createSSEHandler, type EventInput } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { serve } from '../support/server.js'

/** Keeps what nobody is to see out of what is sent. */
const withoutPassword = (event: EventInput): EventInput => {
  const { password: _, ...data } = event.data as { password?: string }
  return { ...event, data }
}

const secret = { event: 'user', data: { name: 'ann', password: 'swordfish' } }

const fail = (): never => {
  throw new Error('on purpose')
}

describe('redact', () => {
  it('of all streams of a supervisor keeps fields out of what each is sent', async () => {
    const sluice = createSluice({ redact: withoutPassword })
    const { url } = await serve((req, res) => void sluice.open(req, res)?.trySend(secret))
    const client = await connect(url)
    await client.until((events) => events.some(({ event }) => event === 'user'))
    expect(client.text).toContain('data: {"name":"ann"}')
    expect(client.text).not.toContain('swordfish')
  })

  it('of a channel is called once for each event, whatever the number of readers', async () => {
    let calls = 0
    const channel = createChannel({
      redact: (event) => {
        calls += 1
        return withoutPassword(event)
      },
    })
    const { url } = await serve((req, res) => void channel.subscribe(createSSEHandler(req, res)))
    const clients = [await connect(url), await connect(url), await connect(url)]
    await channel.publish(secret)
    for (const client of clients) {
      await client.until((events) => events.some(({ event }) => event === 'user'))
      expect(client.text).not.toContain('swordfish')
    }
    expect(calls).toBe(1)
  })

  it('that throws lets nothing out: the event is refused, and the next one is sent', async () => {
    let isFailing = true
    const outcomes: unknown[] = []
    const { url } = await serve((req, res) => {
      const sse = createSSEHandler(req, res, { redact: (event) => (isFailing ? fail() : event) })
      try {
        sse.trySend(secret)
      } catch (error) {
        outcomes.push((error as { code: string }).code)
      }
      isFailing = false
      outcomes.push(sse.trySend({ event: 'next', data: 1 }))
    })
    const client = await connect(url)
    await client.until((events) => events.some(({ event }) => event === 'next'))
    expect(outcomes).toEqual(['ERR_SSE_INVALID_EVENT', 'queued'])
    expect(client.text).not.toContain('swordfish')
  })

  it('that is no function is refused before anything is sent', () => {
    const redact = 'password' as never
    expect(() => createSluice({ redact })).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }),
    )
    expect(() => createChannel({ redact })).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }),
    )
  })
})

it('headers of the stream, of all streams, and of the program are all sent; the nearest wins', async () => {
  const sluice = createSluice({ headers: { 'X-All': 'all', 'X-Both': 'all' } })
  const { url } = await serve((req, res) => {
    res.setHeader('X-Set', 'before')
    sluice.open(req, res, { headers: { 'x-both': 'one', 'Cache-Control': 'no-store, no-transform' } })
  })
  const { response } = await connect(url)
  expect(response.headers).toMatchObject({
    'x-all': 'all',
    'x-both': 'one',
    'x-set': 'before',
    'cache-control': 'no-store, no-transform',
    'content-type': 'text/event-stream',
  })
})
