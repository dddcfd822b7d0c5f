import { expect, it } from 'vitest'
import { SERVERS } from '../frameworks/servers.js'
import { CELLS, COLUMNS } from '../frameworks/table.js'
import { readPage } from './markdown.js'

const [heads = [], , ...rows] = tableIn(readPage('docs/frameworks.md').text)

function tableIn(text: string): string[][] {
  const [, table = ''] = /<!-- servers -->\n([\s\S]*?)<!-- \/servers -->/.exec(text) ?? []
  const lines = table.split('\n').filter((line) => line.startsWith('|'))
  return lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
}

it('the table of servers has a row for each that is tested, and no other', () => {
  expect(rows.map(([name]) => name)).toEqual(SERVERS.map(({ name }) => name))
})

it('the table of servers has a column for each thing that is measured, and no other', () => {
  expect(heads).toEqual(COLUMNS.map(({ name }) => name))
})

it('each cell of the table of servers is what a run gives', () => {
  const strange = rows.flatMap((cells) =>
    cells.slice(1).filter((cell, at) => CELLS[heads[at + 1] ?? '']?.test(cell) !== true),
  )
  expect(strange).toEqual([])
})
