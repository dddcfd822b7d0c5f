import type { Protocol } from '../support/any-client.js'

/** A server that sluice works with. */
export interface ServerUnderTest {
  /** As the docs call it. */
  name: string
  /** In `programs/`. */
  program: string
  protocol: Protocol
  /** The middleware that compresses; null where there is none. */
  compression: string | null
}

export const SERVERS: readonly ServerUnderTest[] = [
  { name: 'node:http', program: 'http.js', protocol: 'http', compression: null },
  { name: 'node:https', program: 'https.js', protocol: 'https', compression: null },
  { name: 'node:http2', program: 'http2.js', protocol: 'http2', compression: null },
  { name: 'Express 5', program: 'express.js', protocol: 'http', compression: 'compression' },
  { name: 'Fastify 5', program: 'fastify.js', protocol: 'http', compression: '@fastify/compress' },
  { name: 'Koa 3', program: 'koa.js', protocol: 'http', compression: 'koa-compress' },
  { name: 'Hono', program: 'hono.js', protocol: 'http', compression: 'hono/compress' },
  { name: 'NestJS 12', program: 'nest.ts', protocol: 'http', compression: 'compression' },
  { name: 'Next.js 16', program: 'next.js', protocol: 'http', compression: 'compress' },
]
