import type { CloseReason, SSEErrorCode } from 'sluice'
import { expect, it } from 'vitest'
import { CLOSE_REASONS } from '../../src/close-reason.js'
import { isAnswerable, type RefusalCause, refusalAnswer } from '../../src/runtime/refusal.js'
import { codeIn, readPage, tableRows } from './markdown.js'

const page = readPage('docs/errors.md')

// The compiler tells of a code that is missing here.
const CODES: Record<SSEErrorCode, true> = {
  ERR_SSE_ALREADY_SUBSCRIBED: true,
  ERR_SSE_CLOSED: true,
  ERR_SSE_EVENT_TOO_LARGE: true,
  ERR_SSE_HEADERS_SENT: true,
  ERR_SSE_INVALID_EVENT: true,
  ERR_SSE_INVALID_OPTION: true,
  ERR_SSE_INVALID_SOURCE: true,
  ERR_SSE_LOG_FAILED: true,
  ERR_SSE_PERMIT_EXPIRED: true,
  ERR_SSE_PERMIT_SPENT: true,
  ERR_SSE_POOL_FULL: true,
  ERR_SSE_TOO_MANY_CHANNELS: true,
  ERR_SSE_TOO_MANY_WAITERS: true,
}

const CAUSES: Record<RefusalCause, true> = {
  'shutting-down': true,
  'max-connections': true,
  'max-bytes': true,
  'max-per-key': true,
  pipelined: true,
  origin: true,
  unauthenticated: true,
  forbidden: true,
  'hook-failed': true,
  'authorize-timeout': true,
  'session-open': true,
  'client-left': true,
  'no-stream': true,
}

it('the docs explain every error code, and no other', () => {
  const explained = tableRows(page, '## Codes').map(([code]) => codeIn(code))
  expect(explained.sort()).toEqual(Object.keys(CODES).sort())
})

it('the docs explain every close reason, and no other', () => {
  const explained = tableRows(page, '## Why a connection closes').map(
    ([reason]) => codeIn(reason) as CloseReason,
  )
  expect(explained.sort()).toEqual([...CLOSE_REASONS].sort())
})

it('the docs explain every cause of a refusal, and no other, with its status and whether to come back', () => {
  const rows = tableRows(page, '## Why a request gets no stream')
  expect(rows.map(([cause]) => codeIn(cause)).sort()).toEqual(Object.keys(CAUSES).sort())
  for (const [cell, status, retryAfter] of rows) {
    const cause = codeIn(cell) as RefusalCause
    if (!isAnswerable(cause)) continue
    const answer = refusalAnswer(cause, 1000, {})
    if (answer.stream) throw new Error(`${cause} is answered with a stream.`)
    expect([cause, status, retryAfter]).toEqual([
      cause,
      String(answer.status),
      'Retry-After' in answer.headers ? 'yes' : 'no',
    ])
  }
})

it.each([
  '## Codes',
  '## Why a connection closes',
  '## Why a request gets no stream',
  '## Bad input and faults',
])('leaves no cell empty: %s', (heading) => {
  expect(tableRows(page, heading).flat()).not.toContain('')
})
