import { type CorsOptions, createSluice } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { answerOf, fakeClient, supervise, superviseFakes } from '../support/sluice.js'

const APP = 'https://app.example'
const PREFLIGHT = {
  'access-control-request-method': 'GET',
  'access-control-request-headers': 'last-event-id',
}

const withCors = (cors: CorsOptions) => supervise({ cors })
const from = (origin: string) => ({ headers: { origin } })
const varies = (value: string | undefined) => (value ?? '').split(/, */).map((name) => name.toLowerCase())

describe('a page of another origin', () => {
  it.each([
    ['that is listed', { origins: [APP] }],
    ['that a function lets in', { origins: (origin: string) => origin === APP }],
  ])('%s gets the stream, with its origin named and Vary: Origin', async (_, cors) => {
    const { url } = await withCors(cors)
    const { response } = await connect(url, from(APP))
    expect(response.statusCode).toBe(200)
    expect(response.headers['access-control-allow-origin']).toBe(APP)
    expect(varies(response.headers.vary)).toContain('origin')
    expect(response.headers['access-control-allow-credentials']).toBeUndefined()
  })

  it('gets the stream from "*", which names no origin', async () => {
    const { url } = await withCors({ origins: '*' })
    const { response } = await connect(url, from('https://anything.example'))
    expect(response.headers['access-control-allow-origin']).toBe('*')
  })

  it.each([
    'https://evil.example',
    'http://app.example',
    'https://app.example:8443',
    'https://app.example.evil.example',
    'https://evilapp.example',
    'https://APP.example',
    'null',
    'file://',
    '*',
    'https://app.example, https://evil.example',
    'https://app.example/',
  ])('that is not listed gets 403, and nothing that lets it read: %s', async (origin) => {
    const { url, sluice } = await withCors({ origins: [APP] })
    const { status, headers, text } = await answerOf(url, from(origin))
    expect({ status, cause: JSON.parse(text).cause }).toEqual({ status: 403, cause: 'origin' })
    expect(headers['access-control-allow-origin']).toBeUndefined()
    expect(varies(headers.vary)).toContain('origin')
    expect(sluice.stats().opened).toBe(0)
  })

  it.each([undefined, false, 1, 'true', Promise.resolve(true)])(
    'is let in by a function for true only, not for %s',
    async (said) => {
      const { url } = await withCors({ origins: () => said as boolean })
      expect((await answerOf(url, from(APP))).status).toBe(403)
    },
  )

  it('without an origin of its own, such as a sandboxed one, is let in when a function says so', async () => {
    const { url } = await withCors({ origins: (origin) => origin === 'null' })
    const { response } = await connect(url, from('null'))
    expect(response.headers['access-control-allow-origin']).toBe('null')
  })

  it('may send cookies along when credentials says so', async () => {
    const { url } = await withCors({ origins: [APP], credentials: true })
    const { response } = await connect(url, from(APP))
    expect(response.headers['access-control-allow-credentials']).toBe('true')
  })

  it('gets 500 without detail when the function throws', async () => {
    const { url, thrown } = await withCors({
      origins: () => {
        throw new Error('secret of the database')
      },
    })
    const { status, text } = await answerOf(url, from(APP))
    expect(status).toBe(500)
    expect(text).not.toContain('secret')
    expect(thrown).toEqual([])
  })
})

describe('whoever is no page of another origin', () => {
  it('needs none: without Origin the stream is given, whatever is listed, and caches are told', async () => {
    const { url } = await withCors({ origins: [] })
    const { response } = await connect(url)
    expect(response.statusCode).toBe(200)
    expect(response.headers['access-control-allow-origin']).toBeUndefined()
    expect(varies(response.headers.vary)).toContain('origin')
  })

  it.each(['http', 'https'])('a page of the server itself POSTs with an Origin: %s', async (scheme) => {
    const { url, port } = await withCors({ origins: [APP] })
    const origin = `${scheme}://127.0.0.1:${port}`
    const client = await connect(url, { method: 'POST', body: '{}', headers: { origin } })
    expect(client.response.statusCode).toBe(200)
  })
})

describe('a preflight', () => {
  it('is answered with 204 and what may be sent; it is no stream', async () => {
    const { url, sluice } = await withCors({ origins: [APP], headers: ['X-Tenant'], maxAgeSeconds: 60 })
    const { status, headers, text } = await answerOf(url, {
      method: 'OPTIONS',
      headers: { origin: APP, ...PREFLIGHT },
    })
    expect({ status, text }).toEqual({ status: 204, text: '' })
    expect(headers).toMatchObject({
      'access-control-allow-origin': APP,
      'access-control-allow-methods': 'GET, POST, HEAD',
      'access-control-max-age': '60',
    })
    const allowed = headers['access-control-allow-headers']?.toLowerCase().split(', ')
    expect(allowed).toEqual(expect.arrayContaining(['last-event-id', 'authorization', 'x-tenant']))
    expect(varies(headers.vary)).toContain('origin')
    expect(sluice.stats()).toMatchObject({ opened: 0, authorizing: 0 })
  })

  it('asks nobody who it is: it has no credentials', async () => {
    let asked = 0
    const { url } = await supervise({
      cors: { origins: [APP] },
      authorize: () => {
        asked += 1
        return false
      },
    })
    const { status } = await answerOf(url, { method: 'OPTIONS', headers: { origin: APP, ...PREFLIGHT } })
    expect({ status, asked }).toEqual({ status: 204, asked: 0 })
  })

  it('of an origin that is not listed gets 403', async () => {
    const { url } = await withCors({ origins: [APP] })
    const { status, headers } = await answerOf(url, {
      method: 'OPTIONS',
      headers: { origin: 'https://evil.example', ...PREFLIGHT },
    })
    expect(status).toBe(403)
    expect(headers['access-control-allow-origin']).toBeUndefined()
  })
})

describe('a refusal', () => {
  it('can be read by the page that is let in: 401, 503 with Retry-After, 406', async () => {
    const { url, sluice } = await supervise({
      cors: { origins: [APP], credentials: true },
      limits: { maxConnections: 1 },
      authorize: ({ headers }) => headers.user as string,
    })
    const refusals = [await answerOf(url, from(APP))]
    refusals.push(await answerOf(url, { headers: { origin: APP, user: 'ann', accept: 'text/html' } }))
    await connect(url, { headers: { user: 'ann' } })
    refusals.push(await answerOf(url, from(APP)))
    expect(refusals.map(({ status }) => status)).toEqual([401, 406, 503])
    for (const { headers } of refusals) {
      expect(headers).toMatchObject({
        'access-control-allow-origin': APP,
        'access-control-allow-credentials': 'true',
      })
    }
    expect(refusals[2]?.headers['access-control-expose-headers']?.toLowerCase()).toContain('retry-after')
    expect(sluice.stats().opened).toBe(1)
  })
})

it('Vary of the program and that of CORS are both told', async () => {
  const { url } = await supervise({ cors: { origins: [APP] } }, () => ({ headers: { vary: 'Cookie' } }))
  const { response } = await connect(url, from(APP))
  expect(varies(response.headers.vary)).toEqual(expect.arrayContaining(['cookie', 'origin']))
})

it.each([
  ['"*" with credentials', { origins: '*', credentials: true }],
  ['an origin with a path', { origins: ['https://app.example/page'] }],
  ['an origin with a slash', { origins: ['https://app.example/'] }],
  ['a host', { origins: ['app.example'] }],
  ['"null"', { origins: ['null'] }],
  ['"*" in a list', { origins: ['*'] }],
  ['one origin that is no list', { origins: APP }],
  ['no origins', {}],
  ['null', null],
  ['an unknown option', { origins: '*', methods: ['GET'] }],
  ['a negative age', { origins: '*', maxAgeSeconds: -1 }],
  ['headers that are no list', { origins: '*', headers: 'X-Tenant' }],
  ['a header that is none', { origins: '*', headers: ['a\r\nb'] }],
  ['credentials that are neither', { origins: [APP], credentials: 'no' }],
])('options of CORS that mean nothing are refused: %s', (_, cors) => {
  expect(() => createSluice({ cors: cors as never })).toThrow(
    expect.objectContaining({ code: 'ERR_SSE_INVALID_OPTION' }),
  )
})

describe('a page of the same host without TLS', () => {
  const cors = { origins: ['https://a.example'] }
  const asked = (isSecure: boolean) => {
    const { sluice, open } = superviseFakes({ cors })
    const client = fakeClient({ origin: 'http://h', host: 'h' })
    const { sse } = open({ ...client, exchange: { ...client.exchange, isSecure } })
    return { sse, refused: sluice.stats().refused }
  }

  it('is another origin over TLS', () => {
    expect(asked(true)).toEqual({ sse: null, refused: { origin: 1 } })
  })

  it('is the same where TLS may have ended before', () => {
    expect(asked(false).sse).not.toBeNull()
  })
})

describe('cors of a Fetch server', () => {
  const sluice = () => createSluice<Request>({ cors: { origins: ['https://a.example'] } })
  const asked = (origin: string, init: RequestInit = {}) => {
    const headers = { origin, ...init.headers }
    const { sse, response } = sluice().respond(new Request('https://h.example/events', { ...init, headers }))
    const { status } = response
    const allowed = response.headers.get('access-control-allow-origin')
    sse?.abort()
    return { status, allowed }
  }

  it.each([
    ['a page that is listed', 'https://a.example', { status: 200, allowed: 'https://a.example' }],
    ['its own page', 'https://h.example', { status: 200, allowed: 'https://h.example' }],
    ['its own host without TLS', 'http://h.example', { status: 403, allowed: null }],
    ['another page', 'https://b.example', { status: 403, allowed: null }],
  ])('is as of any other: %s', (_who, origin, expected) => {
    expect(asked(origin)).toEqual(expected)
  })

  it('answers a preflight', () => {
    const preflight = { method: 'OPTIONS', headers: { 'access-control-request-method': 'GET' } }
    expect(asked('https://a.example', preflight)).toEqual({ status: 204, allowed: 'https://a.example' })
  })
})
