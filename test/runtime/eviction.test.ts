import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { connect as connectHttp2, createServer as createHttp2Server, createSecureServer } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, connect as connectSocket, type Server, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { createSluice, type NodeRequest, type NodeResponse, type SSEHandler } from 'sluice'
import { describe, expect, it, onTestFinished } from 'vitest'
import { certificate } from '../support/certificate.js'
import { connect } from '../support/client.js'
import { ManualClock } from '../support/clock.js'
import { turns, untilStuck } from '../support/fake-transport.js'
import { supervise } from '../support/sluice.js'
import { until } from '../support/until.js'
import { takeWarnings } from '../support/warnings.js'

const HTTP1_REQUEST = Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')

/** What a client of HTTP/2 says that asks for `/` and lets the server send without end (RFC 9113, sections 3.4, 6 and 7541). */
const HTTP2_REQUEST = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff])),
  frame(8, 0, 0, Buffer.from([0x7f, 0xff, 0, 0])),
  frame(1, 0x05, 1, Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x78])),
])

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

type Answer = (req: NodeRequest, res: NodeResponse) => void

const SERVERS = {
  'node:http': { create: (answer: Answer) => createHttpServer(answer), request: HTTP1_REQUEST, alpn: null },
  'node:https': {
    create: (answer: Answer) => createHttpsServer(certificate, answer),
    request: HTTP1_REQUEST,
    alpn: 'http/1.1',
  },
  'node:http2': { create: (answer: Answer) => createHttp2Server(answer), request: HTTP2_REQUEST, alpn: null },
  'node:http2 over TLS': {
    create: (answer: Answer) => createSecureServer(certificate, answer),
    request: HTTP2_REQUEST,
    alpn: 'h2',
  },
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** A client that asks, and then reads nothing from its socket. */
function stoppedClient(port: number, alpn: string | null, request: Buffer): Socket {
  const tcp = connectSocket(port, '127.0.0.1').on('error', () => {})
  onTestFinished(() => void tcp.destroy())
  if (alpn === null) {
    tcp.pause()
    tcp.write(request)
    return tcp
  }
  const tls = connectTls({ socket: tcp, rejectUnauthorized: false, ALPNProtocols: [alpn] }, () => {
    tls.write(request)
    tls.pause()
  })
  tls.on('error', () => {})
  return tcp
}

/** What the kernel has of the server's ends of its connections. */
function inKernel(port: number): string[] {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((table) => readFileSync(table, 'utf8').split('\n'))
    .filter((line) => new RegExp(`^ *\\d+: [0-9A-F]+:${hex} `).test(line) && !line.includes(' 0A '))
}

describe('a client that takes nothing', () => {
  it.skipIf(process.platform !== 'linux').each(Object.entries(SERVERS))(
    'is closed as write-stalled, and the kernel keeps nothing of it (%s)',
    async (_name, { create, request, alpn }) => {
      const sluice = createSluice({ writeStallMs: 500 })
      const opened: SSEHandler[] = []
      const server = create((req, res) => {
        const sse = sluice.open(req, res)
        if (sse !== null) opened.push(sse)
      }) as Server
      const port = await listen(server)
      stoppedClient(port, alpn, request)
      await until(() => opened.length === 1)
      const [sse] = opened as [SSEHandler]
      void (async () => {
        for await (const permit of sse.demand()) permit.send({ data: 'x'.repeat(100_000) })
      })()
      expect(await sse.closed).toMatchObject({ reason: 'write-stalled' })
      await until(() => inKernel(port).length === 0, 'the kernel has forgotten the connection')
    },
  )
})

describe('streams of one HTTP/2 session', () => {
  const headers = Buffer.from([0x82, 0x86, 0x84, 0x41, 0x01, 0x78])

  it('whose client takes nothing are all closed, though the first of them cuts the session', async () => {
    const warnings = takeWarnings()
    const clock = new ManualClock()
    const sluice = createSluice({ clock, sweepMs: Number.POSITIVE_INFINITY, heartbeat: { format: 'none' } })
    const opened: SSEHandler[] = []
    const server = createHttp2Server((req, res) => {
      const sse = sluice.open(req, res)
      if (sse !== null) opened.push(sse)
    })
    const port = await listen(server as Server)
    const more = [3, 5, 7].map((stream) => frame(1, 0x05, stream, headers))
    stoppedClient(port, null, Buffer.concat([HTTP2_REQUEST, ...more]))
    await until(() => opened.length === 4)
    for (const sse of opened) {
      void (async () => {
        for await (const permit of sse.demand()) permit.send({ data: 'x'.repeat(100_000) })
      })()
    }
    for (const sse of opened) await untilStuck(sse)
    // Twice: what was taken before they were stuck is progress.
    for (const _ of [1, 2]) {
      clock.advance(31_000)
      await turns()
    }
    const reasons = (await Promise.all(opened.map(({ closed }) => closed))).map(({ reason }) => reason)
    expect(reasons[0]).toBe('write-stalled')
    expect(sluice.stats().open).toBe(0)
    expect(warnings).toEqual([])
  })

  it('are ended together by a shutdown, in a process that is warned of no leak', async () => {
    const warnings = takeWarnings()
    const sluice = createSluice()
    const server = createHttp2Server((req, res) => void sluice.open(req, res))
    const port = await listen(server as Server)
    const session = connectHttp2(`http://127.0.0.1:${port}`)
    onTestFinished(() => session.destroy())
    const streams = Array.from({ length: 20 }, () => session.request({ ':path': '/' }).resume())
    await until(() => sluice.stats().open === 20)
    const isClosed = new Promise((resolve) => server.close(resolve))
    expect(await sluice.shutdown()).toMatchObject({ streams: 20, reset: 0 })
    await isClosed
    await until(() => streams.every(({ closed }) => closed))
    expect(warnings).toEqual([])
  })
})

describe('shutdown', () => {
  it.skipIf(process.platform !== 'linux').each(Object.entries(SERVERS))(
    'resets what a stopped client keeps from ending, and server.close() returns (%s)',
    async (_name, { create, request, alpn }) => {
      const sluice = createSluice()
      const opened: SSEHandler[] = []
      const server = create((req, res) => {
        const sse = sluice.open(req, res)
        if (sse !== null) opened.push(sse)
      }) as Server
      const port = await listen(server)
      stoppedClient(port, alpn, request)
      await until(() => opened.length === 1)
      const [sse] = opened as [SSEHandler]
      const offering = (async () => {
        for await (const permit of sse.demand()) permit.send({ data: 'x'.repeat(100_000) })
      })()
      await untilStuck(sse)
      const isClosed = new Promise((resolve) => server.close(resolve))
      expect(await sluice.shutdown({ graceMs: 200 })).toMatchObject({ streams: 1, reset: 1 })
      await isClosed
      await offering
      await until(() => inKernel(port).length === 0, 'the kernel has forgotten the connection')
    },
  )
})

describe('close()', () => {
  it('closes the streams that are picked, and no others', async () => {
    const { sluice, url } = await supervise({ authorize: (req) => req.headers.user as string })
    const alice = [
      await connect(url, { headers: { user: 'alice' } }),
      await connect(url, { headers: { user: 'alice' } }),
    ]
    const bob = await connect(url, { headers: { user: 'bob' } })
    expect(sluice.close(({ principal }) => principal === 'alice', { reason: 'unauthorized' })).toBe(2)
    await until(() => alice.every(({ ended }) => ended))
    expect(sluice.sessions().map(({ principal }) => principal)).toEqual(['bob'])
    expect(sluice.stats().closed.unauthorized).toBe(2)
    expect(bob.closed).toBe(false)
  })

  it('closes none when what picks throws, or the reason is none', async () => {
    const { sluice, url } = await supervise()
    await connect(url)
    const fail = () => {
      throw new Error('on purpose')
    }
    expect(() => sluice.close(fail)).toThrow('on purpose')
    expect(() => sluice.close(() => true, { reason: 'because' as 'idle' })).toThrow(
      expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }),
    )
    expect(sluice.sessions()).toHaveLength(1)
  })
})
