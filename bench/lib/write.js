// Writes what was measured into the documentation.
import { readFile, writeFile } from 'node:fs/promises'
import { draw } from './chart.js'

const PAGE = new URL('../../docs/benchmarks.md', import.meta.url)
const PICTURE = new URL('../../docs/benchmarks.svg', import.meta.url)
const MARKED = /(<!-- bench -->\n)[\s\S]*?(<!-- \/bench -->)/

export async function write({ at, machine, table, notes, charts }) {
  const page = await readFile(PAGE, 'utf8')
  if (!MARKED.test(page))
    throw new Error('docs/benchmarks.md has no place between <!-- bench --> and <!-- /bench -->')
  const measured = [
    '![Bars for each scenario](benchmarks.svg)',
    `Measured on ${at.slice(0, 10)}: ${machine}.`,
    table,
    'How each was measured:',
    notes.map((note) => `- ${note}`).join('\n'),
  ].join('\n\n')
  await writeFile(
    PAGE,
    page.replace(MARKED, (_, before, after) => `${before}\n${measured}\n\n${after}`),
  )
  await writeFile(PICTURE, draw(charts))
  return [PAGE, PICTURE]
}
