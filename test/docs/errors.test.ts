import type { CloseReason, SSEErrorCode } from 'sluice'
import { expect, it } from 'vitest'
import { CLOSE_REASONS } from '../../src/close-reason.js'
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

it.each(['## Codes', '## Why a connection closes', '## Bad input and faults'])(
  'leaves no cell empty: %s',
  (heading) => {
    expect(tableRows(page, heading).flat()).not.toContain('')
  },
)
