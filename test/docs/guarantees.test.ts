import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ROOT, readPage, readPages } from './markdown.js'
import { SEPARATOR, testTitlesIn } from './titles.js'

const REFERENCE = new RegExp(`^- \`(test/[^\`]+)\`${SEPARATOR}(.+)$`, 'gm')

const references = readPages().flatMap(({ path, text }) =>
  [...text.matchAll(REFERENCE)].map(([, file = '', title = '']) => ({ page: path, file, title })),
)

describe('each test that the docs name', () => {
  it.each(references)('is there: $file › $title', ({ file, title }) => {
    expect(existsSync(ROOT + file), `${file} exists`).toBe(true)
    expect(testTitlesIn(ROOT + file)).toContain(title)
  })
})

describe('the guarantees', () => {
  const sections = readPage('docs/guarantees.md').text.split(/^## /m).slice(1)
  const numbered = sections.filter((section) => /^\d+\. /.test(section))

  it('are the ten invariants', () => {
    expect(numbered.map((section) => Number.parseInt(section, 10))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })

  it.each(numbered.map((section) => [section.split('\n', 1)[0], section]))(
    'have a test each: %s',
    (_, section) => {
      expect(section?.match(REFERENCE)?.length ?? 0).toBeGreaterThan(0)
    },
  )
})

describe('the attacks that the docs name', () => {
  const attacks = readPage('docs/security.md')
    .text.split(/^## /m)
    .slice(1)
    .map((section) => [section.split('\n', 1)[0], section])
    .filter(([title]) => title !== 'What is yours to do')

  it.each(attacks)('have a test each: %s', (_, section) => {
    expect(section?.match(REFERENCE)?.length ?? 0).toBeGreaterThan(0)
  })
})
