import ts from 'typescript'
import type { Block, Page } from './markdown.js'

/**
 * A program of the docs and what it is to do. In the Markdown:
 *
 * - ```` ```js run=/events ```` (or `ts`) is a whole program that serves. It is asked for the path; `method`, `accept`,
 *   `last-event-id` and `body` say how. With `signal=SIGTERM` it is sent that signal once the stream has begun,
 *   and has to end by itself. Without `run` it is run to its end.
 * - ```` ```text ```` behind it is the answer, or what a program that does not serve prints. Another one with
 *   `run=...` is the answer to one more request to the same program; `last-event-id=last` there sends the last
 *   id that the answer before had. One with `out` is what the program prints.
 * - In a text, `…` stands for anything within a line; on a line of its own for any lines. A text that ends with
 *   such a line shows the beginning of a stream that goes on, any other the whole. An answer that begins with
 *   `HTTP/` has the head in front, of which headers may be left out.
 * - ```` ```js browser ```` runs in browsers: it is only checked for its types.
 */
export interface Snippet {
  /** `docs/page.md:12`, the line its code starts at. */
  name: string
  dialect: Dialect
  code: string
  signal: NodeJS.Signals | null
  exchanges: Exchange[]
  /** What it prints; null when that is not said. */
  output: string | null
}

/** A program for Node, in one of its languages, or one for browsers, in JavaScript. */
export type Dialect = 'js' | 'ts' | 'browser'

export interface Exchange {
  path: string
  method: string
  headers: Record<string, string>
  body: string | undefined
  /** What is expected; null when the docs do not say. */
  answer: string | null
}

const HEADERS = ['accept', 'last-event-id']

export function snippetsOf(page: Page): Snippet[] {
  const snippets: Snippet[] = []
  let current: Snippet | null = null
  for (const block of page.blocks) {
    if (block.language === 'js' || block.language === 'ts') {
      current = snippetOf(page, block, block.language)
      snippets.push(current)
    } else if (block.language === 'text' && current !== null) addText(current, block)
  }
  return snippets
}

function snippetOf(page: Page, { info, line, code }: Block, language: 'js' | 'ts'): Snippet {
  return {
    name: `${page.path}:${line}`,
    dialect: info.has('browser') ? 'browser' : language,
    code,
    signal: (info.get('signal') as NodeJS.Signals | undefined) ?? null,
    exchanges: info.has('run') ? [exchangeOf(info)] : [],
    output: null,
  }
}

function addText(snippet: Snippet, { info, code }: Block): void {
  const [first] = snippet.exchanges
  if (info.has('run')) snippet.exchanges.push({ ...exchangeOf(info), answer: code })
  else if (info.has('out') || first === undefined) snippet.output ??= code
  else first.answer ??= code
}

function exchangeOf(info: ReadonlyMap<string, string>): Exchange {
  const headers: Record<string, string> = { accept: 'text/event-stream' }
  for (const name of HEADERS) {
    const value = info.get(name)
    if (value !== undefined) headers[name] = value
  }
  return {
    path: info.get('run') ?? '/',
    method: info.get('method') ?? 'GET',
    headers,
    body: info.get('body'),
    answer: null,
  }
}

/** Whether a text shows only the beginning. */
export function goesOn(text: string): boolean {
  return text === '…' || text.endsWith('\n…')
}

/** Whether what was got is what the docs show. */
export function matches(got: string, shown: string): boolean {
  return patternOf(shown).test(got)
}

function patternOf(shown: string): RegExp {
  const lines = shown.replace(/\n*$/, '').split('\n')
  const isBeginning = lines.at(-1) === '…'
  if (isBeginning) lines.pop()
  const pattern = lines
    .map((line) => (line === '…' ? '(?:[^\\n]*\\n)*?' : `${linePattern(line)}\\n`))
    .join('')
  return new RegExp(isBeginning ? `^${pattern}` : `^${pattern}\\n*$`)
}

function linePattern(line: string): string {
  return line
    .split('…')
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
    .join('[^\\n]*')
}

/** The last id in the text of a stream. */
export function lastIdOf(body: string): string | undefined {
  return [...body.matchAll(/^id: (.*)$/gm)].at(-1)?.[1]
}

/** The program as Node runs it. */
export function asJavaScript({ dialect, code }: Snippet): string {
  if (dialect !== 'ts') return code
  const compilerOptions = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    experimentalDecorators: true,
  }
  return ts.transpileModule(code, { compilerOptions }).outputText
}

/** What the compiler says of programs that are files already: in TypeScript as strict as it gets. */
export function typeErrorsOf(paths: string[], dialect: Dialect): string[] {
  const isBrowser = dialect === 'browser'
  const program = ts.createProgram(paths, {
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', isBrowser ? 'lib.dom.d.ts' : 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: isBrowser ? [] : ['node'],
    allowJs: true,
    checkJs: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noUnusedLocals: true,
    // For NestJS.
    experimentalDecorators: true,
    // JavaScript cannot say what type a parameter or a caught error has.
    noImplicitAny: dialect === 'ts',
    useUnknownInCatchVariables: dialect === 'ts',
    skipLibCheck: true,
    noEmit: true,
  })
  return ts.getPreEmitDiagnostics(program).map((diagnostic) => {
    const { file, start = 0 } = diagnostic
    const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n')
    if (file === undefined) return text
    const { line } = file.getLineAndCharacterOfPosition(start)
    return `${file.fileName} line ${line + 1}: ${text}`
  })
}
