import { get } from 'node:http'
import { text } from 'node:stream/consumers'

/** One line of a scrape. */
export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export interface Scrape {
  status: number
  contentType: string | undefined
  text: string
  samples: Sample[]
  /** The type of each metric, by name. */
  types: Map<string, string>
  /** The value of a sample; undefined when there is none. */
  value(name: string, labels?: Record<string, string>): number | undefined
}

/** Asks a metrics endpoint over HTTP and reads the text format. */
export async function scrape(url: string): Promise<Scrape> {
  const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    get(url, { agent: false }, resolve).once('error', reject)
  })
  const body = await text(response)
  const samples = body
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map(sampleOf)
  return {
    status: response.statusCode ?? 0,
    contentType: response.headers['content-type'],
    text: body,
    samples,
    types: new Map(
      [...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
    ),
    value: (name, labels = {}) =>
      samples.find(
        (sample) => sample.name === name && JSON.stringify(sample.labels) === JSON.stringify(labels),
      )?.value,
  }
}

function sampleOf(line: string): Sample {
  const [, name = '', inner = '', value = ''] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
  if (name === '') throw new Error(`Not a line of the text format: ${line}`)
  const labels = [...inner.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = '', said = '']) => [label, said])
  return { name, labels: Object.fromEntries(labels), value: Number(value) }
}
