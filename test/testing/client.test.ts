import { createServer } from 'node:http'
import { createMemoryLog, createSSEHandler, type SSEHandler } from 'sluice'
import { connectClient } from 'sluice/testing'
import { describe, expect, it } from 'vitest'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

describe('the client of the test kit', () => {
  it('comes back with the last id it got', async () => {
    const log = createMemoryLog()
    const made: SSEHandler[] = []
    const { url } = await serve((req, res) => void made.push(createSSEHandler(req, res, { log })))
    const first = await connectClient(url)
    await made[0]?.send({ data: 1 })
    await first.until(({ length }) => length === 2)
    const coming = first.reconnect()
    await made[0]?.closed
    const second = await coming
    expect(made[1]?.lastEventId).toBe(first.lastEventId)
    await made[1]?.send({ data: 2 })
    await second.until((events) => events.at(-1)?.data === '2')
    expect(second.events.map(({ data }) => data)).not.toContain('1')
    await second.close()
    await second.close()
    expect(second.closed).toBe(true)
  })

  it('stalls while it is paused, and gets the rest when it reads on', async () => {
    const made: SSEHandler[] = []
    const { url } = await serve((req, res) => void made.push(createSSEHandler(req, res)))
    const client = await connectClient(url)
    const [sse] = made as [SSEHandler]
    client.pause()
    let sent = 0
    const producer = (async () => {
      for (; sent < 1000; sent += 1) await sse.send({ data: 'x'.repeat(20_000) })
    })()
    await until(() => sse.phase === 'blocked' && sse.stats().waiters === 1)
    client.resume()
    await producer
    await client.until(({ length }) => length === 1001)
    client.leave()
    await expect(sse.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })

  it('rejects when nobody answers', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    await new Promise((resolve) => server.close(resolve))
    await expect(connectClient(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })
})
