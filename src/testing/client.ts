import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from 'node:http'
import { request as secureRequest } from 'node:https'
import { EventStreamReader, type ReceivedEvent } from './event-stream.js'
import { until } from './until.js'

/** Options of `connectClient`: those of a request of `node:http`, and these. */
export interface ClientOptions extends RequestOptions {
  body?: string | undefined
  /** Sent as Last-Event-ID. Default: none. */
  lastEventId?: string | undefined
}

/** A client that reads a stream over a real socket and keeps what it got. */
export interface TestClient {
  readonly request: ClientRequest
  readonly response: IncomingMessage
  /** The body so far. */
  readonly text: string
  readonly events: readonly ReceivedEvent[]
  readonly comments: readonly string[]
  /** What a browser would send as Last-Event-ID when it came back. */
  readonly lastEventId: string
  /** Whether the server ended the stream. */
  readonly ended: boolean
  /** Whether the connection is gone, ended or not. */
  readonly closed: boolean
  /** Resolves once the events satisfy the condition; rejects after 10 s. */
  until(condition: (events: readonly ReceivedEvent[]) => boolean): Promise<void>
  /** Stops reading from the socket: a client that stalls. */
  pause(): void
  resume(): void
  /** Leaves without a word (RST or FIN, as the system likes). */
  leave(): void
  /** Leaves, and comes back with the last id it got, as browsers do. The client that comes back is another one. */
  reconnect(options?: ClientOptions): Promise<TestClient>
  /** Leaves, and resolves when its connection is gone. For the end of a test; more than one call does no harm. */
  close(): Promise<void>
}

/** Asks for a stream over `http:` or `https:`. Resolves when the head of the response is there, whatever its status. */
export async function connectClient(url: string | URL, options: ClientOptions = {}): Promise<TestClient> {
  const { body, headers, lastEventId, ...rest } = options
  const ask = new URL(url).protocol === 'https:' ? secureRequest : request
  const outgoing = ask(url, {
    agent: false,
    headers: {
      accept: 'text/event-stream',
      ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
      ...headers,
    } as NonNullable<RequestOptions['headers']>,
    ...rest,
  })
  const gone = new Promise<void>((resolve) => outgoing.once('close', resolve))
  outgoing.end(body)
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve).once('error', reject)
  })
  outgoing.on('error', ignore)
  const reader = new EventStreamReader(lastEventId)
  const state = { text: '', ended: false, closed: false }
  response.setEncoding('utf8')
  response.on('data', (part: string) => {
    state.text += part
    reader.feed(part)
  })
  response.on('error', ignore)
  response.on('end', () => {
    state.ended = true
  })
  response.on('close', () => {
    state.closed = true
  })
  const client: TestClient = {
    request: outgoing,
    response,
    events: reader.events,
    comments: reader.comments,
    get text() {
      return state.text
    },
    get lastEventId() {
      return reader.lastEventId
    },
    get ended() {
      return state.ended
    },
    get closed() {
      return state.closed
    },
    until: (condition) => until(() => condition(reader.events), condition.toString()),
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    leave: () => void outgoing.destroy(),
    async reconnect(more) {
      await client.close()
      return connectClient(url, { ...options, lastEventId: reader.lastEventId, ...more })
    },
    async close() {
      outgoing.destroy()
      await gone
    },
  }
  return client
}

/** Its close tells enough. */
function ignore(): void {}
