import { once } from 'node:events'
import {
  createServer as createHttpServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import {
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
  createSecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import { createServer as createHttpsServer, request as httpsRequest } from 'node:https'
import type { AddressInfo, Server as NetServer, Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { setTimeout as wait } from 'node:timers/promises'
import { getRequestListener } from '@hono/node-server'
import type {
  HarnessClient,
  HarnessExchange,
  HarnessRequest,
  HarnessServer,
  TransportHarness,
} from 'sluice/testing'
import type { Exchange } from '../../src/transport/exchange.js'
import { fetchExchangeOf } from '../../src/transport/fetch.js'
import { exchangeOf, http2ExchangeOf } from '../../src/transport/node.js'
import { certificate } from './certificate.js'

const CANCEL = constants.NGHTTP2_CANCEL

type Served = Exchange & HarnessExchange

type Answer = (exchange: Served) => void | Promise<void>

interface Server extends HarnessServer {
  /** The client leaves when the signal aborts, with or without a head. */
  request(request: HarnessRequest, leaving?: AbortSignal): Promise<HarnessClient>
}

/** Every transport of sluice, with a server and clients of it. */
export const harnesses: Record<string, Required<TransportHarness>> = {
  'node:http': harness(async (answer) => {
    const server = createHttpServer((req, res) => answer(nodeExchange(req, res)))
    return http1Server(server, 'http')
  }),
  'node:https': harness(async (answer) => {
    const server = createHttpsServer(certificate, (req, res) => answer(nodeExchange(req, res)))
    return http1Server(server, 'https')
  }),
  'node:http2, req and res': harness(async (answer) => {
    return http2Server(
      createHttp2Server((req, res) => answer(nodeExchange(req, res))),
      'http',
    )
  }),
  'node:http2, streams': harness(async (answer) => {
    const server = createHttp2Server()
    server.on('stream', (stream, headers) => {
      const listenedTo = stream.session === undefined ? [stream] : [stream, stream.session]
      void answer({ ...http2ExchangeOf(stream, headers), listenedTo })
    })
    return http2Server(server, 'http')
  }),
  'node:http2 over TLS': harness(async (answer) => {
    const server = createSecureServer(certificate, (req, res) => answer(nodeExchange(req, res)))
    return http2Server(server, 'https')
  }),
  'node:http2 over TLS, a client of HTTP/1.1': harness(async (answer) => {
    const options = { ...certificate, allowHTTP1: true }
    const server = createSecureServer(options, (req, res) => answer(nodeExchange(req, res)))
    return http1Server(server, 'https')
  }),
  'Fetch, behind a server': harness(async (answer) => {
    const fetch = async (request: Request) => {
      const exchange = fetchExchange(request)
      await answer(exchange)
      return exchange.transport.response
    }
    return http1Server(createHttpServer(getRequestListener(fetch)), 'http')
  }),
  'Fetch, the response itself': harness(async (answer) => responses(answer)),
}

function nodeExchange(
  req: IncomingMessage | Http2ServerRequest,
  res: ServerResponse | Http2ServerResponse,
): Served {
  const below = 'stream' in req ? [req.stream, req.stream.session ?? req.stream] : [req.socket]
  return { ...exchangeOf(req, res), listenedTo: [req, res, ...below] }
}

function fetchExchange(request: Request) {
  return { ...fetchExchangeOf(request), listenedTo: [request.signal] }
}

function harness(serve: (answer: Answer) => Promise<Server>): Required<TransportHarness> {
  return { serve, answerLate }

  async function answerLate(answer: (exchange: HarnessExchange) => void): Promise<void> {
    const leaving = new AbortController()
    const { promise: answered, resolve, reject } = deferred()
    const server = await serve(async (exchange) => {
      const gone = new Promise<void>((left) => exchange.onGone(left))
      leaving.abort()
      await gone
      try {
        answer(exchange)
        resolve()
      } catch (error) {
        reject(error)
      }
    })
    const left = server.request({ method: 'GET', path: '/late', headers: {} }, leaving.signal).catch(ignore)
    try {
      await answered
      await left
    } finally {
      await server.close()
    }
  }
}

function deferred() {
  let resolve = () => {}
  let reject = (_: unknown) => {}
  const promise = new Promise<void>((onDone, onFailed) => {
    resolve = onDone
    reject = onFailed
  })
  return { promise, resolve, reject }
}

type Seen = { -readonly [Name in keyof HarnessClient]: HarnessClient[Name] }

async function http1Server(server: NetServer, protocol: 'http' | 'https'): Promise<Server> {
  const sockets = socketsOf(server)
  const port = await listening(server)
  const ask = protocol === 'https' ? httpsRequest : httpRequest
  return {
    async request({ method, path, headers }, leaving) {
      const url = `${protocol}://127.0.0.1:${port}${path}`
      const signal = leaving === undefined ? {} : { signal: leaving }
      const outgoing = ask(url, { method, headers, agent: false, rejectUnauthorized: false, ...signal })
      outgoing.end()
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        outgoing.once('response', resolve).once('error', reject)
      })
      outgoing.on('error', ignore)
      return seen(response, response.headers, response.statusCode, () => outgoing.destroy())
    },
    close: () => closed(server, sockets),
  }
}

async function http2Server(server: NetServer, protocol: 'http' | 'https'): Promise<Server> {
  const sockets = socketsOf(server)
  const port = await listening(server)
  // One session for all: its streams must not disturb each other.
  const session = connectHttp2(`${protocol}://127.0.0.1:${port}`, { rejectUnauthorized: false })
  session.on('error', ignore)
  return {
    async request({ method, path, headers }, leaving) {
      const options = leaving === undefined ? {} : { signal: leaving }
      const stream = session.request({ ':method': method, ':path': path, ...headers }, options)
      const head = await new Promise<IncomingHttpHeaders & { ':status'?: number }>((resolve, reject) => {
        stream.once('response', resolve).once('error', reject)
      })
      return seen(stream, head, head[':status'], () => stream.close(CANCEL))
    },
    async close() {
      session.destroy()
      await closed(server, sockets)
    },
  }
}

function seen(
  body: Readable,
  headers: IncomingHttpHeaders,
  status: number | undefined,
  leave: () => void,
): HarnessClient {
  const client: Seen = {
    status: status ?? 0,
    header: (name) => headers[name]?.toString(),
    text: '',
    ended: false,
    closed: false,
    pause: () => void body.pause(),
    resume: () => void body.resume(),
    leave,
  }
  body.setEncoding('utf8').on('data', (part: string) => {
    client.text += part
  })
  body.on('end', () => {
    client.ended = true
  })
  body.on('close', () => {
    client.closed = true
  })
  body.on('error', ignore)
  return client
}

/** No server: each response is read as it was made. */
function responses(answer: Answer): Server {
  return {
    async request({ method, path, headers }, leaving) {
      const signal = leaving ?? null
      const exchange = fetchExchange(new Request(`http://localhost${path}`, { method, headers, signal }))
      await answer(exchange)
      return read(exchange.transport.response)
    },
    close() {},
  }
}

function read({ status, headers, body }: Response): HarnessClient {
  const reader = body?.getReader()
  const decoder = new TextDecoder()
  let isReading = false
  let isPaused = false
  const client: Seen = {
    status,
    header: (name) => headers.get(name) ?? undefined,
    text: '',
    ended: body === null,
    closed: body === null,
    pause: () => {
      isPaused = true
    },
    resume: () => {
      isPaused = false
      void readOn()
    },
    leave: () => void reader?.cancel(),
  }
  void readOn()
  return client

  async function readOn(): Promise<void> {
    if (reader === undefined || isReading) return
    isReading = true
    try {
      while (!isPaused && !client.closed) {
        const { done, value } = await reader.read()
        // A response in memory would be read before anybody can say that it is to be paused.
        await wait(1)
        client.text += decoder.decode(value, { stream: !done })
        client.ended = done
        client.closed = done
      }
    } catch {
      client.closed = true
    }
    isReading = false
  }
}

function socketsOf(server: NetServer): Set<Socket> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return sockets
}

async function listening(server: NetServer): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A server of HTTP/2 waits for its sessions, and one of HTTP/1 for its streams. */
async function closed(server: NetServer, sockets: Set<Socket>): Promise<void> {
  const gone = once(server, 'close')
  server.close()
  for (const socket of sockets) socket.destroy()
  await gone
}

function ignore(): void {}
