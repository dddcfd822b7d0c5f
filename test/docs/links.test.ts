import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Page, ROOT, readPage, readPages } from './markdown.js'

const CODE_BLOCK = /^```[\s\S]*?^```$/gm

interface Link {
  from: string
  to: string
  /** The file it leads to, from the root of the repository. */
  path: string
  anchor: string | undefined
}

const pages = readPages()
const links = pages.flatMap(linksOf)
const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as {
  scripts: Record<string, string>
}

describe('each link in the docs leads somewhere', () => {
  it.each(links)('$from: $to', ({ path, anchor }) => {
    expect(existsSync(ROOT + path), `${path} exists`).toBe(true)
    if (anchor !== undefined) expect(anchorsIn(readPage(path))).toContain(anchor)
  })

  it('and every page can be reached from the README', () => {
    const reached = new Set(['README.md'])
    for (const page of reached) {
      for (const { from, path } of links) if (from === page && path.endsWith('.md')) reached.add(path)
    }
    expect([...reached].sort()).toEqual(pages.map(({ path }) => path).sort())
  })
})

describe('each command in the docs', () => {
  const commands = pages.flatMap(({ path, text, blocks }) => {
    const inBlocks = blocks
      .filter(({ language }) => language === 'sh')
      .flatMap(({ code }) => code.split('\n'))
    const inText = [...text.matchAll(/`((?:npm|curl) [^`]+)`/g)].map(([, command = '']) => command)
    return [...inBlocks, ...inText].map((command) => ({ path, command }))
  })
  const parts = commands.flatMap(({ path, command }) => command.split(' && ').map((part) => ({ path, part })))

  it.each(parts.filter(({ part }) => part.startsWith('npm ')))(
    'is one of npm or of the package: $part',
    ({ part }) => {
      const [, verb = '', name = ''] = part.split(' ')
      if (verb === 'run') expect(scripts).toHaveProperty([name])
      else if (['start', 'test'].includes(verb)) expect(scripts).toHaveProperty([verb])
      else expect(['ci', 'install', 'pack']).toContain(verb)
    },
  )

  it.each(parts.filter(({ part }) => part.startsWith('curl ')))(
    'asks a program of its page: $path $part',
    (curl) => {
      const { port, pathname, search } = new URL(/https?:\S+/.exec(curl.part)?.[0] ?? '')
      expect(port).toBe('8080')
      const served = pages
        .filter(({ path }) => path === curl.path)
        .flatMap(({ blocks }) => blocks.map(({ info }) => info.get('run')))
      expect(served).toContain(pathname + search)
    },
  )
})

it('the README is no longer than 200 lines', () => {
  expect(readPage('README.md').text.split('\n').length).toBeLessThanOrEqual(200)
})

function linksOf({ path: from, text }: Page): Link[] {
  const outsideCode = text.replace(CODE_BLOCK, '').replace(/`[^`\n]*`/g, '')
  return [...outsideCode.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, to = '']) => to)
    .filter((to) => !/^[a-z]+:/.test(to))
    .map((to) => {
      const [file = '', anchor] = to.split('#')
      return { from, to, path: file === '' ? from : normalize(join(dirname(from), file)), anchor }
    })
}

/** The anchors of headings, as GitHub makes them. */
function anchorsIn({ text }: Page): string[] {
  return [...text.replace(CODE_BLOCK, '').matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}
