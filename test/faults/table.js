// Prints what the fault tests found as the table of docs/faults.md:
//   FAULTS_REPORT=/tmp/faults.jsonl npx vitest run test/faults && node test/faults/table.js /tmp/faults.jsonl
import { readFileSync } from 'node:fs'

const [file] = process.argv.slice(2)
if (file === undefined) throw new Error('Which file? Say the one that FAULTS_REPORT named.')

const records = readFileSync(file, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))

const shown = (ms) =>
  ms === null ? '' : ms < 1000 ? `${Number(ms.toPrecision(2))} ms` : `${(ms / 1000).toFixed(1)} s`

const rows = records.map(({ fault, how, repetitions, medianMs, maxMs, reason, left }) => {
  const time = repetitions === 0 ? 'closes nothing' : `${shown(medianMs)}, ${shown(maxMs)} (${repetitions})`
  const reasons = reason.map((name) => `\`${name}\``).join(', ')
  return `| ${fault} | ${how} | ${time} | ${reasons === '' ? 'none' : reasons} | ${left} |`
})

console.log(
  [
    '| fault | how it is made | seen after: median, max (of) | reason | left behind |',
    '|---|---|---|---|---|',
    ...rows,
  ].join('\n'),
)
