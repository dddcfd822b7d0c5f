import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { until } from '../support/until.js'
import { ROOT, readPages } from './markdown.js'
import { type Answer, Program } from './program.js'
import {
  asJavaScript,
  type Exchange,
  goesOn,
  lastIdOf,
  matches,
  type Snippet,
  snippetsOf,
  typeErrorsOf,
} from './snippets.js'

const pages = readPages()
const snippets = pages.flatMap(snippetsOf)
/** Inside the package: there `sluice` is the built package itself, as its users get it. */
const shelf = `${ROOT}.snippets`
let folder = ''

beforeAll(() => {
  if (!existsSync(`${ROOT}dist/index.js`) || !existsSync(`${ROOT}dist/index.d.ts`)) {
    throw new Error(
      'The snippets of the docs run against the built package, and there is none: run `npm run build`.',
    )
  }
  mkdirSync(shelf, { recursive: true })
  folder = mkdtempSync(`${shelf}/run-`)
})

afterAll(() => {
  if (folder === '') return
  rmSync(folder, { recursive: true })
  if (readdirSync(shelf).length === 0) rmdirSync(shelf)
})

describe('each program in the docs', () => {
  it.each(snippets.filter(({ dialect }) => dialect !== 'browser'))(
    'does what is said: $name',
    async (snippet) => {
      const program = new Program(write(snippet, 'js', asJavaScript(snippet)))
      onTestFinished(() => program.stop())
      if (snippet.exchanges.length > 0) await serves(snippet, program)
      else await until(() => !program.isRunning, 'the program ends')
      if (snippet.exchanges.length === 0 || snippet.signal !== null) {
        await program.stop()
        expect({ end: program.end, stderr: program.stderr }).toEqual({ end: 0, stderr: '' })
      }
      if (snippet.output === null) return
      const { output } = snippet
      await until(() => matches(program.stdout, output) || !program.isRunning).catch(() => {})
      expectMatch(program.stdout, output)
    },
  )

  it.each(['js', 'ts', 'browser'] as const)(
    'has sound types (%s)',
    (dialect) => {
      const paths = snippets
        .filter((snippet) => snippet.dialect === dialect)
        .map((snippet) => write(snippet, dialect === 'ts' ? 'ts' : 'js', snippet.code))
      expect(paths).not.toEqual([])
      expect(typeErrorsOf(paths, dialect).map((error) => error.replace(`${folder}/`, ''))).toEqual([])
    },
    60_000,
  )
})

/** Asks the program for all that the docs show answers to, leaves in the middle, and sees that it goes on. */
async function serves(snippet: Snippet, program: Program): Promise<void> {
  let previous = ''
  for (const exchange of snippet.exchanges) {
    const answer = await ask(program, exchange, previous)
    const shown = exchange.answer
    if (snippet.signal !== null) {
      await until(() => answer.body !== '', 'the stream begins')
      program.signal(snippet.signal)
      await until(() => !program.isRunning, 'the program ends')
    }
    if (shown !== null) {
      const isThere = () => goesOn(shown) && matches(asShown(answer, shown), shown)
      await until(() => isThere() || answer.ended || !program.isRunning).catch(() => {})
      expectMatch(asShown(answer, shown), shown)
    }
    if (snippet.signal !== null) return
    previous = answer.body
    answer.leave()
  }
  await until(() => program.closed >= snippet.exchanges.length || !program.isRunning, 'the server sees that')
  // What a program does wrong when its client leaves may show only when it wants to send the next event.
  const last = snippet.exchanges.at(-1) as Exchange
  const again = await ask(program, last, previous)
  const shown = last.answer ?? 'one block\n\n'
  const isAsLong = () => blocksIn(asShown(again, shown)) >= blocksIn(shown)
  await until(() => isAsLong() || again.ended || !program.isRunning, 'it answers once more')
  again.leave()
  expect({ isRunning: program.isRunning, stderr: program.stderr }).toEqual({ isRunning: true, stderr: '' })
}

function ask(program: Program, { path, method, headers, body }: Exchange, previous: string): Promise<Answer> {
  const sent = { ...headers }
  if (sent['last-event-id'] === 'last') sent['last-event-id'] = lastIdOf(previous) ?? ''
  return program.fetch(path, { method, headers: sent, body })
}

function blocksIn(text: string): number {
  return text.split('\n\n').length - 1
}

/** The answer in the form the docs show it: its body, or with those of its headers in front that are shown. */
function asShown({ head, body }: Answer, shown: string): string {
  if (!shown.startsWith('HTTP/')) return body
  const [status, ...headers] = head
  const names = shown.split('\n\n', 1)[0]?.split('\n').slice(1) ?? []
  const found = names.flatMap((line) => headers.filter((header) => nameOf(header) === nameOf(line)))
  return `${[status, ...found].join('\n')}\n\n${body}${body === '' || body.endsWith('\n') ? '' : '\n'}`
}

function nameOf(header: string): string | undefined {
  return header.split(':', 1)[0]
}

/** Fails with a readable difference. */
function expectMatch(got: string, shown: string): void {
  if (!matches(got, shown)) expect(got).toBe(shown)
}

function write({ name }: Snippet, extension: string, code: string): string {
  const path = `${folder}/${basename(name).replace(/\W+/g, '-')}.${extension}`
  writeFileSync(path, `${code}\n`)
  return path
}
