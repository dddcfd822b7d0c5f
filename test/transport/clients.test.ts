import { type ChildProcess, spawn } from 'node:child_process'
import { EventSource } from 'eventsource'
import { createMemoryLog, createSSEHandler, type SSEHandler, type SSEHandlerOptions } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { turns } from '../support/fake-transport.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

/** A server of streams over one session's log, of which the newest connection is the one that counts. */
async function session(options: SSEHandlerOptions) {
  const connections: SSEHandler[] = []
  const { url } = await serve((req, res) => void connections.push(createSSEHandler(req, res, options)))
  return { url, connections, newest: () => connections.at(-1) }
}

describe('the npm eventsource client', () => {
  function follow(url: string) {
    const source = new EventSource(url)
    onTestFinished(() => source.close())
    const seen = { sequence: [] as number[], ids: [] as string[], connected: 0, gaps: 0, opened: 0 }
    source.addEventListener('tick', ({ data, lastEventId }) => {
      seen.sequence.push(JSON.parse(data).n)
      seen.ids.push(lastEventId)
    })
    source.addEventListener('connected', () => {
      seen.connected += 1
    })
    source.addEventListener('gap', () => {
      seen.gaps += 1
    })
    source.addEventListener('open', () => {
      seen.opened += 1
    })
    return { source, seen }
  }

  it('reconnects after an abort and resumes without loss or repeat, while the producer keeps sending', async () => {
    const total = 1500
    const log = createMemoryLog({ maxEvents: total, epoch: 'e' })
    const { url, connections, newest } = await session({ log, retryMs: 5, maxEvents: 8 })
    const { seen } = follow(url)
    await until(() => seen.connected === 1)

    let n = 0
    const producer = (async () => {
      while (n < total) {
        const sse = newest()
        if (sse === undefined) throw new Error('There is no connection.')
        for await (const permit of sse.demand()) {
          if (permit.send({ event: 'tick', data: { n: n + 1 } }) === 'queued') n += 1
          if (n === total) return
          if (n % 7 === 0) await turns(1)
        }
        // The connection was cut: the next one takes over.
        await until(() => newest() !== sse)
      }
    })()
    for (const at of [100, 350, 600, 601, 1100]) {
      await until(() => n >= at)
      const cut = newest()
      cut?.abort()
      await until(() => newest() !== cut)
    }
    await producer
    await until(() => seen.sequence.at(-1) === total)

    const expected = Array.from({ length: total }, (_, i) => i + 1)
    expect(seen.sequence).toEqual(expected)
    expect(seen.ids).toEqual(expected.map((i) => `e-${i}`))
    expect([connections.length, seen.opened, seen.gaps]).toEqual([6, 6, 0])
    const replayed = connections.reduce((sum, sse) => sum + sse.stats().eventsReplayed, 0)
    expect(replayed).toBeGreaterThan(0)
    for (const sse of connections.slice(0, 5)) {
      await expect(sse.closed).resolves.toMatchObject({ reason: 'aborted' })
    }
  })

  it('that is cut before the first event after it connected misses nothing', async () => {
    const log = createMemoryLog({ epoch: 'e' })
    for (let i = 1; i <= 3; i += 1) log.append(`event: tick\ndata: {"n":${i}}\n\n`)
    const { url, connections } = await session({ log, retryMs: 5 })
    const { seen } = follow(url)
    await until(() => seen.connected === 1)
    connections[0]?.abort()
    log.append('event: tick\ndata: {"n":4}\n\n')
    await until(() => seen.connected === 2)
    connections[1]?.trySend({ event: 'tick', data: { n: 5 } })
    await until(() => seen.sequence.length === 2)
    expect(seen.sequence).toEqual([4, 5])
    expect(connections[1]?.lastEventId).toBe('e-3')
  })

  it('is told of what it missed when the log no longer has it, and once', async () => {
    const log = createMemoryLog({ epoch: 'e', maxEvents: 3 })
    const { url, connections } = await session({ log, retryMs: 5 })
    const { source, seen } = follow(url)
    const gaps: unknown[] = []
    source.addEventListener('gap', ({ data }) => gaps.push(JSON.parse(data)))
    await until(() => seen.connected === 1)
    connections[0]?.trySend({ event: 'tick', data: { n: 1 } })
    await until(() => seen.sequence.length === 1)
    connections[0]?.abort()
    for (let i = 2; i <= 6; i += 1) log.append(`event: tick\ndata: {"n":${i}}\n\n`)
    await until(() => seen.sequence.at(-1) === 6)
    expect(seen.sequence).toEqual([1, 4, 5, 6])
    expect(gaps).toEqual([{ asked: 'e-1', oldest: 'e-4', cause: 'evicted', continues: 'oldest' }])
    connections[1]?.abort()
    await until(() => seen.connected === 3)
    connections[2]?.trySend({ event: 'tick', data: { n: 7 } })
    await until(() => seen.sequence.at(-1) === 7)
    expect([seen.sequence, seen.gaps]).toEqual([[1, 4, 5, 6, 7], 1])
  })

  it('reads data of any shape as it was sent', async () => {
    const { url, newest } = await session({ retryMs: 5 })
    const { source, seen } = follow(url)
    const messages: string[] = []
    source.addEventListener('message', ({ data }) => messages.push(data))
    await until(() => seen.connected === 1)
    const texts = ['one', 'two\nlines', 'CR\rLF\r\n.', '', ' leading', 'é\u{1F600}', 'data: not a field', ':']
    for (const data of texts) await newest()?.send({ data })
    await newest()?.send({ data: { nested: ['é', null] } })
    await until(() => messages.length === texts.length + 1)
    expect(messages).toEqual([
      ...texts.map((text) => text.replaceAll(/\r\n|\r/g, '\n')),
      '{"nested":["é",null]}',
    ])
  })
})

describe('curl -N', () => {
  function curl(...args: string[]) {
    const child: ChildProcess = spawn('curl', ['--silent', '--no-buffer', '--noproxy', '*', ...args])
    onTestFinished(() => void child.kill('SIGKILL'))
    const output = { text: '', code: undefined as number | null | undefined }
    child.stdout?.setEncoding('utf8').on('data', (part: string) => {
      output.text += part
    })
    child.on('exit', (code) => {
      output.code = code
    })
    return { child, output }
  }

  it.each(['--http1.1', '--http1.0'])('%s sees each event when it is sent, and the end', async (version) => {
    const { url, connections, newest } = await session({ sessionId: 's' })
    const { output } = curl(version, url)
    const head = 'retry: 2000\nevent: connected\ndata: {"sessionId":"s"}\n\n'
    await until(() => output.text === head)
    let expected = head
    for (let i = 0; i < 5; i += 1) {
      await newest()?.send({ event: 'tick', data: { i } })
      expected += `event: tick\ndata: {"i":${i}}\n\n`
      await until(() => output.text === expected)
    }
    await newest()?.close({ reason: 'completed' })
    await until(() => output.code !== undefined)
    expect([output.code, output.text, connections.length]).toEqual([0, expected, 1])
  })

  it('resumes by hand with a Last-Event-ID', async () => {
    const log = createMemoryLog({ epoch: 'e' })
    for (let i = 1; i <= 4; i += 1) log.append(`data: ${i}\n\n`)
    const { url } = await session({ log, firstEvent: false })
    const { output } = curl('--header', 'Last-Event-ID: e-2', url)
    await until(() => output.text.endsWith('data: 4\n\n'))
    expect(output.text).toBe('retry: 2000\nid: e-2\n\nid: e-3\ndata: 3\n\nid: e-4\ndata: 4\n\n')
  })

  it('that is killed is seen as a client that left', async () => {
    const { url, newest } = await session({})
    const { child, output } = curl(url)
    await until(() => output.text.includes('connected'))
    child.kill('SIGKILL')
    await expect(newest()?.closed).resolves.toMatchObject({ reason: 'client-closed' })
  })

  it('sees an abort as a failed transfer, not as an end', async () => {
    const { url, newest } = await session({})
    const { output } = curl(url)
    await until(() => output.text.includes('connected'))
    newest()?.abort()
    await until(() => output.code !== undefined)
    expect(output.code).toBeGreaterThan(0)
  })
})
