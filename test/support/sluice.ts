import { once } from 'node:events'
import {
  type Agent,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestOptions,
  request,
  type Server,
} from 'node:http'
import { connect as connectSocket, type Socket } from 'node:net'
import {
  createSluice,
  type Exchange,
  type OpenOptions,
  type Peer,
  type Sluice,
  type SluiceOptions,
  type SSEHandler,
  type StreamRequest,
} from 'sluice'
import { onTestFinished } from 'vitest'
import { ManualClock } from './clock.js'
import { FakeTransport } from './fake-transport.js'
import { serve } from './server.js'

type Answering = (req: IncomingMessage) => OpenOptions

export interface Supervision {
  sluice: Sluice<IncomingMessage, boolean>
  url: string
  port: number
  server: Server
  /** What `open` gave or threw, in the order in which it was known. */
  opened: (SSEHandler | null)[]
  thrown: unknown[]
}

/** A real server that makes a supervised stream of every request. */
export async function supervise(
  options: SluiceOptions<IncomingMessage> = {},
  of: Answering = () => ({}),
): Promise<Supervision> {
  const sluice = createSluice(options as SluiceOptions<IncomingMessage> & { authorize?: undefined })
  const opened: (SSEHandler | null)[] = []
  const thrown: unknown[] = []
  const served = await serve(async (req, res) => {
    try {
      opened.push(await sluice.open(req, res, of(req)))
    } catch (error) {
      thrown.push(error)
      if (!res.headersSent) res.writeHead(500).end()
    }
  })
  return { sluice, opened, thrown, ...served }
}

export interface WholeAnswer {
  status: number | undefined
  headers: IncomingHttpHeaders
  text: string
}

/** Asks and reads the whole answer: for those that are no stream. */
export async function answerOf(
  url: string,
  options: RequestOptions & { body?: string; agent?: Agent | false } = {},
): Promise<WholeAnswer> {
  const { body, headers, ...rest } = options
  const outgoing = request(url, {
    agent: false,
    headers: { accept: 'text/event-stream', ...headers },
    ...rest,
  })
  onTestFinished(() => void outgoing.destroy())
  outgoing.end(body)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const part of response.setEncoding('utf8')) text += part
  return { status: response.statusCode, headers: response.headers, text }
}

/** A client that sends a request and reads nothing of the answer. */
export async function stalledClient(port: number, head = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n') {
  const socket: Socket = connectSocket(port, '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  const state = { closed: false, error: null as (Error & { code?: string }) | null }
  socket.on('error', (error) => {
    state.error = error
  })
  socket.on('close', () => {
    state.closed = true
  })
  await once(socket, 'connect')
  socket.pause()
  socket.write(head)
  return Object.assign(state, { socket })
}

/** Gives a client that does not read more than the kernel takes for it. */
export function overfill(sse: SSEHandler): void {
  const data = 'x'.repeat(200_000)
  for (let i = 0; i < 100; i += 1) sse.trySend({ data })
}

/** What lets `overfill` in. */
export const WIDE = { maxEvents: 1000, maxBytes: 1_000_000_000 }

export interface FakeClient {
  exchange: Exchange
  transport: FakeTransport
  /** Calls of `hangUp` and `cut`. */
  calls: string[]
}

/** A request that no socket is behind. */
export function fakeClient(
  headers: Record<string, string> = {},
  { peer = null, ...about }: Partial<StreamRequest> & { peer?: Peer | null } = {},
): FakeClient {
  const transport = new FakeTransport()
  transport.takesAtOnce = true
  const calls: string[] = []
  const exchange: Exchange = {
    transport,
    request: { method: 'GET', url: '/', header: (name) => headers[name], ...about },
    peer,
    assertUnanswered() {},
    onGone: () => () => {},
    hangUp: () => void calls.push('hangUp'),
    cut: () => void calls.push('cut'),
    isStuck: () => false,
    isSecure: false,
    isBehindAnother: () => false,
    lastAnswer: () => void calls.push('lastAnswer'),
  }
  return { exchange, transport, calls }
}

/** A supervisor on a clock that stands still, whose streams have no sockets. */
export function superviseFakes(options: SluiceOptions<StreamRequest> = {}) {
  const clock = new ManualClock()
  const sluice = createSluice<StreamRequest>({
    clock,
    sweepMs: Number.POSITIVE_INFINITY,
    ...options,
  } as SluiceOptions<StreamRequest> & {
    authorize?: undefined
  })
  const open = (client = fakeClient(), openOptions: OpenOptions = {}) => {
    const sse = sluice.admit(client.exchange, client.exchange.request, openOptions)
    return { ...client, sse: sse as SSEHandler }
  }
  return { clock, sluice, open }
}
