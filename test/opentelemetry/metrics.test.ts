import { metrics } from '@opentelemetry/api'
import {
  DataPointType,
  type HistogramMetricData,
  MeterProvider,
  type MetricData,
  MetricReader,
} from '@opentelemetry/sdk-metrics'
import { observeMetrics } from 'sluice/opentelemetry'
import { expect, it, onTestFinished, vi } from 'vitest'
import { DURATION, FIGURES } from '../../src/metrics/figures.js'
import { type LiveSluice, liveSluice, MOVES, type Move } from '../support/figures.js'

class TestReader extends MetricReader {
  protected override async onShutdown(): Promise<void> {}
  protected override async onForceFlush(): Promise<void> {}
}

interface Observed {
  metrics(): Promise<MetricData[]>
  metric(name: string): Promise<MetricData | undefined>
  value(name: string, attributes?: Record<string, string>): Promise<number>
  stop(): void
}

/** What an SDK collects of a Sluice. */
function observed({ sluice }: LiveSluice): Observed {
  const reader = new TestReader()
  const provider = new MeterProvider({ readers: [reader] })
  const stop = observeMetrics(sluice, { meter: provider.getMeter('test') })
  onTestFinished(async () => {
    stop()
    await provider.shutdown()
  })
  const collected = async () => {
    const { resourceMetrics, errors } = await reader.collect()
    expect(errors).toEqual([])
    return resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics)
  }
  const metric = async (name: string) =>
    (await collected()).find(({ descriptor }) => descriptor.name === name)
  return {
    metrics: collected,
    metric,
    async value(name, attributes = {}) {
      const point = (await metric(name))?.dataPoints.find(
        (one) => JSON.stringify(one.attributes) === JSON.stringify(attributes),
      )
      return point?.value as number
    },
    stop,
  }
}

function attributesOf({ names, label }: Move): Record<string, string> {
  const figure = FIGURES.find(({ name }) => name === names[1])
  return label === undefined ? {} : { [figure?.label as string]: label }
}

it.each(MOVES)('$names.1 ($label) moves when $when', async (move) => {
  const live = await liveSluice(move.options)
  const { value } = observed(live)
  const read = () => value(move.names[1], attributesOf(move))
  expect(await read()).toBe(0)
  await move.play(live)
  if (move.becomes === 'more than 0') expect(await read()).toBeGreaterThan(0)
  else expect(await read()).toBe(move.becomes)
})

it('tells each figure with its unit, as what only grows, adds up, or neither', async () => {
  const all = await observed(await liveSluice()).metrics()
  const described = all.map((metric) => ({
    name: metric.descriptor.name,
    unit: metric.descriptor.unit,
    kind: metric.dataPointType === DataPointType.SUM ? (metric.isMonotonic ? 'counter' : 'sum') : 'gauge',
  }))
  expect(described).toEqual(FIGURES.map(({ name, unit, kind }) => ({ name, unit, kind })))
})

it('records how long a stream was open when it ends, with its reason', async () => {
  const live = await liveSluice()
  const { metric } = observed(live)
  await live.client()
  await live.sse.close({ reason: 'completed' })
  const { durationMs } = await live.sse.closed
  const { descriptor, dataPoints } = (await metric(DURATION.name)) as HistogramMetricData
  expect(descriptor.unit).toBe('s')
  expect(dataPoints).toHaveLength(1)
  expect(dataPoints[0]).toMatchObject({
    attributes: { reason: 'completed' },
    value: {
      count: 1,
      sum: durationMs / 1000,
      buckets: { boundaries: [0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600] },
    },
  })
})

it('records nothing of another Sluice of the process', async () => {
  const one = await liveSluice()
  const other = await liveSluice()
  const { metric } = observed(one)
  await other.client()
  await other.sse.close()
  await other.sse.closed
  expect(await metric(DURATION.name)).toBeUndefined()
})

it('asks the Sluice once for each collection, and not in between', async () => {
  const live = await liveSluice()
  const { metrics } = observed(live)
  const stats = vi.spyOn(live.sluice, 'stats')
  await live.client()
  await live.sse.send({ data: 1 })
  expect(stats).not.toHaveBeenCalled()
  await metrics()
  expect(stats).toHaveBeenCalledTimes(1)
})

it('stops when it is told to', async () => {
  const live = await liveSluice()
  const { metrics, stop } = observed(live)
  stop()
  stop()
  const stats = vi.spyOn(live.sluice, 'stats')
  await live.client()
  await live.sse.close()
  await live.sse.closed
  expect((await metrics()).filter(({ dataPoints }) => dataPoints.length > 0)).toEqual([])
  expect(stats).not.toHaveBeenCalled()
})

it('asks the global provider for a meter when it is given none', async () => {
  const reader = new TestReader()
  const provider = new MeterProvider({ readers: [reader] })
  metrics.setGlobalMeterProvider(provider)
  onTestFinished(() => metrics.disable())
  const { sluice } = await liveSluice()
  onTestFinished(observeMetrics(sluice))
  const { resourceMetrics } = await reader.collect()
  expect(resourceMetrics.scopeMetrics.map(({ scope }) => scope.name)).toEqual(['sluice'])
})

it('does no harm without an SDK', async () => {
  const live = await liveSluice()
  const stop = observeMetrics(live.sluice)
  await live.client()
  await live.sse.close()
  await live.sse.closed
  stop()
})
