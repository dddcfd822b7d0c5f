import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import ts from 'typescript'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { ROOT, readPage } from '../docs/markdown.js'
import { Program } from '../docs/program.js'
import { type Snippet, snippetsOf } from '../docs/snippets.js'
import { until } from '../support/until.js'

/** The first programs of the README: what somebody tries who has just installed the package. */
const snippets = snippetsOf(readPage('README.md')).slice(0, 3)
let folder = ''

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-package-'))
  const [{ filename }] = JSON.parse(
    npm(ROOT, 'pack', '--json', '--ignore-scripts', '--pack-destination', folder),
  )
  writeFileSync(join(folder, 'package.json'), '{"private":true}')
  npm(folder, 'install', '--no-save', '--prefer-offline', '--no-audit', '--no-fund', `./${filename}`)
}, 180_000)

afterAll(() => {
  if (folder !== '') rmSync(folder, { recursive: true })
})

describe('the packed package in an empty project', () => {
  it.each(snippets)('runs what the README shows, as an ES module: $name', async (snippet) => {
    await answers(snippet, write('program.mjs', snippet.code))
  })

  it.each(snippets)('runs what the README shows, as CommonJS: $name', async (snippet) => {
    const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 }
    const code = ts.transpileModule(snippet.code, { compilerOptions }).outputText
    expect(code).toContain('require("sluice")')
    await answers(snippet, write('program.cjs', code))
  })

  it('has the subpaths that need no peer, too', () => {
    for (const [name, code] of [
      ['testing.mjs', "import { FakeTransport } from 'sluice/testing'\nconsole.log(typeof FakeTransport)"],
      ['testing.cjs', "console.log(typeof require('sluice/testing').FakeTransport)"],
      ['fastify.mjs', "import { fastifySSE } from 'sluice/fastify'\nconsole.log(typeof fastifySSE)"],
      ['fastify.cjs', "console.log(typeof require('sluice/fastify').fastifySSE)"],
    ] as const) {
      expect(execFileSync(process.execPath, [write(name, code)], { encoding: 'utf8' })).toBe('function\n')
    }
  })
})

function npm(cwd: string, ...words: string[]): string {
  return execFileSync('npm', words, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function write(name: string, code: string): string {
  const path = join(folder, name)
  writeFileSync(path, code)
  return path
}

async function answers({ exchanges: [exchange] }: Snippet, path: string): Promise<void> {
  if (exchange === undefined) throw new Error('The program does not serve.')
  const program = new Program(path)
  onTestFinished(() => program.stop())
  const answer = await program.fetch(exchange.path, exchange)
  await until(() => answer.body.includes('event: connected\n') || !program.isRunning, 'the stream begins')
  expect({ stderr: program.stderr, isRunning: program.isRunning }).toEqual({ stderr: '', isRunning: true })
  answer.leave()
}
