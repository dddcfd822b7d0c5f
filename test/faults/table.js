// Runs the fault tests, and prints what they found as the table of docs/faults.md.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const HEAD = [
  '| fault | how it is made | seen after: median, longest (of) | reason | afterwards |',
  '|---|---|---|---|---|',
]

const folder = mkdtempSync(join(tmpdir(), 'sluice-faults-'))
const report = join(folder, 'report.jsonl')
const { status } = spawnSync('npx', ['vitest', 'run', 'test/faults'], {
  env: { ...process.env, FAULTS_REPORT: report },
  // stdout is for the table.
  stdio: ['ignore', 2, 2],
})
const lines = readFileSync(report, 'utf8').trim().split('\n')
rmSync(folder, { recursive: true })
const records = lines.map((line) => JSON.parse(line)).sort((a, b) => a.place - b.place)
console.log([...HEAD, ...records.map(rowOf)].join('\n'))
process.exitCode = status ?? 1

function rowOf({ fault, how, repetitions, medianMs, maxMs, reason, left }) {
  const time = repetitions === 0 ? '' : `${shown(medianMs)}, ${shown(maxMs)} (${repetitions})`
  const reasons = reason.map((name) => `\`${name}\``).join(', ')
  return `| ${[fault, how, time, reasons === '' ? 'none' : reasons, left].join(' | ')} |`
}

function shown(ms) {
  return ms < 1000 ? `${Number(ms.toPrecision(2))} ms` : `${(ms / 1000).toFixed(1)} s`
}
