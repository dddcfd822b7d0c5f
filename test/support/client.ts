import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from 'node:http'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { onTestFinished } from 'vitest'
import { until } from './until.js'

/** A client that reads a stream over a real socket and keeps what it got. */
export interface TestClient {
  readonly request: ClientRequest
  readonly response: IncomingMessage
  /** The body so far. */
  readonly text: string
  readonly events: EventSourceMessage[]
  readonly comments: string[]
  /** The id of the last event that had one: what a browser would send as Last-Event-ID. */
  readonly lastEventId: string
  /** Whether the server ended the stream. */
  readonly ended: boolean
  /** Whether the connection is gone, ended or not. */
  readonly closed: boolean
  /** Resolves once the events satisfy the condition. */
  until(condition: (events: EventSourceMessage[]) => boolean): Promise<void>
  /** Stops reading from the socket. */
  pause(): void
  resume(): void
  /** Leaves without a word (RST or FIN, as the system likes). */
  leave(): void
}

/** Opens a stream and resolves when the head of the response is there. The test's end closes it. */
export async function connect(
  url: string,
  options: RequestOptions & { body?: string } = {},
): Promise<TestClient> {
  const { body, headers, ...rest } = options
  const outgoing = request(url, {
    agent: false,
    headers: { accept: 'text/event-stream', ...headers },
    ...rest,
  })
  outgoing.end(body)
  onTestFinished(() => void outgoing.destroy())
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve).once('error', reject)
  })
  outgoing.on('error', () => {})
  const state = { text: '', ended: false, closed: false, lastEventId: '' }
  const events: EventSourceMessage[] = []
  const comments: string[] = []
  const parser = createParser({
    onEvent(event) {
      if (event.id !== undefined) state.lastEventId = event.id
      events.push(event)
    },
    onComment: (comment) => void comments.push(comment),
  })
  response.setEncoding('utf8')
  response.on('data', (part: string) => {
    state.text += part
    parser.feed(part)
  })
  response.on('error', () => {})
  response.on('end', () => {
    state.ended = true
  })
  response.on('close', () => {
    state.closed = true
  })
  return {
    request: outgoing,
    response,
    events,
    comments,
    get text() {
      return state.text
    },
    get lastEventId() {
      return state.lastEventId
    },
    get ended() {
      return state.ended
    },
    get closed() {
      return state.closed
    },
    until: (condition) => until(() => condition(events)),
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    leave: () => void outgoing.destroy(),
  }
}
