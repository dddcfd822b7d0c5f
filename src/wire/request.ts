import { STREAM_HEADERS } from './headers.js'

/** What the wire needs to know of a request, whatever the server. */
export interface StreamRequest {
  readonly method: string
  /** Path and query, or a whole URL. */
  readonly url: string
  /** The value of a header by its lower-case name, with repeats joined by `, `. */
  header(name: string): string | undefined
}

/** The answer to a request for a stream: the stream's head, or another response that ends at once. */
export type StreamAnswer =
  | {
      stream: true
      headers: Readonly<Record<string, string>>
      /** The client's position: `Last-Event-ID`, or the query names that polyfills use. Null when it has none. */
      lastEventId: string | null
      /** Bytes that an old browser's polyfill needs before it shows anything; 0 for others. */
      paddingBytes: number
    }
  | { stream: false; status: number; headers: Readonly<Record<string, string>>; body: string }

const POSITION_PARAMETERS = ['lastEventId', 'evs_last_event_id']
/** What event-source-polyfill (`padding=true`) and eventsource-polyfill (`evs_preamble=2056`) wait for. */
const POLYFILL_PADDING_BYTES = 2056

const NOT_ACCEPTABLE = JSON.stringify({
  type: 'about:blank',
  title: 'Not Acceptable',
  status: 406,
  detail: 'This resource is an event stream; the Accept header must allow text/event-stream.',
})

/** What a client gets that has all there will ever be. */
export const NO_CONTENT: StreamAnswer = {
  stream: false,
  status: 204,
  headers: { 'Cache-Control': 'no-store' },
  body: '',
}

const OPTIONS_ANSWER: StreamAnswer = {
  stream: false,
  status: 204,
  headers: { Allow: 'GET, HEAD, POST, OPTIONS' },
  body: '',
}

/** Decides what a request gets. Any method but HEAD and OPTIONS may stream: MCP and LLM clients POST. */
export function answerTo(request: StreamRequest): StreamAnswer {
  if (request.method === 'HEAD') return { stream: false, status: 200, headers: STREAM_HEADERS, body: '' }
  if (request.method === 'OPTIONS') return OPTIONS_ANSWER
  if (!acceptsEventStream(request.header('accept'))) {
    const headers = { 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store' }
    return { stream: false, status: 406, headers, body: NOT_ACCEPTABLE }
  }
  const query = queryOf(request)
  const isPadded = query !== null && (query.has('padding') || query.has('evs_preamble'))
  return {
    stream: true,
    headers: STREAM_HEADERS,
    lastEventId: positionIn(request, query),
    paddingBytes: isPadded ? POLYFILL_PADDING_BYTES : 0,
  }
}

/** The position a client asks to resume from; null when it has none. */
export function positionOf(request: StreamRequest): string | null {
  return positionIn(request, queryOf(request))
}

function positionIn(request: StreamRequest, query: URLSearchParams | null): string | null {
  const header = request.header('last-event-id')
  if (header !== undefined && header !== '') return utf8OfHeader(header)
  if (query === null) return null
  return POSITION_PARAMETERS.map((name) => query.get(name)).find((id) => id !== null && id !== '') ?? null
}

function queryOf({ url }: StreamRequest): URLSearchParams | null {
  const at = url.indexOf('?')
  return at === -1 ? null : new URLSearchParams(url.slice(at + 1))
}

/**
 * Whether a client takes an event stream: no Accept header at all, or one that names `text/event-stream`, any
 * text, or anything, with a quality above 0. The most precise range decides (RFC 9110, section 12.5.1).
 */
function acceptsEventStream(accept: string | undefined): boolean {
  if (accept === undefined || accept.trim() === '') return true
  let precision = -1
  let accepted = false
  for (const item of accept.split(',')) {
    const [range = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase())
    const rank = ['*/*', 'text/*', 'text/event-stream'].indexOf(range)
    if (rank <= precision) continue
    precision = rank
    accepted = !parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter))
  }
  return accepted
}

/** Node decodes headers as Latin-1; browsers send Last-Event-ID as UTF-8 (WHATWG, section 9.2.3). */
function utf8OfHeader(value: string): string {
  return Buffer.from(value, 'latin1').toString('utf8')
}
