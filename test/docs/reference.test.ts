import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, it, onTestFinished } from 'vitest'
import { ROOT } from './markdown.js'

/** What the index of the reference says of one export. */
const ENTRY = /^- \[(\w+)\]\((\S+)\)$/gm

it('the reference is made of doc comments, of which none is missing and no link is broken', () => {
  const out = mkdtempSync(join(tmpdir(), 'sluice-reference-'))
  onTestFinished(() => rmSync(out, { recursive: true }))
  const typedoc = join(ROOT, 'node_modules/typedoc/bin/typedoc')
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [typedoc, '--out', out, '--pretty', 'false'],
    {
      cwd: ROOT,
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
    },
  )
  const complaints = `${stdout}${stderr}`.split('\n').filter((line) => /^\[(warning|error)\]/.test(line))
  expect({ complaints, status }).toEqual({ complaints: [], status: 0 })

  const entries = [...readFileSync(join(out, 'README.md'), 'utf8').matchAll(ENTRY)]
  expect(entries.map(([, name]) => name).sort()).toEqual(exportsOf(`${ROOT}src/index.ts`).sort())
  const files = readdirSync(out, { recursive: true }).map(String)
  expect(files).toEqual(expect.arrayContaining(entries.map(([, , path]) => path)))
}, 60_000)

function exportsOf(path: string): string[] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2022)
  return source.statements.flatMap((statement) => {
    if (!ts.isExportDeclaration(statement) || statement.exportClause === undefined) return []
    if (!ts.isNamedExports(statement.exportClause)) return []
    return statement.exportClause.elements.map(({ name }) => name.text)
  })
}
