import { readFileSync } from 'node:fs'
import { parser } from '@prometheus-io/lezer-promql'
import { Registry } from 'prom-client'
import { createMetricsHandler, registerMetrics } from 'sluice/prometheus'
import { describe, expect, it } from 'vitest'
import { ROOT } from '../docs/markdown.js'
import { comeBack, liveSluice } from '../support/figures.js'
import { serve } from '../support/server.js'
import { type Sample, scrape } from './scrape.js'

interface Panel {
  id: number
  type: string
  title: string
  description?: string
  datasource?: { type: string; uid: string }
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: { refId: string; expr: string; datasource: { uid: string }; legendFormat: string }[]
}

const dashboard = JSON.parse(readFileSync(`${ROOT}docs/grafana-dashboard.json`, 'utf8'))
const panels: Panel[] = dashboard.panels
const graphs = panels.filter(({ type }) => type !== 'row')
const queries = graphs.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })))

/** The names of metrics in a query, and the labels it groups by. */
function namesIn(query: string): { metrics: string[]; labels: string[]; errors: number } {
  // Grafana puts a duration there.
  const text = query.replaceAll('$__rate_interval', '5m')
  const found = { metrics: [] as string[], labels: [] as string[], errors: 0 }
  parser.parse(text).iterate({
    enter(node) {
      const words = text.slice(node.from, node.to)
      if (node.type.isError) found.errors += 1
      else if (node.name === 'Identifier') found.metrics.push(words)
      else if (node.name === 'LabelName') found.labels.push(words)
    },
  })
  return found
}

/** What a scrape shows of a Sluice that has had real clients. */
async function exported(): Promise<Sample[]> {
  const registry = new Registry()
  const live = await liveSluice({ limits: { maxConnections: 1 } })
  registerMetrics(live.sluice, { registry })
  await comeBack(live, 1)
  await live.client()
  const { url } = await serve(createMetricsHandler({ registry }))
  return (await scrape(url)).samples
}

describe('the dashboard for Grafana', () => {
  it.each(queries)('asks in PromQL: $title, $expr', ({ expr }) => {
    const { metrics, errors } = namesIn(expr)
    expect(errors).toBe(0)
    expect(metrics.length).toBeGreaterThan(0)
  })

  it('asks for metrics that are exported, by labels they have', async () => {
    const samples = await exported()
    const unknown = queries.flatMap(({ expr }) => {
      const { metrics, labels } = namesIn(expr)
      return metrics.flatMap((metric) => {
        const sample = samples.find(({ name }) => name === metric)
        if (sample === undefined) return metric
        // Prometheus adds these two.
        const known = ['job', 'instance', ...Object.keys(sample.labels)]
        return labels.filter((label) => !known.includes(label)).map((label) => `${metric}{${label}}`)
      })
    })
    expect(unknown).toEqual([])
  })

  it('shows every metric that is exported', async () => {
    const asked = new Set(queries.flatMap(({ expr }) => namesIn(expr).metrics))
    const names = new Set((await exported()).map(({ name }) => name))
    expect([...names].filter((name) => !asked.has(name))).toEqual([])
  })

  it('can be imported: it asks for its data source, and every panel uses that one', () => {
    expect(dashboard).toMatchObject({ title: 'sluice', schemaVersion: 39 })
    expect(dashboard.templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' })
    for (const { datasource, targets = [] } of graphs) {
      expect([datasource?.uid, ...targets.map((target) => target.datasource.uid)]).toEqual(
        Array(targets.length + 1).fill(`\${datasource}`),
      )
    }
    const variables = dashboard.templating.list.map(({ name }: { name: string }) => name)
    const used = queries.flatMap(({ expr }) => [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name))
    expect([...new Set(used)].filter((name) => !variables.includes(name))).toEqual(['__rate_interval'])
  })

  it('has a place, a title and a description for each panel', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    expect(graphs.filter(({ title, description }) => !title || !description)).toEqual([])
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => {
      expect(x + w).toBeLessThanOrEqual(24)
      return Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`)
    })
    expect(new Set(cells).size).toBe(cells.length)
  })
})
