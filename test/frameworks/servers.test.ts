import { readFileSync, writeFileSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../docs/markdown.js'
import { ask } from '../support/any-client.js'
import { buildNext, removeBuild } from '../support/next-build.js'
import { leaveDuringSession, type Measurements, measure } from './measure.js'
import { type Feature, startProgram } from './program.js'
import { SERVERS, type ServerUnderTest } from './servers.js'
import { tableOf } from './table.js'

const MiB = 1024 * 1024
const MINUTE = 60_000
const BUILD_MS = 3 * MINUTE

const plain = new Map<ServerUnderTest, Measurements>()
const compressed = new Map<ServerUnderTest, Measurements>()

const NEXT_FOLDER = fileURLToPath(new URL('./programs/next', import.meta.url))

beforeAll(() => buildNext(NEXT_FOLDER), BUILD_MS)
afterAll(() => removeBuild(NEXT_FOLDER))

async function expectAll(server: ServerUnderTest, features: readonly Feature[]): Promise<Measurements> {
  const measured = await measure(server, features)
  expect(measured.resumed).toEqual(['four', 'five', 'six'])
  // What the kernel holds for a client on the same machine, and no more.
  expect(measured.heldBackAfterBytes).toBeLessThan(16 * MiB)
  expect(measured.grownBytes).toBeLessThan(64 * MiB)
  expect(measured.disconnectSeenMs).toBeLessThan(2000)
  expect(measured.shutdownMs).toBeLessThan(5000)
  expect(measured.encoding).toBe('none')
  return measured
}

describe.each(SERVERS)('$name', (server) => {
  it(
    'pushes, holds a producer back, sees who leaves, resumes, and stops',
    async () => void plain.set(server, await expectAll(server, [])),
    MINUTE,
  )

  it(
    'sees a client that leaves while its session is looked up',
    async () => expect(await leaveDuringSession(server)).toBe('client-closed'),
    MINUTE,
  )
})

describe.each(SERVERS.filter(({ compression }) => compression !== null))(
  '$name with compression: $compression',
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

    it(
      'leaves a stream as it is, in each respect',
      async () => void compressed.set(server, await expectAll(server, ['compression'])),
      MINUTE,
    )
  },
)

/** `npm run docs:frameworks` puts what was measured into the docs. */
afterAll(() => {
  if (process.env.WRITE_TABLE === undefined) return
  const results = SERVERS.map((server) => ({
    server,
    plain: plain.get(server) as Measurements,
    compressed: compressed.get(server) ?? null,
  }))
  const path = `${ROOT}docs/frameworks.md`
  const text = readFileSync(path, 'utf8')
  writeFileSync(
    path,
    text.replace(/(<!-- servers -->\n)[\s\S]*?(<!-- \/servers -->)/, (_, open, close) =>
      [open, tableOf(results), '\n', close].join(''),
    ),
  )
})
