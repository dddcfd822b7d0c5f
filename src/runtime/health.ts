import type { Health } from './sluice.js'

/** What is used of a request: those of `node:http` and `node:http2` have it, and those of frameworks made of them. */
export interface HttpRequest {
  readonly url?: string | undefined
}

/** What is used of a response: those of `node:http` and `node:http2` have it, and those of frameworks made of them. */
export interface HttpResponse {
  /** Sends the status and the headers. */
  writeHead(status: number, headers: Record<string, string>): unknown
  /** Sends the body, and ends the response. */
  end(body: string): unknown
}

/** `limits.retryAfterMs` by default: no prober needs it to the second. */
const RETRY_AFTER_S = 5

/**
 * Makes a handler that answers probes with `sluice.health()` as JSON. A path that ends with `/live`, or a query `live`, asks
 * whether the process answers at all: always 200. Anything else asks whether it takes new streams: 200, or 503 with
 * `Retry-After` while it is overloaded or stopping.
 */
export function createHealthHandler(sluice: {
  health(): Health
}): (req: HttpRequest, res: HttpResponse) => void {
  return (req, res) => {
    const health = sluice.health()
    const isFine = health.isReady || asksForLiveness(req.url ?? '/')
    res.writeHead(isFine ? 200 : 503, {
      'Content-Type': 'application/json',
      'Cache-Control': 'no-store',
      ...(!isFine && { 'Retry-After': String(RETRY_AFTER_S) }),
    })
    res.end(JSON.stringify(health))
  }
}

function asksForLiveness(url: string): boolean {
  const [path = '', query = ''] = url.split('?', 2)
  return path.endsWith('/live') || new URLSearchParams(query).has('live')
}
