import { SSEError, shown } from '../errors.js'

/**
 * The head of an event stream. `no-transform` keeps compressing proxies from buffering it,
 * `X-Accel-Buffering` nginx; the charset is always UTF-8, so none is named (WHATWG, section 9.2.5).
 */
export const STREAM_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
})

/** Headers that an earlier middleware may have set and that an event stream cannot have. */
export const HEADERS_TO_REMOVE = ['Content-Length', 'Content-Encoding', 'ETag'] as const

/** Headers that concern one hop, which HTTP/2 forbids (RFC 9113, section 8.2.2). */
export const HEADERS_OF_ONE_HOP = [
  'transfer-encoding',
  'connection',
  'keep-alive',
  'proxy-connection',
  'upgrade',
  'te',
  'http2-settings',
] as const

/** What the stream itself decides, and what not every version of HTTP allows. */
const OURS: ReadonlySet<string> = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  ...HEADERS_OF_ONE_HOP,
])

/** A header's name and value as HTTP has them (RFC 9110, sections 5.1 and 5.5). */
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

export function isHeaderName(name: unknown): boolean {
  return typeof name === 'string' && NAME.test(name)
}

/** The head of a stream with more headers in it. Throws ERR_SSE_INVALID_OPTION for one that cannot be set. */
export function streamHeaders(
  more: Readonly<Record<string, string>> | undefined,
): Readonly<Record<string, string>> {
  if (more === undefined) return STREAM_HEADERS
  if (more === null || typeof more !== 'object') {
    throw new SSEError('ERR_SSE_INVALID_OPTION', `Option headers is ${shown(more)}; expected an object.`)
  }
  const given = new Set<string>()
  for (const [name, value] of Object.entries(more)) {
    if (given.has(name.toLowerCase())) {
      throw new SSEError(
        'ERR_SSE_INVALID_OPTION',
        `Option headers has ${name} twice; expected each name once, in any case.`,
      )
    }
    given.add(name.toLowerCase())
    if (NAME.test(name) && !OURS.has(name.toLowerCase()) && typeof value === 'string' && VALUE.test(value))
      continue
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `The header ${shown(name)}: ${shown(value)} cannot be set; expected a name and a text of HTTP, and none of ${[...OURS].join(', ')}.`,
    )
  }
  const ours = Object.entries(STREAM_HEADERS).filter(([name]) => !given.has(name.toLowerCase()))
  return Object.freeze({ ...Object.fromEntries(ours), ...more })
}
