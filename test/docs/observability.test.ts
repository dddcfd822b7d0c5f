import type { LifecycleStage } from 'sluice'
import { expect, it } from 'vitest'
import { DURATION, FIGURES, prometheusName } from '../../src/metrics/figures.js'
import { Lifecycle } from '../../src/runtime/lifecycle.js'
import { recordingLogger } from '../runtime/lines.js'
import { comeBack, fillUp, liveSluice } from '../support/figures.js'
import { until } from '../support/until.js'
import { codeIn, readPage, tableRows } from './markdown.js'

const page = readPage('docs/observability.md')

const stages = tableRows(page, '### Stages').map(([stage, level, when, fields = '']) => ({
  stage: codeIn(stage) as LifecycleStage,
  level: codeIn(level),
  when,
  fields: [...fields.matchAll(/`(\w+)`/g)].map(([, name]) => name),
}))

// The compiler tells of a stage that is missing here.
const STAGES: Record<LifecycleStage, true> = {
  establishing: true,
  refused: true,
  established: true,
  heartbeat: true,
  'heartbeat-missed': true,
  blocked: true,
  gap: true,
  closing: true,
  forced: true,
  terminated: true,
}

it('the docs name every stage, at its level', () => {
  expect(stages.map(({ stage }) => stage)).toEqual(Object.keys(STAGES))
  for (const { stage, level, when } of stages) {
    const logger = recordingLogger()
    new Lifecycle(logger, {}).tell(stage, () => ({}))
    expect(logger.lines).toMatchObject([{ level, fields: { stage } }])
    expect(when).not.toBe('')
  }
})

it('the docs name every field of a stage, as a real stream has it', async () => {
  const logger = recordingLogger()
  await comeBack(await liveSluice({ logger }), 1)
  const full = await liveSluice({
    logger,
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
  for (const { stage, fields } of stages) {
    const told = logger.of(stage).map((line) => Object.keys(line.fields).sort())
    expect(told.length, stage).toBeGreaterThan(0)
    expect([stage, told[0]]).toEqual([stage, ['stage', ...fields].sort()])
  }
})

it('the docs name every metric, as it is exported', () => {
  const types = { counter: 'counter', sum: 'gauge (up-down counter)', gauge: 'gauge' }
  const exported = FIGURES.map((figure) => [
    prometheusName(figure),
    figure.name,
    types[figure.kind],
    figure.label ?? '-',
    figure.help,
  ])
  const duration = [prometheusName(DURATION), DURATION.name, 'histogram', '- (reason)', DURATION.help]
  const documented = tableRows(page, '### All of them').map((cells) =>
    cells.map((cell) => cell.replaceAll('`', '')),
  )
  expect(documented.sort()).toEqual([...exported, duration].sort())
})
