import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The root of the repository, with a slash at its end. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** A fenced block of code. */
export interface Block {
  /** The line of the page that its code starts at. */
  line: number
  /** What stands behind the opening fence: the language, then words and `name=value` pairs. */
  language: string
  info: ReadonlyMap<string, string>
  code: string
}

export interface Page {
  /** From the root of the repository. */
  path: string
  text: string
  blocks: readonly Block[]
}

/** Every page that people read: README, changelog and the guides, without the generated reference. */
export function readPages(): Page[] {
  const guides = readdirSync(`${ROOT}docs`).filter((name) => name.endsWith('.md'))
  return ['README.md', 'CHANGELOG.md', ...guides.sort().map((name) => `docs/${name}`)].map(readPage)
}

export function readPage(path: string): Page {
  const text = readFileSync(ROOT + path, 'utf8')
  return { path, text, blocks: blocksOf(text, path) }
}

function blocksOf(text: string, path: string): Block[] {
  const blocks: Block[] = []
  let open: { info: string; line: number; lines: string[] } | null = null
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^```(.*)$/.exec(line)
    if (fence === null) open?.lines.push(line)
    else if (open === null) open = { info: fence[1] ?? '', line: index + 2, lines: [] }
    else {
      const [language = '', ...words] = open.info.split(' ')
      const info = new Map(words.map((word) => splitAt(word, '=')))
      blocks.push({ language, info, line: open.line, code: open.lines.join('\n') })
      open = null
    }
  }
  if (open !== null) throw new Error(`${path}:${open.line - 1} opens a block of code that is never closed`)
  return blocks
}

function splitAt(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark)
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
}

/** The rows of the tables under a heading, each with its cells; the heads of the tables are left out. */
export function tableRows(page: Page, heading: string): string[][] {
  return sectionOf(page, heading)
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.replaceAll('\\|', '\0').split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.replaceAll('\0', '|').trim()))
    .filter((_, index, rows) => !isRule(rows[index]) && !isRule(rows[index + 1]))
}

/** What stands between a heading and the next of its level or above. */
function sectionOf({ path, text }: Page, heading: string): string {
  const lines = text.split('\n')
  const start = lines.indexOf(heading)
  if (start === -1) throw new Error(`${path} has no heading '${heading}'`)
  const level = heading.indexOf(' ')
  const end = lines.findIndex(
    (line, index) => index > start && /^#+ /.test(line) && line.indexOf(' ') <= level,
  )
  return lines.slice(start + 1, end === -1 ? undefined : end).join('\n')
}

/** The code in a table's cell: the text between its first two backticks. */
export function codeIn(cell: string | undefined): string {
  return /`([^`]+)`/.exec(cell ?? '')?.[1] ?? ''
}

function isRule(cells: string[] | undefined): boolean {
  return cells?.every((cell) => /^:?-+:?$/.test(cell)) ?? false
}
