import { Histogram } from 'prom-client'
import type { DurationHistogram } from 'sluice'
import type { MetricsRegistry } from './register.js'

type Exported = Awaited<ReturnType<Histogram['get']>>

/** A histogram that was counted elsewhere: prom-client's own can only observe values one by one. */
export class DurationMetric extends Histogram {
  readonly #about: Pick<Exported, 'name' | 'help'>
  readonly #durations: () => DurationHistogram

  constructor(name: string, help: string, registry: MetricsRegistry, durations: () => DurationHistogram) {
    super({ name, help, registers: [registry] })
    this.#about = { name, help }
    this.#durations = durations
  }

  override async get(): Promise<Exported> {
    const { name } = this.#about
    const { buckets, count, sumSeconds } = this.#durations()
    const bucket = (le: string | number, value: number) => ({
      metricName: `${name}_bucket`,
      labels: { le },
      value,
    })
    return {
      ...this.#about,
      // The declared type is an enum that prom-client does not have at run time.
      type: 'histogram',
      aggregator: 'sum',
      values: [
        ...buckets.map(({ leSeconds, count }) => bucket(leSeconds, count)),
        bucket('+Inf', count),
        { metricName: `${name}_sum`, labels: {}, value: sumSeconds },
        { metricName: `${name}_count`, labels: {}, value: count },
      ],
    } as unknown as Exported
  }

  /** What prom-client asks in place of `get` for the text format; its types do not say. */
  getForPromString(): Promise<Exported> {
    return this.get()
  }
}
