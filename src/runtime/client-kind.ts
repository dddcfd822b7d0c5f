/** Kinds of clients, by what they call themselves. A closed set: it becomes a label of metrics. */
const KINDS = [
  ['curl', /^curl\//i],
  ['n8n', /n8n/i],
  ['openai', /openai/i],
  ['mcp', /\bmcp\b|modelcontextprotocol/i],
  ['python', /python|aiohttp|httpx/i],
  ['go', /^go-http-client|\bgo\//i],
  ['java', /^java|okhttp|apache-httpclient/i],
  ['browser', /^mozilla\//i],
  ['node', /\bnode\b|undici|axios|got\b/i],
] as const

/** What kind of client a stream goes to, by its User-Agent header. `unnamed`: it has none. */
export type ClientKind = (typeof KINDS)[number][0] | 'other' | 'unnamed'

/** What kind of client a User-Agent header is of. */
export function clientKind(userAgent: string | undefined): ClientKind {
  if (userAgent === undefined || userAgent === '') return 'unnamed'
  // A header may be 16 KiB long: its beginning tells.
  const start = userAgent.slice(0, 200)
  return KINDS.find(([, pattern]) => pattern.test(start))?.[0] ?? 'other'
}
