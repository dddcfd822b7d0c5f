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
