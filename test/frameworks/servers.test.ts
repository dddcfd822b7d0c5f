import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { ask } from '../support/any-client.js'
import { leaveDuringSession, measure } from './measure.js'
import { startProgram } from './program.js'
import { SERVERS, type ServerUnderTest } from './servers.js'

const MiB = 1024 * 1024
const MINUTE = 60_000

async function expectAll(server: ServerUnderTest, features: 'compression'[]) {
  const measured = await measure(server, features)
  console.log(server.name, measured)
  expect(measured.resumed).toEqual(['four', 'five', 'six'])
  expect(measured.pushMs).toBeLessThan(1000)
  expect(measured.disconnectSeenMs).toBeLessThan(1000)
  expect(measured.shutdownMs).toBeLessThan(4000)
  // What the kernel holds for a client on the same machine, and no more.
  expect(measured.heldBackAfterBytes).toBeLessThan(16 * MiB)
  expect(measured.encoding).toBe('none')
}

describe.each(SERVERS)('$name', (server) => {
  it('pushes, holds back, sees who leaves, resumes, and stops', () => expectAll(server, []), MINUTE)

  it(
    'sees a client that leaves while its session is looked up',
    async () => {
      await expect(leaveDuringSession(server)).resolves.toBe('client-closed')
    },
    MINUTE,
  )
})

describe.each(SERVERS.filter(({ compression }) => compression !== null))(
  '$name with $compression',
  (server) => {
    it(
      'compresses other answers',
      async () => {
        const program = await startProgram(server.program, ['compression'])
        const { answered } = ask(server.protocol, program.port, '/text', { 'accept-encoding': 'gzip' })
        const { headers, body } = await answered
        expect(headers['content-encoding']).toBe('gzip')
        expect(gunzipSync(await buffer(body)).toString()).toContain('worth being compressed')
      },
      MINUTE,
    )

    it('leaves streams as they are, in each respect', () => expectAll(server, ['compression']), MINUTE)
  },
)
