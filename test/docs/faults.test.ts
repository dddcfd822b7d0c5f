import { readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { CLOSE_REASONS } from '../../src/close-reason.js'
import { FAULTS } from '../faults/faults.js'
import { ROOT, readPage, tableRows } from './markdown.js'

const rows = tableRows(readPage('docs/faults.md'), '## What was done, and what came of it')

it('the docs have a row for every fault that the tests make, and for no other', () => {
  expect(rows.map(([fault, how]) => [fault, how])).toEqual(Object.values(FAULTS))
})

it('every fault of the docs is recorded by a test', () => {
  const folder = `${ROOT}test/faults/`
  const tests = readdirSync(folder).filter((name) => name.endsWith('.test.ts'))
  const text = tests.map((name) => readFileSync(folder + name, 'utf8')).join('\n')
  expect(Object.keys(FAULTS).filter((name) => !text.includes(`'${name}'`))).toEqual([])
})

it('the docs give close reasons that there are, for each fault that closes streams', () => {
  for (const [fault, , , reasons = ''] of rows) {
    const names = [...reasons.matchAll(/`([^`]+)`/g)].map(([, name]) => name)
    if (reasons !== 'none') expect(names, fault).not.toEqual([])
    for (const name of names) expect(CLOSE_REASONS).toContain(name)
  }
})
