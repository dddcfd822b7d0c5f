import { pino } from 'pino'
import { createMemoryLog, type Logger } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { comeBack, fillUp, liveSluice } from '../support/figures.js'
import { takeUnhandledRejections } from '../support/unhandled.js'
import { until } from '../support/until.js'
import { recordingLogger } from './lines.js'

const AGENT = { 'user-agent': 'curl/8.5.0' }

/** The warnings of sluice until the test ends. */
function takeWarnings(): Error[] {
  const warnings: Error[] = []
  const take = (warning: Error) => void (warning.name === 'SSEWarning' && warnings.push(warning))
  process.on('warning', take)
  onTestFinished(() => void process.off('warning', take))
  return warnings
}

describe('the logger is told each stage once, with its fields', () => {
  it('from the request to the end', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger, sessionId: () => 's1' })
    const client = await live.client({ headers: AGENT })
    await live.sse.send({ data: 1 })
    await live.sse.close({ reason: 'completed' })
    const { at, durationMs } = await live.sse.closed
    await until(() => client.ended)
    const always = { sessionId: 's1', address: '127.0.0.1', principal: null }
    expect(logger.lines).toEqual([
      {
        level: 'debug',
        message: 'sse stream is being established',
        fields: {
          stage: 'establishing',
          method: 'GET',
          path: '/',
          address: '127.0.0.1',
          userAgent: 'curl/8.5.0',
        },
      },
      {
        level: 'info',
        message: 'sse stream is established',
        fields: {
          stage: 'established',
          ...always,
          userAgent: 'curl/8.5.0',
          client: 'curl',
          isResumed: false,
        },
      },
      {
        level: 'debug',
        message: 'sse stream is closing',
        fields: { stage: 'closing', ...always, reason: 'completed' },
      },
      {
        level: 'info',
        message: 'sse stream is terminated',
        fields: {
          stage: 'terminated',
          ...always,
          reason: 'completed',
          at,
          durationMs,
          eventsSent: 1,
          bytesSent: Buffer.byteLength(client.text),
          eventsUnsent: 0,
          peakMemoryBytes: expect.any(Number),
        },
      },
    ])
    const peak = logger.of('terminated').map(({ fields }) => Number(fields.peakMemoryBytes))
    expect(peak[0]).toBeGreaterThanOrEqual(process.memoryUsage.rss() / 2)
  })

  it('when a client leaves', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger })
    const client = await live.client()
    client.leave()
    await live.sse.closed
    expect(logger.of('closing').map(({ fields }) => fields.reason)).toEqual(['client-closed'])
    expect(logger.of('terminated').map(({ fields }) => fields.reason)).toEqual(['client-closed'])
    expect(logger.of('forced')).toEqual([])
  })

  it('when a request is refused', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger, limits: { maxConnections: 1 } })
    await live.client()
    await live.client({ headers: AGENT })
    expect(logger.of('refused')).toEqual([
      {
        level: 'info',
        message: 'sse stream was refused',
        fields: {
          stage: 'refused',
          method: 'GET',
          path: '/',
          address: '127.0.0.1',
          userAgent: 'curl/8.5.0',
          cause: 'max-connections',
        },
      },
    ])
    expect(logger.of('establishing')).toHaveLength(2)
    expect(logger.of('established')).toHaveLength(1)
  })

  it('when heartbeats are written', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger, heartbeat: { intervalMs: 10 } })
    const client = await live.client()
    await until(() => client.comments.length === 3)
    await live.sse.close()
    const lines = logger.of('heartbeat')
    expect(lines[0]).toMatchObject({ level: 'debug', message: 'sse heartbeat was written' })
    expect(lines.map(({ fields }) => fields.count)).toEqual(lines.map((_, i) => i + 1))
    expect(lines.length - client.comments.length).toBeLessThanOrEqual(1)
    expect(logger.of('heartbeat-missed')).toEqual([])
  })

  it('when a client stops reading, misses heartbeats and is reset', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger, maxEvents: 4, heartbeat: { intervalMs: 200, maxMissed: 2 } })
    await fillUp(live)
    await live.sse.closed
    const id = { sessionId: live.sse.sessionId }
    expect(logger.of('blocked').at(-1)).toMatchObject({
      level: 'debug',
      message: 'sse client is slow',
      fields: id,
    })
    const missed = logger.of('heartbeat-missed')
    expect(missed[0]).toMatchObject({ level: 'warn', message: 'sse heartbeat could not be written' })
    expect(missed.map(({ fields }) => fields.missed)).toEqual([1, 2])
    expect(logger.of('forced')).toMatchObject([
      {
        level: 'warn',
        message: 'sse connection is reset',
        fields: { ...id, reason: 'heartbeat-missed' },
      },
    ])
    expect(logger.of('closing')).toHaveLength(1)
    expect(logger.of('terminated')).toMatchObject([{ fields: { ...id, reason: 'heartbeat-missed' } }])
  })

  it('when a client missed events that cannot be replayed', async () => {
    const logger = recordingLogger()
    await comeBack(await liveSluice({ logger }), 1)
    expect(logger.of('gap')).toMatchObject([
      {
        level: 'warn',
        message: 'sse client missed events',
        fields: { address: '127.0.0.1', gap: { cause: 'evicted' } },
      },
    ])
    expect(logger.of('established').map(({ fields }) => fields.isResumed)).toEqual([false, false, true])
  })

  it('when a hook fails, with the error', async () => {
    const logger = recordingLogger()
    const error = new Error('on purpose')
    const live = await liveSluice({
      logger,
      key() {
        throw error
      },
    })
    await live.client()
    expect(logger.of('refused')).toMatchObject([{ fields: { cause: 'hook-failed', err: error, path: '/' } }])
  })

  it('and no query, no payload and no header that holds a secret is in it', async () => {
    const logger = recordingLogger()
    const live = await liveSluice({ logger, maxEvents: 4, limits: { maxConnections: 1 } })
    live.openOptions = { log: createMemoryLog() }
    const options = {
      path: '/stream?token=secret-1',
      headers: { authorization: 'Bearer secret-2', cookie: 'session=secret-3' },
    }
    const client = await live.client(options)
    await live.sse.send({ event: 'order', data: { card: 'secret-4' } })
    await live.client(options)
    client.leave()
    await until(() => logger.of('terminated').length === 1)
    expect(logger.lines.length).toBeGreaterThan(4)
    expect(logger.of('establishing')[0]?.fields.path).toBe('/stream')
    expect(JSON.stringify(logger.lines)).not.toContain('secret')
  })
})

describe.each<[string, () => unknown]>([
  [
    'throws',
    () => {
      throw new Error('on purpose')
    },
  ],
  ['rejects', () => Promise.reject(new Error('on purpose'))],
])('a logger that %s', (_, fail) => {
  it('disturbs nothing, and is told of once', async () => {
    const warnings = takeWarnings()
    const unhandled = takeUnhandledRejections()
    const logger = { debug: fail, info: fail, warn: fail, error: fail } as Logger
    const live = await liveSluice({ logger, heartbeat: { intervalMs: 10 } })
    for (let i = 0; i < 3; i += 1) {
      const client = await live.client()
      await live.sse.send({ data: i })
      await until(() => client.events.length === 1 && client.comments.length > 0)
      await live.sse.close({ reason: 'completed' })
      await until(() => client.ended)
      expect((await live.sse.closed).reason).toBe('completed')
    }
    await until(() => warnings.length > 0)
    expect(warnings.map(({ message }) => message)).toEqual(['Error: on purpose'])
    expect(unhandled).toEqual([])
  })
})

describe('pino', () => {
  function pinoLines(level: string) {
    const lines: Record<string, unknown>[] = []
    const logger = pino({ level }, { write: (line: string) => void lines.push(JSON.parse(line)) })
    return { lines, logger }
  }

  it('is a logger as it is, and filters by level', async () => {
    const { lines, logger } = pinoLines('info')
    const live = await liveSluice({ logger: logger.child({ module: 'sse' }), sessionId: () => 's1' })
    await live.client()
    await live.sse.close({ reason: 'completed' })
    await live.sse.closed
    expect(lines).toMatchObject([
      { level: 30, msg: 'sse stream is established', module: 'sse', stage: 'established', sessionId: 's1' },
      { level: 30, msg: 'sse stream is terminated', stage: 'terminated', reason: 'completed' },
    ])
  })

  it('writes the error behind an end with its message and stack', async () => {
    const { lines, logger } = pinoLines('info')
    const live = await liveSluice({ logger })
    await live.client()
    await live.sse.sendError(new Error('the model is gone'))
    await live.sse.closed
    expect(lines.at(-1)).toMatchObject({
      reason: 'error',
      err: { type: 'Error', message: 'the model is gone', stack: expect.any(String) },
    })
  })
})
