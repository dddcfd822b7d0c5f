import {
  Counter,
  Gauge,
  type OpenMetricsContentType,
  type PrometheusContentType,
  type Registry,
  register,
} from 'prom-client'
import type { SluiceStats } from 'sluice'
import { DURATION, FIGURES, type Figure, prometheusName, type StatsSource } from '../metrics/figures.js'
import { DurationMetric } from './duration-metric.js'

/** A registry of prom-client, for the Prometheus text format or for OpenMetrics. */
export type MetricsRegistry = Registry<PrometheusContentType> | Registry<OpenMetricsContentType>

/** Options of `registerMetrics`. */
export interface MetricsOptions {
  /** Where the metrics go. Default: the default registry of prom-client, `register`. */
  registry?: MetricsRegistry | undefined
}

/**
 * Registers the metrics of a Sluice. They are read from `sluice.stats()` when somebody scrapes, once for each scrape;
 * between scrapes they cost nothing. A registry takes one Sluice: give a second one a registry of its own.
 *
 * @returns what takes them out of the registry.
 * @throws Error when the registry has a metric of one of these names; then it is left as it was.
 */
export function registerMetrics(sluice: StatsSource, options: MetricsOptions = {}): () => void {
  const registry = options.registry ?? register
  const names = [...FIGURES, DURATION].map(prometheusName)
  const taken = names.find((name) => registry.getSingleMetric(name) !== undefined)
  if (taken !== undefined) {
    throw new Error(
      `The registry has a metric ${taken} already; register a Sluice once, and another one in a Registry of its own.`,
    )
  }
  const stats = oncePerScrape(sluice)
  for (const figure of FIGURES) registerFigure(figure, registry, stats)
  new DurationMetric(prometheusName(DURATION), DURATION.help, registry, () => stats().durations)
  const registered = names.map((name) => [name, registry.getSingleMetric(name)] as const)
  return () => {
    for (const [name, metric] of registered) {
      if (registry.getSingleMetric(name) === metric) registry.removeSingleMetric(name)
    }
  }
}

function registerFigure(figure: Figure, registry: MetricsRegistry, stats: () => SluiceStats): void {
  const { kind, help, label } = figure
  const configuration = {
    name: prometheusName(figure),
    help,
    labelNames: label === null ? [] : [label],
    registers: [registry],
  }
  const labelled = () =>
    figure.read(stats()).map(([name, value]) => [label === null ? {} : { [label]: name }, value] as const)
  if (kind === 'counter') {
    new Counter({
      ...configuration,
      collect() {
        this.reset()
        for (const [labels, value] of labelled()) this.inc(labels, value)
      },
    })
  } else {
    new Gauge({
      ...configuration,
      // For what adds the processes of a cluster up.
      aggregator: kind === 'sum' ? 'sum' : 'max',
      collect() {
        for (const [labels, value] of labelled()) this.set(labels, value)
      },
    })
  }
}

/** A registry asks all its metrics in one turn: they share what the Sluice said to the first. */
function oncePerScrape(sluice: StatsSource): () => SluiceStats {
  let current: SluiceStats | null = null
  return () => {
    if (current === null) {
      current = sluice.stats()
      queueMicrotask(() => {
        current = null
      })
    }
    return current
  }
}
