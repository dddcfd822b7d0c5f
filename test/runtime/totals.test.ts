import { describe, expect, it } from 'vitest'
import { CLOSE_REASONS, type CloseReason } from '../../src/close-reason.js'
import type { SSEHandlerStats } from '../../src/handler/sse-handler-events.js'
import { Totals } from '../../src/runtime/totals.js'

function stats(figures: Partial<SSEHandlerStats> = {}): SSEHandlerStats {
  return {
    sessionId: 's',
    phase: 'flowing',
    openedAt: 0,
    durationMs: 0,
    eventsSent: 0,
    bytesSent: 0,
    eventsReplayed: 0,
    unsentEvents: 0,
    queuedEvents: 0,
    queuedBytes: 0,
    permits: 0,
    waiters: 0,
    dropped: 0,
    gaps: 0,
    heartbeatsMissed: 0,
    lastId: null,
    ...figures,
  }
}

function close(
  totals: Totals,
  reason: CloseReason,
  durationMs: number,
  figures: Partial<SSEHandlerStats> = {},
) {
  const info = { sessionId: 's', reason, at: 0, durationMs, eventsSent: 0, bytesSent: 0, eventsUnsent: 0 }
  totals.closed(info, stats(figures))
}

describe('the totals', () => {
  it('count what is closed and add what is open, which is counted once when it closes', () => {
    const totals = new Totals()
    const figures = { eventsSent: 3, bytesSent: 100, eventsReplayed: 1, dropped: 2, gaps: 1 }
    totals.opened('curl')
    totals.opened('curl')
    totals.opened('browser')
    const open = totals.counters([stats(figures)])
    close(totals, 'completed', 5, figures)
    const closed = totals.counters([])
    expect(open).toMatchObject({ ...figures, opened: 3, openedByClient: { curl: 2, browser: 1 } })
    expect(closed).toMatchObject({ ...figures, opened: 3 })
    expect(closed.closed.completed).toBe(1)
  })

  it('have every close reason from the start, so that a rate can be made of it', () => {
    expect(Object.keys(new Totals().counters([]).closed).sort()).toEqual([...CLOSE_REASONS].sort())
  })

  it('count refusals by cause, and heartbeats that were missed', () => {
    const totals = new Totals()
    totals.refused('origin')
    totals.refused('origin')
    totals.refused('max-bytes')
    totals.heartbeatMissed()
    expect(totals.counters([])).toMatchObject({
      refused: { origin: 2, 'max-bytes': 1 },
      heartbeatsMissed: 1,
    })
  })

  it('give copies: what is done to them changes nothing', () => {
    const totals = new Totals()
    totals.counters([]).closed.completed = 7
    expect(totals.counters([]).closed.completed).toBe(0)
  })
})

it('durations are counted in buckets that hold the shorter ones, too', () => {
  const totals = new Totals()
  for (const ms of [100, 101, 60_000, 7_200_000]) close(totals, 'completed', ms)
  const { buckets, count, sumSeconds } = totals.durations()
  const counted = Object.fromEntries(buckets.map((bucket) => [bucket.leSeconds, bucket.count]))
  expect(counted).toMatchObject({ 0.1: 1, 0.5: 2, 15: 2, 60: 3, 3600: 3 })
  expect(buckets.map(({ leSeconds }) => leSeconds)).toEqual(
    [...buckets.map(({ leSeconds }) => leSeconds)].sort((a, b) => a - b),
  )
  expect({ count, sumSeconds }).toEqual({ count: 4, sumSeconds: 7260.201 })
})
