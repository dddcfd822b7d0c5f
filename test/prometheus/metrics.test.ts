import { setTimeout as wait } from 'node:timers/promises'
import { AggregatorRegistry, Gauge, type OpenMetricsContentType, Registry, register } from 'prom-client'
import { createMetricsHandler, type MetricsRegistry, registerMetrics } from 'sluice/prometheus'
import { expect, it, onTestFinished, vi } from 'vitest'
import { CLOSE_REASONS } from '../../src/close-reason.js'
import { DURATION, FIGURES, prometheusName } from '../../src/metrics/figures.js'
import { type LiveSluice, liveSluice, MOVES, type Move } from '../support/figures.js'
import { serve } from '../support/server.js'
import { type Scrape, scrape } from './scrape.js'

/** Serves the metrics of a Sluice on a port of their own; returns what scrapes them. */
async function exported(
  { sluice }: LiveSluice,
  registry: MetricsRegistry = new Registry(),
): Promise<() => Promise<Scrape>> {
  registerMetrics(sluice, { registry })
  const { url } = await serve(createMetricsHandler({ registry }))
  return () => scrape(`${url}metrics`)
}

function labelsOf({ names, label }: Move): Record<string, string> {
  const figure = FIGURES.find((one) => prometheusName(one) === names[0])
  return label === undefined ? {} : { [figure?.label as string]: label }
}

it.each(MOVES)('$names.0 ($label) moves when $when', async (move) => {
  const live = await liveSluice(move.options)
  const scraped = await exported(live)
  const value = async () => (await scraped()).value(move.names[0], labelsOf(move)) as number
  expect(await value()).toBe(0)
  await move.play(live)
  if (move.becomes === 'more than 0') expect(await value()).toBeGreaterThan(0)
  else expect(await value()).toBe(move.becomes)
})

it('shows each figure under a name that says its unit, with its type', async () => {
  const { types } = await (await exported(await liveSluice()))()
  const moved = new Set(MOVES.map(({ names: [name] }) => name))
  expect([...types.keys()].sort()).toEqual([...moved, 'sluice_connection_duration_seconds'].sort())
  for (const [name, type] of types) {
    const isCounter = name.endsWith('_total')
    expect([name, type]).toEqual([
      name,
      name === prometheusName(DURATION) ? 'histogram' : isCounter ? 'counter' : 'gauge',
    ])
  }
})

it('shows how long streams were open as a histogram', async () => {
  const live = await liveSluice()
  const scraped = await exported(live)
  await live.client()
  await wait(120)
  await live.sse.close()
  const { durationMs } = await live.sse.closed
  const { value, samples } = await scraped()
  const name = 'sluice_connection_duration_seconds'
  expect(value(`${name}_count`)).toBe(1)
  expect(value(`${name}_sum`)).toBe(durationMs / 1000)
  const buckets = samples.filter((sample) => sample.name === `${name}_bucket`)
  expect(buckets.map(({ labels }) => labels.le)).toEqual(
    '0.1 0.5 1 5 15 60 300 900 1800 3600 +Inf'.split(' '),
  )
  expect(buckets.map(({ value }) => value)).toEqual([0, ...buckets.slice(1).map(() => 1)])
})

it('shows every reason and cause before it occurs, so that the first is an increase', async () => {
  const { samples } = await (await exported(await liveSluice()))()
  const of = (name: string) => samples.filter((sample) => sample.name === name)
  const reasons = of('sluice_connections_closed_total').map(({ labels }) => labels.reason)
  expect(reasons.sort()).toEqual([...CLOSE_REASONS].sort())
  expect(of('sluice_connections_refused_total')).toHaveLength(13)
  expect(of('sluice_connections_opened_by_client_total')).toHaveLength(11)
})

it('asks the Sluice once for each scrape, and not in between', async () => {
  const live = await liveSluice()
  const stats = vi.spyOn(live.sluice, 'stats')
  const scraped = await exported(live)
  await live.client()
  await live.sse.send({ data: 1 })
  expect(stats).not.toHaveBeenCalled()
  await scraped()
  expect(stats).toHaveBeenCalledTimes(1)
  await scraped()
  expect(stats).toHaveBeenCalledTimes(2)
})

it('puts them into the default registry when none is given, and takes them out again', async () => {
  const { sluice } = await liveSluice()
  const { url } = await serve(createMetricsHandler())
  const stop = registerMetrics(sluice)
  onTestFinished(stop)
  expect((await scrape(url)).value('sluice_connections_open')).toBe(0)
  expect(register.getSingleMetric('sluice_connections_open')).toBeDefined()
  stop()
  stop()
  expect(register.getMetricsAsArray()).toEqual([])
})

it('refuses a registry that has one of the names, and leaves it as it was', async () => {
  const { sluice } = await liveSluice()
  const registry = new Registry()
  const other = new Gauge({ name: 'sluice_loop_lag_seconds', help: 'Another one.', registers: [registry] })
  expect(() => registerMetrics(sluice, { registry })).toThrow(/sluice_loop_lag_seconds already; .*own/)
  expect(registry.getMetricsAsArray()).toEqual([other])
})

it('keeps two Sluices of a process apart in registries of their own', async () => {
  const one = await liveSluice()
  const other = await liveSluice()
  const scrapeOne = await exported(one)
  const scrapeOther = await exported(other)
  await one.client()
  expect((await scrapeOne()).value('sluice_connections_opened_total')).toBe(1)
  expect((await scrapeOther()).value('sluice_connections_opened_total')).toBe(0)
})

it('writes OpenMetrics when the registry does', async () => {
  const live = await liveSluice()
  const registry = new Registry<OpenMetricsContentType>()
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const scraped = await exported(live, registry)
  await live.client()
  await scraped()
  const { contentType, value, text } = await scraped()
  expect(contentType).toMatch(/^application\/openmetrics-text/)
  expect(value('sluice_connections_opened_total')).toBe(1)
  expect(text).toMatch(/# EOF\n$/)
})

it('adds the labels of the registry, to the histogram too', async () => {
  const live = await liveSluice()
  const registry = new Registry()
  registry.setDefaultLabels({ app: 'orders' })
  const { value } = await (await exported(live, registry))()
  expect(value('sluice_connections_open', { app: 'orders' })).toBe(0)
  expect(value('sluice_connection_duration_seconds_bucket', { le: '0.1', app: 'orders' })).toBe(0)
})

it('adds the processes of a cluster up, and takes the greatest loop lag', async () => {
  const lags = [0.2, 0.1]
  const ofProcesses = await Promise.all(
    lags.map(async (lag) => {
      const live = await liveSluice()
      const registry = new Registry()
      const stats = live.sluice.stats.bind(live.sluice)
      registerMetrics({ stats: () => ({ ...stats(), loopLagMs: lag * 1000 }) }, { registry })
      await live.client()
      await live.sse.close()
      await live.client()
      return registry.getMetricsAsJSON()
    }),
  )
  const { url } = await serve(createMetricsHandler({ registry: AggregatorRegistry.aggregate(ofProcesses) }))
  const { value } = await scrape(url)
  expect(value('sluice_connections_open')).toBe(2)
  expect(value('sluice_connections_opened_total')).toBe(4)
  expect(value('sluice_connection_duration_seconds_count')).toBe(2)
  expect(value('sluice_connection_duration_seconds_bucket', { le: '+Inf' })).toBe(2)
  expect(value('sluice_loop_lag_seconds')).toBe(0.2)
})

it('says 500 and warns when a metric of somebody else throws', async () => {
  const registry = new Registry()
  new Gauge({
    name: 'broken',
    help: 'Throws.',
    registers: [registry],
    collect() {
      throw new Error('on purpose')
    },
  })
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
  const { url } = await serve(createMetricsHandler({ registry }))
  const response = await fetch(url)
  expect([response.status, await response.text()]).toEqual([500, 'The metrics could not be collected.\n'])
  await expect(warned).resolves.toMatchObject({ name: 'SSEWarning', message: 'Error: on purpose' })
})
