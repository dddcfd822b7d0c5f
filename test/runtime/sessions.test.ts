import { createMemoryLog } from 'sluice'
import { describe, expect, it } from 'vitest'
import { connect } from '../support/client.js'
import { answerOf, fakeClient, supervise, superviseFakes } from '../support/sluice.js'
import { until } from '../support/until.js'

const named = ({ headers }: { headers: Record<string, unknown> }) => headers.session as string | undefined
const inSession = (session: string, more = {}) => ({ headers: { session, ...more } })

describe('a session that is open already', () => {
  it('is replaced: the old stream ends as replaced, the new one goes on', async () => {
    const { sluice, url, opened } = await supervise({ sessionId: named })
    const old = await connect(url, inSession('s'))
    const other = await connect(url, inSession('t'))
    const replacement = await connect(url, inSession('s'))
    await until(() => old.ended)
    expect(await opened[0]?.closed).toMatchObject({ reason: 'replaced' })
    opened[2]?.trySend({ data: 'on' })
    await replacement.until((events) => events.some(({ data }) => data === 'on'))
    expect(sluice.sessions().map(({ sessionId }) => sessionId)).toEqual(['t', 's'])
    expect(other.closed).toBe(false)
  })

  it('is refused with 409 when onOpenSession says so, and free again afterwards', async () => {
    const { sluice, url } = await supervise({ sessionId: named, onOpenSession: 'refuse' })
    const old = await connect(url, inSession('s'))
    const { status, text, headers } = await answerOf(url, inSession('s'))
    expect({ status, cause: JSON.parse(text).cause }).toEqual({ status: 409, cause: 'session-open' })
    expect(Number(headers['retry-after'])).toBeGreaterThan(0)
    expect(old.closed).toBe(false)
    old.leave()
    await until(() => sluice.sessions().length === 0)
    expect((await connect(url, inSession('s'))).response.statusCode).toBe(200)
  })

  it('has several streams when onOpenSession allows it; session() tells of the newest', async () => {
    const { sluice, url, opened } = await supervise({ sessionId: named, onOpenSession: 'allow' })
    const [first] = [await connect(url, inSession('s')), await connect(url, inSession('s'))]
    expect(sluice.sessions()).toHaveLength(2)
    opened[1]?.trySend({ data: 'x' })
    await until(() => sluice.session('s')?.eventsSent === opened[1]?.stats().eventsSent)
    first?.leave()
    await until(() => sluice.sessions().length === 1)
    expect(sluice.session('s')).not.toBeNull()
  })

  it.each(['replace', 'refuse', 'allow'] as const)(
    'of another principal is not taken over, whatever onOpenSession says: 403 (%s)',
    async (onOpenSession) => {
      const { url, sluice } = await supervise({
        sessionId: named,
        onOpenSession,
        authorize: ({ headers }) => (headers.user === undefined ? true : (headers.user as string)),
      })
      const ann = await connect(url, inSession('s', { user: 'ann' }))
      expect((await answerOf(url, inSession('s', { user: 'bob' }))).status).toBe(403)
      expect((await answerOf(url, inSession('s'))).status).toBe(403)
      expect(ann.closed).toBe(false)
      expect(sluice.sessions()).toMatchObject([{ principal: 'ann' }])
    },
  )

  it('is not replaced by a request that gets no stream: HEAD, 406, 401', async () => {
    const { url, sluice } = await supervise({
      sessionId: named,
      authorize: ({ headers }) => headers.user as string,
    })
    const ann = { user: 'ann' }
    const old = await connect(url, inSession('s', ann))
    const statuses = [
      await answerOf(url, { method: 'HEAD', ...inSession('s', ann) }),
      await answerOf(url, inSession('s', { accept: 'text/html', ...ann })),
      await answerOf(url, inSession('s')),
    ].map(({ status }) => status)
    expect(statuses).toEqual([200, 406, 401])
    expect(old.closed).toBe(false)
    expect(sluice.sessions()).toHaveLength(1)
  })
})

describe('a stream that was replaced', () => {
  it('never takes the newer one out of the list, however late it closes', () => {
    const { sluice, open, clock } = superviseFakes({ sessionId: () => 's', drainMs: 5000 })
    const old = open()
    old.transport.takesAtOnce = false
    old.sse.trySend({ data: 'x' })
    const replacement = open()
    old.transport.lose()
    clock.advance(20_000)
    expect(old.sse.phase).toBe('closed')
    expect(sluice.sessions().map(({ phase }) => phase)).toEqual(['flowing'])
    expect(sluice.session('s')).not.toBeNull()
    expect(replacement.sse.phase).toBe('flowing')
  })

  it('leaves its place in the log to the new one: nothing is lost, though that one does not say where it stands', async () => {
    const log = createMemoryLog()
    const { url, opened } = await supervise({ sessionId: named }, () => ({ log }))
    const old = await connect(url, inSession('s'))
    for (let i = 1; i <= 3; i += 1) opened[0]?.trySend({ data: String(i) })
    await old.until((events) => events.at(-1)?.data === '3')
    const replacing = connect(url, inSession('s'))
    opened[0]?.trySend({ data: '4' })
    const replacement = await replacing
    opened[1]?.trySend({ data: '5' })
    await replacement.until((events) => events.at(-1)?.data === '5')
    await until(() => old.ended)
    const got = [...old.events, ...replacement.events].filter(({ event }) => event === undefined)
    expect(new Set(got.map(({ data }) => data))).toEqual(new Set(['1', '2', '3', '4', '5']))
    expect(replacement.events.filter(({ event }) => event === 'gap')).toEqual([])
  })

  it.each([
    ['Last-Event-ID', (id: string) => ({ path: '/', headers: { 'last-event-id': id } })],
    ['lastEventId in the query', (id: string) => ({ path: `/?lastEventId=${id}`, headers: {} })],
    ['evs_last_event_id in the query', (id: string) => ({ path: `/?evs_last_event_id=${id}`, headers: {} })],
  ])('does not speak for a client that says where it stands: %s', async (_, at) => {
    const log = createMemoryLog()
    const { url, opened } = await supervise({ sessionId: () => 's' }, () => ({ log }))
    const old = await connect(url)
    for (let i = 1; i <= 5; i += 1) opened[0]?.trySend({ data: String(i) })
    await old.until((events) => events.at(-1)?.data === '5')
    const { path, headers } = at(`${log.epoch}-2`)
    const replacement = await connect(new URL(path, url).href, { headers })
    await replacement.until((events) => events.at(-1)?.data === '5')
    expect(replacement.events.slice(1).map(({ data }) => data)).toEqual(['3', '4', '5'])
  })

  it('does not hand its place to a stream that reads another log', async () => {
    const logs = [createMemoryLog(), createMemoryLog()]
    const { url, opened } = await supervise({ sessionId: () => 's' }, ({ url: path }) => ({
      log: path === '/b' ? logs[1] : logs[0],
    }))
    await connect(url)
    opened[0]?.trySend({ data: 'a' })
    const replacement = await connect(`${url}b`)
    opened[1]?.trySend({ data: 'b' })
    await replacement.until((events) => events.at(-1)?.data === 'b')
    expect(replacement.events.map(({ event }) => event)).toEqual(['connected', undefined])
  })
})

describe('the name of a session', () => {
  it('is a random UUID when nobody gives one', async () => {
    const { url, sluice } = await supervise()
    await connect(url)
    await connect(url)
    const ids = sluice.sessions().map(({ sessionId }) => sessionId)
    expect(ids.every((id) => /^[0-9a-f-]{36}$/.test(id))).toBe(true)
    expect(new Set(ids).size).toBe(2)
  })

  it('is what open says rather than the hook', async () => {
    const { url, sluice } = await supervise({ sessionId: () => 'hook' }, () => ({ sessionId: 'open' }))
    await connect(url)
    expect(sluice.session('open')).not.toBeNull()
    expect(sluice.session('hook')).toBeNull()
  })

  it('that a client leaves empty is none: it gets a random one, and open does not throw', async () => {
    const { url, sluice, thrown } = await supervise({
      sessionId: ({ url: path }) => new URL(path ?? '/', 'http://localhost').searchParams.get('s') as string,
    })
    for (const query of ['?s=', '', '?s']) await connect(`${url}${query}`)
    expect(thrown).toEqual([])
    expect(new Set(sluice.sessions().map(({ sessionId }) => sessionId)).size).toBe(3)
  })

  it.each(['__proto__', 'a\r\nevent: forged\r\ndata: x', '\u2028', '{"x":1}', 'x'.repeat(8000)])(
    'may be anything a client sends: it is data of the first event, and no field (%#)',
    async (sessionId) => {
      const { url, sluice } = await supervise({
        sessionId: ({ url: path }) =>
          new URL(path ?? '/', 'http://localhost').searchParams.get('s') as string,
      })
      const client = await connect(`${url}?s=${encodeURIComponent(sessionId)}`)
      await client.until((events) => events.length === 1)
      expect(client.events).toMatchObject([{ event: 'connected', data: JSON.stringify({ sessionId }) }])
      expect(sluice.session(sessionId)).toMatchObject({ sessionId })
    },
  )
})

describe('a hook that fails', () => {
  const failing = {
    throws: () => {
      throw new Error('secret of the database')
    },
    'gives a promise': (async () => 'late') as never,
    'gives a number': (() => 5) as never,
  }

  it.each(
    (['sessionId', 'key'] as const).flatMap((name) =>
      Object.entries(failing).map(([how, hook]) => [name, how, hook] as const),
    ),
  )('%s that %s: 500 without detail', async (name, _, hook) => {
    const { url, thrown, sluice } = await supervise({ [name]: hook, limits: { maxPerKey: 5 } })
    const { status, text } = await answerOf(url)
    expect(status).toBe(500)
    expect(text).not.toContain('secret')
    expect(JSON.parse(text).cause).toBe('hook-failed')
    expect(thrown).toEqual([])
    expect(sluice.sessions()).toEqual([])
  })
})

it('sessions() tell who, where from and how each stream is', async () => {
  const log = createMemoryLog()
  const { url, sluice } = await supervise({ authorize: () => 'ann', sessionId: named }, () => ({ log }))
  await connect(
    url,
    inSession('s', { 'user-agent': `curl/8 ${'x'.repeat(500)}`, 'last-event-id': `${log.epoch}-0` }),
  )
  expect(sluice.sessions()).toMatchObject([
    {
      sessionId: 's',
      principal: 'ann',
      key: 'ann',
      address: '127.0.0.1',
      client: 'curl',
      isResumed: true,
      phase: 'flowing',
    },
  ])
  expect(sluice.sessions()[0]?.userAgent).toHaveLength(200)
  expect(sluice.session('nobody')).toBeNull()
})

it('a client that has left already gets no stream, and leaves none', () => {
  const { sluice, open } = superviseFakes()
  const client = fakeClient()
  client.transport.isLostAtAttach = true
  expect(open(client).sse).toBeNull()
  expect(sluice.stats()).toMatchObject({ open: 0, opened: 0, refused: { 'client-left': 1 } })
})
