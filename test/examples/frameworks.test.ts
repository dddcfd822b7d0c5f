import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { open, type Protocol } from '../support/any-client.js'
import { certificate } from '../support/certificate.js'
import { makeFolder, type RunningExample, startExample } from '../support/example.js'
import { buildNext, removeBuild } from '../support/next-build.js'
import { until } from '../support/until.js'

interface Example {
  name: string
  path: string
  protocol: Protocol
  args?: readonly string[]
  env?: Record<string, string>
  nodeArgs?: readonly string[]
  /** Whether it reads a certificate from files. */
  hasCertificate?: true
}

const NEXT_FOLDER = fileURLToPath(new URL('../../examples/next', import.meta.url))
const NEST_CONFIG = fileURLToPath(new URL('../../examples/nest/tsconfig.json', import.meta.url))

const EXAMPLES: readonly Example[] = [
  { name: 'http', path: 'http/server.js', protocol: 'http' },
  { name: 'https', path: 'https/server.js', protocol: 'https', hasCertificate: true },
  { name: 'http2', path: 'http2/server.js', protocol: 'http2', hasCertificate: true },
  {
    name: 'http2, asked in HTTP/1.1',
    path: 'http2/server.js',
    protocol: 'https',
    hasCertificate: true,
  },
  { name: 'express', path: 'express/server.js', protocol: 'http' },
  { name: 'fastify', path: 'fastify/server.js', protocol: 'http' },
  { name: 'koa', path: 'koa/server.js', protocol: 'http' },
  { name: 'hono', path: 'hono/server.js', protocol: 'http' },
  {
    name: 'nest',
    path: 'nest/server.ts',
    protocol: 'http',
    nodeArgs: ['--import', 'tsx'],
    env: { TSX_TSCONFIG_PATH: NEST_CONFIG },
  },
  {
    name: 'next',
    path: '../node_modules/next/dist/bin/next',
    protocol: 'http',
    args: ['start', NEXT_FOLDER],
    env: { NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' },
  },
]

beforeAll(() => buildNext(NEXT_FOLDER), 180_000)
afterAll(() => removeBuild(NEXT_FOLDER))

describe.each(EXAMPLES)(
  'the example $name',
  ({ path, args, env, nodeArgs = [], protocol, hasCertificate }) => {
    it('pushes at once, sees who leaves, resumes, and ends with its streams', async () => {
      const certificates = hasCertificate ? await writeCertificate() : {}
      const example = await startExample(path, args, { nodeArgs, env: { ...env, ...certificates } })
      const port = await portOf(example)
      const client = await open(protocol, port, { 'accept-encoding': 'gzip' })
      // One after the other, not the first with the second.
      await until(() => numbersIn(client).length === 1, 'the first event is there, and nothing follows it')
      await until(() => numbersIn(client).length === 2, 'the second event is there')

      client.leave()
      await until(() => example.output.includes('A client is gone: client-closed'), 'it is seen to have left')

      const last = numbersIn(client).at(-1) as number
      const again = await open(protocol, port, { 'last-event-id': client.lastEventId })
      await until(() => numbersIn(again).length >= 2, 'it goes on')
      expect(numbersIn(again).slice(0, 2)).toEqual([last + 1, last + 2])

      example.child.kill('SIGTERM')
      await until(() => again.ended, 'the stream is ended')
      await until(() => example.exit !== null, 'the program ends')
      expect(example.output).toContain('A client is gone: shutdown')
      // NestJS and Next.js end with the signal that they were sent.
      expect([0, 143, 'SIGTERM']).toContain(example.exit)
    }, 60_000)
  },
)

/** The variables that name the files. */
async function writeCertificate(): Promise<{ KEY: string; CERT: string }> {
  const folder = await makeFolder()
  const paths = { KEY: `${folder}/key.pem`, CERT: `${folder}/cert.pem` }
  await Promise.all([writeFile(paths.KEY, certificate.key), writeFile(paths.CERT, certificate.cert)])
  return paths
}

async function portOf(example: RunningExample): Promise<number> {
  const address = /https?:\/\/localhost:(\d+)/
  await until(() => address.test(example.output) || example.exit !== null, 'it prints its address')
  const [, port] = address.exec(example.output) ?? []
  if (port === undefined) throw new Error(`The example ended with ${example.exit}: ${example.output}`)
  return Number(port)
}

function numbersIn({ events }: { events: { event?: string | undefined; data: string }[] }): number[] {
  return events.filter(({ event }) => event === 'tick').map(({ data }) => JSON.parse(data).n)
}
