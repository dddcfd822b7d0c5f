import type { Measurements } from './measure.js'
import type { ServerUnderTest } from './servers.js'

/** What one server has shown, alone and with compression on; null where there is none. */
export interface Results {
  server: ServerUnderTest
  plain: Measurements
  compressed: Measurements | null
}

/** The columns of the table in docs/frameworks.md, and how a cell is made of a run. */
export const COLUMNS: readonly { name: string; cell(results: Results): string }[] = [
  { name: 'server', cell: ({ server }) => server.name },
  { name: 'push', cell: ({ plain }) => ms(plain.pushMs) },
  {
    name: 'backpressure',
    cell: ({ plain }) => `after ${(plain.heldBackAfterBytes / 1e6).toFixed(1)} MB`,
  },
  { name: 'disconnect seen', cell: ({ plain }) => ms(plain.disconnectSeenMs) },
  { name: 'resume', cell: ({ plain }) => `${plain.resumed.length} of 3` },
  { name: 'shutdown', cell: ({ plain }) => ms(plain.shutdownMs) },
  {
    name: 'compression',
    cell: ({ server, compressed }) =>
      compressed === null ? 'none' : `${server.compression}: push ${ms(compressed.pushMs)}`,
  },
]

/** What a cell of a column may look like, whatever the run. */
export const CELLS: Readonly<Record<string, RegExp>> = {
  push: /^\d+ ms$/,
  backpressure: /^after \d+\.\d MB$/,
  'disconnect seen': /^\d+ ms$/,
  resume: /^3 of 3$/,
  shutdown: /^\d+ ms$/,
  compression: /^(none|.+: push \d+ ms)$/,
}

export function tableOf(results: readonly Results[]): string {
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [
    row(COLUMNS.map(({ name }) => name)),
    row(COLUMNS.map(() => '---')),
    ...results.map((result) => row(COLUMNS.map(({ cell }) => cell(result)))),
  ].join('\n')
}

function ms(value: number): string {
  return `${Math.max(1, Math.round(value))} ms`
}
