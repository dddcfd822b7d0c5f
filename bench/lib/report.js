import { mkdir, writeFile } from 'node:fs/promises'
import { arch, cpus, platform, release } from 'node:os'
import { decimals, range } from './format.js'
import { judge } from './targets.js'

const COLUMNS = ['scenario', 'measured', 'sluice', 'peer', 'seen (range over rounds)', 'target', 'met']
const RESULTS = new URL('../results/', import.meta.url)

export function machine() {
  const cores = cpus()
  return `${cores[0]?.model ?? 'unknown CPU'}, ${cores.length} cores; Node ${process.version}; ${platform()} ${release()} ${arch()}`
}

/** Markdown, one row for each comparison. */
export function table(rows) {
  const lines = rows.map((row) => {
    const { target, met } = judge(row)
    const seen =
      row.ratio === undefined ? range(row.value, row.show ?? String) : range(row.ratio, decimals(2))
    const unit = row.ratio === undefined ? '' : ' ×'
    return [row.scenario, row.measured, row.ours, row.peer ?? '', seen + unit, target, met]
  })
  const separator = COLUMNS.map(() => '---')
  return [COLUMNS, separator, ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** Keeps everything that was measured; returns where. */
export async function keep(results) {
  await mkdir(RESULTS, { recursive: true })
  const file = new URL(`${results.at.replaceAll(':', '-')}.json`, RESULTS)
  await writeFile(file, `${JSON.stringify(results, null, 2)}\n`)
  return file
}
