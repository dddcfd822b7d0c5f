import { expect, it } from 'vitest'
import { clientKind } from '../../src/runtime/client-kind.js'

it.each([
  ['curl/8.5.0', 'curl'],
  ['n8n', 'n8n'],
  ['axios/1.7 n8n/1.50', 'n8n'],
  ['OpenAI/Python 1.40.0', 'openai'],
  ['OpenAI/JS 4.52.0', 'openai'],
  ['modelcontextprotocol/sdk', 'mcp'],
  ['python-requests/2.32', 'python'],
  ['Python/3.12 aiohttp/3.9', 'python'],
  ['python-httpx/0.27', 'python'],
  ['Go-http-client/1.1', 'go'],
  ['okhttp/4.12', 'java'],
  ['Java/17', 'java'],
  ['Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0', 'browser'],
  ['node', 'node'],
  ['undici', 'node'],
  ['axios/1.7.2', 'node'],
  ['Something/1.0', 'other'],
  ['', 'unnamed'],
  [undefined, 'unnamed'],
])('the User-Agent %j is of the kind %s', (userAgent, kind) => {
  expect(clientKind(userAgent)).toBe(kind)
})

it('looks at the beginning of a User-Agent only, so that a long one costs nothing', () => {
  expect(clientKind(`${'x'.repeat(200)} curl n8n openai`)).toBe('other')
})
