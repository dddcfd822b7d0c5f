import { EventEmitter } from 'node:events'
import { createServer } from 'node:http'
import { connect as connectSocket } from 'node:net'
import { createSluice, type GuardedServer } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { openFilesLimit } from '../../src/transport/linux.js'
import { connect } from '../support/client.js'
import { supervise } from '../support/sluice.js'
import { until } from '../support/until.js'

function fakeServer(maxConnections?: number): GuardedServer & EventEmitter {
  return Object.assign(new EventEmitter(), { maxConnections })
}

describe('a server that is attached', () => {
  it('takes some more connections than there may be streams, so that a refusal can be answered', async () => {
    const server = createServer()
    await createSluice({ limits: { maxConnections: 50 } }).attach(server)
    expect(server.maxConnections).toBeGreaterThan(50)
    expect(server.maxConnections).toBeLessThanOrEqual(150)
  })

  it.each([7, 0])('keeps a limit that is set: %d', async (limit) => {
    const server = fakeServer(limit)
    await createSluice().attach(server)
    expect(server.maxConnections).toBe(limit)
  })

  it.runIf(process.platform === 'linux')(
    'takes fewer than there are files, and the logger is told',
    async () => {
      const warnings: string[] = []
      const logger = {
        debug() {},
        info() {},
        warn: (_: object, message: string) => void warnings.push(message),
        error() {},
      }
      const server = fakeServer()
      await createSluice({ limits: { maxConnections: 2 ** 40 }, logger }).attach(server)
      const files = (await openFilesLimit()) ?? 0
      expect(server.maxConnections).toBeLessThan(files)
      expect(warnings).toHaveLength(1)
      expect(warnings[0]).toContain('ulimit -n')
    },
  )

  it('has what it drops counted, and told to the logger, though it is attached twice', async () => {
    const told: object[] = []
    const logger = { debug() {}, info() {}, warn: (fields: object) => void told.push(fields), error() {} }
    const { sluice, server, port, url } = await supervise({ logger })
    server.maxConnections = 1
    await sluice.attach(server)
    await sluice.attach(server)
    await connect(url)
    const refused = connectSocket(port, '127.0.0.1').on('error', () => {})
    onTestFinished(() => void refused.destroy())
    await until(() => sluice.stats().droppedByServer === 1)
    expect(told).toEqual([{ maxConnections: 1 }])
  })
})
