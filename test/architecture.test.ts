import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

/** The rooms of src/, from the top down. A room imports from itself and from those below it. */
const ROOMS = [
  'fastify',
  'prometheus',
  'opentelemetry',
  'metrics',
  'testing',
  'index',
  'runtime',
  'transport',
  'channel',
  'handler',
  'producers',
  'buffer',
  'wire',
  'ground',
]

/** What everything may stand on. */
const GROUND = ['errors.ts', 'clock.ts', 'options.ts', 'close-reason.ts']

/** Who may import modules of Node. */
const OF_NODE = [
  'transport/node.ts',
  'transport/http1.ts',
  'transport/http2.ts',
  'transport/linux.ts',
  'transport/responses.ts',
]

/** Who may import a package, and which packages there are. */
const PACKAGES: Record<string, (file: string) => boolean> = {
  xstate: (file) => roomOf(file) === 'handler',
  eventemitter3: (file) => ['channel', 'handler'].includes(roomOf(file)),
  'p-queue': (file) => file === 'producers/pool.ts',
}

/** The rooms that are a subpath of their own, with the optional peer that each is for. */
const SUBPATHS: Record<string, string | null> = {
  fastify: 'fastify',
  opentelemetry: '@opentelemetry/api',
  prometheus: 'prom-client',
  testing: null,
}

/** What subpaths share, each with a copy of its own: data, and nothing of the core but types. */
const SHARED = 'metrics'

const PEERS = Object.values(SUBPATHS).filter((peer) => peer !== null)

interface SourceFile {
  /** The path below src/, with slashes. */
  path: string
  tree: ts.SourceFile
  /** What it imports, as written; types included. */
  imports: string[]
}

const files: SourceFile[] = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.ts'))
  .sort()
  .map((path) => {
    const text = readFileSync(join(root, 'src', path), 'utf8')
    const tree = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
    return { path, tree, imports: importsOf(tree) }
  })

function nodesOf(tree: ts.SourceFile): ts.Node[] {
  const nodes: ts.Node[] = []
  const visit = (node: ts.Node) => {
    nodes.push(node)
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return nodes
}

/** Static imports and re-exports, `import()`, `import('…').Type`, and `require()`. */
function importsOf(tree: ts.SourceFile): string[] {
  return nodesOf(tree).flatMap((node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return textOf(node.moduleSpecifier)
    if (ts.isExternalModuleReference(node)) return textOf(node.expression)
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return textOf(node.argument.literal)
    if (!ts.isCallExpression(node)) return []
    const isImport = node.expression.kind === ts.SyntaxKind.ImportKeyword
    return isImport || node.expression.getText() === 'require' ? textOf(node.arguments[0]) : []
  })
}

function textOf(node: ts.Node | undefined): string[] {
  return node !== undefined && ts.isStringLiteralLike(node) ? [node.text] : []
}

function roomOf(path: string): string {
  if (path === 'index.ts') return 'index'
  if (GROUND.includes(path)) return 'ground'
  return path.includes('/') ? (path.split('/')[0] as string) : `src/${path}`
}

function rankOf(path: string): number {
  return ROOMS.indexOf(roomOf(path))
}

function isRelative(specifier: string): boolean {
  return specifier.startsWith('.')
}

/** The path below src/ of a file that a relative import names. */
function targetOf(file: SourceFile, specifier: string): string {
  return posix.join(posix.dirname(file.path), specifier).replace(/\.js$/, '.ts')
}

function isOfNode(specifier: string): boolean {
  return specifier.startsWith('node:') || builtinModules.includes(specifier.split('/')[0] as string)
}

function isAllowed(specifier: string, path: string): boolean {
  const peer = SUBPATHS[roomOf(path)]
  if (peer !== undefined && (specifier === 'sluice' || specifier === peer)) return true
  if (roomOf(path) === SHARED && specifier === 'sluice') return true
  return PACKAGES[specifier]?.(path) === true
}

/** Each import of src/ that breaks a rule, as a line that names it. */
function importsThat(breakRule: (specifier: string, file: SourceFile) => boolean): string[] {
  return files.flatMap((file) =>
    file.imports
      .filter((specifier) => breakRule(specifier, file))
      .map((specifier) => `src/${file.path} imports ${specifier}`),
  )
}

describe('the rooms of src/', () => {
  it('are those that are known, and none is empty', () => {
    const found = [...new Set(files.map(({ path }) => roomOf(path)))]
    expect(found.sort()).toEqual([...ROOMS].sort())
  })

  it('import nothing from above', () => {
    const upwards = importsThat(
      (specifier, file) => isRelative(specifier) && rankOf(targetOf(file, specifier)) < rankOf(file.path),
    )
    expect(upwards).toEqual([])
  })

  it('import only files that there are, under their own name', () => {
    const paths = new Set(files.map(({ path }) => path))
    const unknown = importsThat(
      (specifier, file) =>
        isRelative(specifier) && !(specifier.endsWith('.js') && paths.has(targetOf(file, specifier))),
    )
    expect(unknown).toEqual([])
  })
})

describe('what comes from outside', () => {
  it('is three packages at run time', () => {
    const { dependencies, peerDependencies, peerDependenciesMeta, optionalDependencies } = JSON.parse(
      readFileSync(join(root, 'package.json'), 'utf8'),
    )
    expect(Object.keys(dependencies).sort()).toEqual(Object.keys(PACKAGES).sort())
    expect(optionalDependencies).toBeUndefined()
    expect(Object.keys(peerDependencies).sort()).toEqual([...PEERS].sort())
    expect(Object.keys(peerDependenciesMeta).sort()).toEqual([...PEERS].sort())
    expect(Object.values(peerDependenciesMeta)).toEqual(PEERS.map(() => ({ optional: true })))
  })

  it('is imported only where it belongs', () => {
    const misplaced = importsThat(
      (specifier, file) => !isRelative(specifier) && !isOfNode(specifier) && !isAllowed(specifier, file.path),
    )
    expect(misplaced).toEqual([])
  })

  it('is the core itself for a subpath, by its name, so that there is one copy of it', () => {
    const inside = importsThat(
      (specifier, file) =>
        roomOf(file.path) in SUBPATHS &&
        isRelative(specifier) &&
        ![roomOf(file.path), SHARED].includes(roomOf(targetOf(file, specifier))),
    )
    expect(inside).toEqual([])
  })

  it('is all of use', () => {
    const used = new Set(files.flatMap(({ imports }) => imports))
    expect(Object.keys(PACKAGES).filter((name) => !used.has(name))).toEqual([])
  })

  it('is of Node in the transports and subpaths for Node, what is asked of Linux, and the diagnostics channels only', () => {
    const ofNode = importsThat(
      (specifier, file) =>
        isOfNode(specifier) && !OF_NODE.includes(file.path) && !(roomOf(file.path) in SUBPATHS),
    )
    expect(ofNode).toEqual(['src/runtime/lifecycle.ts imports node:diagnostics_channel'])
  })
})

describe('exports', () => {
  it('are named, one by one', () => {
    const unnamed = files.flatMap(({ path, tree }) =>
      nodesOf(tree)
        .filter(
          (node) =>
            ts.isExportAssignment(node) ||
            (ts.isExportDeclaration(node) &&
              (node.exportClause === undefined || ts.isNamespaceExport(node.exportClause))) ||
            (ts.isExportSpecifier(node) && node.name.text === 'default') ||
            (ts.canHaveModifiers(node) &&
              ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword)),
        )
        .map((node) => `src/${path}: ${node.getText().split('\n', 1)[0]}`),
    )
    expect(unnamed).toEqual([])
  })
})

describe('SSE text', () => {
  const FIELD = /(?:^|\n)(?:data|event|id|retry):|^: |\n\n/

  /** The texts of a file's string literals and of the pieces of its templates. */
  function literalsOf({ tree }: SourceFile): string[] {
    return nodesOf(tree).flatMap((node) =>
      ts.isStringLiteralLike(node) || ts.isTemplateLiteralToken(node) ? [node.text] : [],
    )
  }

  it('is written in src/wire', () => {
    const written = files.filter(({ path }) => roomOf(path) === 'wire').flatMap(literalsOf)
    for (const field of ['data: ', 'id: ', 'retry: ', ': ']) {
      expect(written.filter((text) => FIELD.test(text) && text.includes(field))).not.toEqual([])
    }
  })

  it('is written nowhere else', () => {
    const elsewhere = files
      .filter(({ path }) => roomOf(path) !== 'wire')
      .flatMap((file) => literalsOf(file).map((text) => ({ path: file.path, text })))
      .filter(({ text }) => FIELD.test(text))
    expect(elsewhere).toEqual([])
  })
})

describe('the transport', () => {
  it('is written to by the pump and by nothing else', () => {
    const callers = files
      .filter(({ path }) => !['testing', 'transport', 'wire'].includes(roomOf(path)))
      .flatMap(({ path, tree }) =>
        nodesOf(tree)
          .filter(ts.isPropertyAccessExpression)
          .filter(({ name }) => name.text === 'write')
          .map((node) => `${path}: ${node.getText()}`),
      )
    expect(callers).toEqual(['handler/pump.ts: this.#transport.write'])
  })
})
