import { request as requestHttp } from 'node:http'
import { connect as connectHttp2, constants, type IncomingHttpHeaders } from 'node:http2'
import { request as requestHttps } from 'node:https'
import type { Readable } from 'node:stream'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { onTestFinished } from 'vitest'

/** How a client speaks to its server. */
export type Protocol = 'http' | 'https' | 'http2'

/** A client over any of the protocols; its certificate is not looked at. */
export interface AnyClient {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly events: EventSourceMessage[]
  /** Bytes of the body so far. */
  readonly bytes: number
  readonly lastEventId: string
  readonly ended: boolean
  pause(): void
  resume(): void
  leave(): void
}

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Readable
}

interface Exchange {
  answered: Promise<Answer>
  leave(): void
}

/** Sends a request. `answered` rejects when the client leaves before. */
export function ask(
  protocol: Protocol,
  port: number,
  path: string,
  headers: Record<string, string> = {},
): Exchange {
  const exchange =
    protocol === 'http2' ? askHttp2(port, path, headers) : askHttp1(protocol, port, path, headers)
  exchange.answered.catch(() => {})
  onTestFinished(() => exchange.leave())
  return exchange
}

function askHttp1(
  protocol: 'http' | 'https',
  port: number,
  path: string,
  headers: Record<string, string>,
): Exchange {
  const options = { host: '127.0.0.1', port, path, headers, agent: false as const, rejectUnauthorized: false }
  const outgoing = protocol === 'https' ? requestHttps(options) : requestHttp(options)
  outgoing.end()
  const answered = new Promise<Answer>((resolve, reject) => {
    outgoing.on('error', reject)
    outgoing.once('response', (body) => {
      resolve({ status: body.statusCode ?? 0, headers: body.headers, body })
    })
  })
  return { answered, leave: () => void outgoing.destroy() }
}

function askHttp2(port: number, path: string, headers: Record<string, string>): Exchange {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false })
  const stream = session.request({ ...headers, [constants.HTTP2_HEADER_PATH]: path })
  stream.once('close', () => session.close())
  const answered = new Promise<Answer>((resolve, reject) => {
    session.on('error', reject)
    stream.on('error', reject)
    stream.once('close', () => reject(new Error('The stream closed before its answer.')))
    stream.once('response', (head) => resolve({ status: head[':status'] ?? 0, headers: head, body: stream }))
  })
  return { answered, leave: () => stream.close(constants.NGHTTP2_CANCEL) }
}

/** Opens a stream; resolves with the head of the response. */
export async function open(
  protocol: Protocol,
  port: number,
  headers: Record<string, string> = {},
): Promise<AnyClient> {
  const { answered, leave } = ask(protocol, port, '/events', { accept: 'text/event-stream', ...headers })
  const { body, ...head } = await answered
  const state = { bytes: 0, ended: false, lastEventId: '' }
  const events: EventSourceMessage[] = []
  const parser = createParser({
    onEvent(event) {
      if (event.id !== undefined) state.lastEventId = event.id
      events.push(event)
    },
  })
  body.on('error', () => {})
  body.on('end', () => {
    state.ended = true
  })
  body.on('data', (part: Buffer) => {
    state.bytes += part.byteLength
    parser.feed(part.toString())
  })
  return {
    ...head,
    events,
    get bytes() {
      return state.bytes
    },
    get lastEventId() {
      return state.lastEventId
    },
    get ended() {
      return state.ended
    },
    pause: () => void body.pause(),
    resume: () => void body.resume(),
    leave,
  }
}
