import { describe, expect, it } from 'vitest'
import { isAnswerable, preflightAnswer, type RefusalCause, refusalAnswer } from '../../src/runtime/refusal.js'

// The compiler tells of a cause that is missing here. Status, and whether to come back later is of use.
const ANSWERS = {
  'shutting-down': [503, true],
  'max-connections': [503, true],
  'max-bytes': [503, true],
  'max-per-key': [429, true],
  pipelined: [503, true],
  origin: [403, false],
  unauthenticated: [401, false],
  forbidden: [403, false],
  'hook-failed': [500, false],
  'authorize-timeout': [503, true],
  'session-open': [409, true],
  'client-left': null,
  'no-stream': null,
} as const satisfies Record<RefusalCause, readonly [number, boolean] | null>

type Answerable = {
  [Cause in RefusalCause]: (typeof ANSWERS)[Cause] extends null ? never : Cause
}[RefusalCause]
const causes = Object.keys(ANSWERS) as RefusalCause[]
const answerable = causes.filter((cause): cause is Answerable => ANSWERS[cause] !== null)

const answerTo = (cause: Answerable, headers = {}, retryAfterMs = 5000) => {
  const answer = refusalAnswer(cause, retryAfterMs, headers)
  if (answer.stream) throw new Error('A refusal is no stream.')
  return answer
}

describe('the answer of a refusal', () => {
  it.each(answerable)('is a problem body that tells what it is: %s', (cause) => {
    const { status, headers, body } = answerTo(cause)
    const problem = JSON.parse(body)
    expect(status).toBe(ANSWERS[cause][0])
    expect(problem).toEqual({
      type: 'about:blank',
      title: expect.any(String),
      status,
      detail: expect.any(String),
      cause,
    })
    expect(headers).toMatchObject({ 'Content-Type': 'application/problem+json', 'Cache-Control': 'no-store' })
    expect('Retry-After' in headers).toBe(ANSWERS[cause][1])
    expect('WWW-Authenticate' in headers).toBe(status === 401)
  })

  it('says when to come back: retryAfterMs to twice that, in whole seconds, not the same to all', () => {
    const delays = Array.from({ length: 1000 }, () =>
      Number(answerTo('max-connections', {}, 60_000).headers['Retry-After']),
    )
    expect(delays.every((delay) => Number.isInteger(delay) && delay >= 60 && delay <= 120)).toBe(true)
    expect(new Set(delays).size).toBeGreaterThan(30)
  })

  it('carries the headers of CORS', () => {
    expect(answerTo('max-connections', { 'Access-Control-Allow-Origin': '*' }).headers).toMatchObject({
      'Access-Control-Allow-Origin': '*',
      'Content-Type': 'application/problem+json',
    })
  })
})

it('a client that has left, and one that is answered otherwise, get no refusal', () => {
  expect(causes.filter((cause) => !isAnswerable(cause))).toEqual(['client-left', 'no-stream'])
})

it('a preflight is answered with 204, its headers and nothing else', () => {
  const headers = { 'Access-Control-Allow-Origin': 'https://app.example' }
  expect(preflightAnswer(headers)).toMatchObject({ stream: false, status: 204, body: '' })
  expect(preflightAnswer(headers).headers).toMatchObject(headers)
})
