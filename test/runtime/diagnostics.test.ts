import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { expect, it, onTestFinished, vi } from 'vitest'
import { diagnosticsChannelName, Lifecycle, type LifecycleStage } from '../../src/runtime/lifecycle.js'
import { comeBack, fillUp, liveSluice } from '../support/figures.js'
import { until } from '../support/until.js'

const STAGES: LifecycleStage[] = [
  'establishing',
  'refused',
  'established',
  'heartbeat',
  'heartbeat-missed',
  'blocked',
  'gap',
  'closing',
  'forced',
  'terminated',
]

/** What a channel is told until the test ends. */
function told(stage: LifecycleStage): Record<string, unknown>[] {
  const messages: Record<string, unknown>[] = []
  const take = (message: unknown) => void messages.push(message as Record<string, unknown>)
  subscribe(diagnosticsChannelName(stage), take)
  onTestFinished(() => void unsubscribe(diagnosticsChannelName(stage), take))
  return messages
}

it('has a channel for each stage, which is told without a logger', async () => {
  const messages = new Map(STAGES.map((stage) => [stage, told(stage)]))
  const resumed = await liveSluice()
  await comeBack(resumed, 1)
  const full = await liveSluice({
    maxEvents: 4,
    heartbeat: { intervalMs: 200, maxMissed: 2 },
    limits: { maxConnections: 1 },
  })
  const waiting = await full.client()
  await until(() => waiting.comments.length > 0)
  waiting.leave()
  await full.sse.closed
  await fillUp(full)
  await full.client()
  await until(() => full.sluice.stats().closed['heartbeat-missed'] === 1)
  for (const stage of STAGES) {
    const [first] = messages.get(stage) ?? []
    expect(first).toMatchObject({ stage })
    expect([resumed.sluice, full.sluice]).toContain(first?.sluice)
  }
})

it('says of which Sluice a message is', async () => {
  const messages = told('established')
  const one = await liveSluice({ sessionId: () => 'one' })
  const other = await liveSluice({ sessionId: () => 'other' })
  await one.client()
  await other.client()
  expect(messages.map(({ sluice, sessionId }) => [sluice, sessionId])).toEqual([
    [one.sluice, 'one'],
    [other.sluice, 'other'],
  ])
})

it.each(STAGES)('makes no fields while nobody listens to: %s', (stage) => {
  const fields = vi.fn(() => ({}))
  const lifecycle = new Lifecycle(null, {})
  lifecycle.tell(stage, fields)
  expect(fields).not.toHaveBeenCalled()
  const messages = told(stage)
  lifecycle.tell(stage, fields)
  expect(fields).toHaveBeenCalledTimes(1)
  expect(messages).toHaveLength(1)
})

it('asks the system for nothing at the end of a stream while nobody listens', async () => {
  const resourceUsage = vi.spyOn(process, 'resourceUsage')
  onTestFinished(() => resourceUsage.mockRestore())
  const live = await liveSluice()
  await live.client()
  await live.sse.close()
  await live.sse.closed
  expect(resourceUsage).not.toHaveBeenCalled()
})
