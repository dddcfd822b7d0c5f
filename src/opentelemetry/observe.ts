import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import {
  type BatchObservableCallback,
  type Meter,
  type MetricOptions,
  metrics,
  type Observable,
} from '@opentelemetry/api'
import { DURATION, FIGURES, type Figure, type StatsSource } from '../metrics/figures.js'

/** Options of `observeMetrics`. */
export interface ObserveOptions {
  /** Who makes the instruments. Default: `metrics.getMeter('sluice')` of the global provider, as it is set then. */
  meter?: Meter | undefined
}

/** Where each stream tells its end, with `durationMs`, `reason` and the Sluice it was of. */
const TERMINATED = 'sluice:connection:terminated'

/**
 * Makes instruments for the figures of a Sluice. They are read from `sluice.stats()` when the reader of the provider
 * collects, once for all. The duration of a stream is recorded when it ends: there is no instrument that observes a
 * histogram that was counted elsewhere. For a second Sluice, give a Meter of another name.
 *
 * @returns what stops it.
 */
export function observeMetrics(sluice: StatsSource, options: ObserveOptions = {}): () => void {
  const meter = options.meter ?? metrics.getMeter('sluice')
  const observed = FIGURES.map((figure) => ({ figure, instrument: instrumentOf(figure, meter) }))
  const instruments = observed.map(({ instrument }) => instrument)
  const observe: BatchObservableCallback = (result) => {
    const stats = sluice.stats()
    for (const { figure, instrument } of observed) {
      for (const [name, value] of figure.read(stats)) {
        result.observe(instrument, value, figure.label === null ? {} : { [figure.label]: name })
      }
    }
  }
  meter.addBatchObservableCallback(observe, instruments)

  const durations = meter.createHistogram(DURATION.name, {
    description: DURATION.help,
    unit: DURATION.unit,
    advice: {
      explicitBucketBoundaries: sluice.stats().durations.buckets.map(({ leSeconds }) => leSeconds),
    },
  })
  const record = (message: unknown) => {
    const ended = message as { sluice: unknown; durationMs: number; reason: string }
    if (ended.sluice === sluice) durations.record(ended.durationMs / 1000, { reason: ended.reason })
  }
  subscribe(TERMINATED, record)

  return () => {
    unsubscribe(TERMINATED, record)
    meter.removeBatchObservableCallback(observe, instruments)
  }
}

function instrumentOf({ name, kind, unit, help }: Figure, meter: Meter): Observable {
  const options: MetricOptions = { description: help, unit }
  if (kind === 'counter') return meter.createObservableCounter(name, options)
  if (kind === 'sum') return meter.createObservableUpDownCounter(name, options)
  return meter.createObservableGauge(name, options)
}
