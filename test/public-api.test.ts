import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as sluice from 'sluice'
import * as opentelemetry from 'sluice/opentelemetry'
import * as prometheus from 'sluice/prometheus'
import * as testing from 'sluice/testing'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const index = join(root, 'src/index.ts')

const program = ts.createProgram([index], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  noLib: true,
  types: [],
})
const checker = program.getTypeChecker()

/** What index.ts exports, each with the symbol it was declared as. */
const exported = moduleExports().map((symbol) => {
  const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0
  const declared = isAlias ? checker.getAliasedSymbol(symbol) : symbol
  return { name: symbol.name, declared, isValue: (declared.flags & ts.SymbolFlags.Value) !== 0 }
})

function moduleExports(): ts.Symbol[] {
  const file = program.getSourceFile(index)
  const symbol = file && checker.getSymbolAtLocation(file)
  return symbol === undefined ? [] : checker.getExportsOfModule(symbol)
}

/** A change of these lists is a change of the public interface: say it in the changelog. */
const VALUES = [
  'Channel',
  'Channels',
  'SSEError',
  'SSEHandler',
  'Sluice',
  'batch',
  'conflate',
  'createChannel',
  'createChannels',
  'createFetchHandler',
  'createHealthHandler',
  'createHttp2SSEHandler',
  'createMemoryLog',
  'createProducerPool',
  'createSSEHandler',
  'createSSEResponse',
  'createSluice',
  'debounce',
  'pipe',
  'throttle',
  'wire',
]

const TESTING_VALUES = [
  'EventStreamReader',
  'FakeTransport',
  'ManualClock',
  'connectClient',
  'connectFake',
  'transportConformance',
]

const TYPES = [
  'Authorization',
  'BatchOptions',
  'ChannelEvent',
  'ChannelEvents',
  'ChannelOptions',
  'ChannelStats',
  'ChannelsOptions',
  'ChannelsStats',
  'Chunk',
  'ClientKind',
  'Clock',
  'CloseReason',
  'ClosedInfo',
  'ConflateOptions',
  'CorsOptions',
  'Counters',
  'DebounceOptions',
  'DurationHistogram',
  'EndableSession',
  'EventFields',
  'EventInput',
  'EventLabel',
  'EventLog',
  'EventMap',
  'EventNameFor',
  'Exchange',
  'Frame',
  'Gap',
  'GuardedServer',
  'Health',
  'HeartbeatOptions',
  'HttpRequest',
  'HttpResponse',
  'LifecycleStage',
  'LimitsOptions',
  'Logger',
  'LostReason',
  'MaxLagOptions',
  'MemoryLogOptions',
  'NodeRequest',
  'NodeResponse',
  'OpenOptions',
  'Opened',
  'Peer',
  'Phase',
  'PipeOptions',
  'PipeResult',
  'PipeSource',
  'PipeTarget',
  'ProducerPool',
  'ProducerPoolOptions',
  'ProducerResult',
  'PushSource',
  'Redact',
  'RefusalCause',
  'ReplayOptions',
  'RequestOptions',
  'Responded',
  'SSEErrorCode',
  'SSEErrorOptions',
  'SSEHandlerEvents',
  'SSEHandlerOptions',
  'SSEHandlerStats',
  'SSEResponse',
  'SelectOptions',
  'SendOutcome',
  'SendPermit',
  'SessionStatus',
  'ShutdownOptions',
  'ShutdownReport',
  'SluiceOptions',
  'SluiceStats',
  'Snapshot',
  'SnapshotHook',
  'SnapshotRequest',
  'Source',
  'StreamAnswer',
  'StreamRequest',
  'SubscribeOptions',
  'Subscriber',
  'ThrottleOptions',
  'Timer',
  'Transport',
  'TransportSink',
  'WireOptions',
  'WireResult',
  'WireTarget',
  'Wired',
]

describe('the public interface', () => {
  it('has these values and no others', () => {
    expect(Object.keys(sluice).sort()).toEqual(VALUES)
  })

  it('has these values in its subpaths', () => {
    expect(Object.keys(prometheus).sort()).toEqual(['createMetricsHandler', 'registerMetrics'])
    expect(Object.keys(opentelemetry)).toEqual(['observeMetrics'])
  })

  it('has these values in sluice/testing and no others', () => {
    expect(Object.keys(testing).sort()).toEqual(TESTING_VALUES)
  })

  it('has these types and no others', () => {
    const names = exported.map(({ name }) => name).filter((name) => !VALUES.includes(name))
    expect(names.sort()).toEqual(TYPES)
  })

  it('has a doc comment at each declaration', () => {
    const undocumented = exported
      .filter(({ declared }) => declared.getDocumentationComment(checker).length === 0)
      .map(({ name }) => name)
    expect(undocumented.sort()).toEqual([])
  })
})

describe('each error code', () => {
  const codes = codesOf(join(root, 'src/errors.ts'))

  /** The members of the union `SSEErrorCode`. */
  function codesOf(path: string): string[] {
    const found: string[] = []
    ts.forEachChild(treeOf(path), (node) => {
      if (!ts.isTypeAliasDeclaration(node) || node.name.text !== 'SSEErrorCode') return
      const visit = (inner: ts.Node) => {
        if (ts.isStringLiteral(inner)) found.push(inner.text)
        ts.forEachChild(inner, visit)
      }
      visit(node)
    })
    return found
  }

  function treeOf(path: string): ts.SourceFile {
    return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true)
  }

  /** The codes that `new SSEError(code, …)` is called with anywhere in the program. */
  function thrownCodes(): Set<string> {
    const thrown = new Set<string>()
    const visit = (node: ts.Node) => {
      if (ts.isNewExpression(node) && node.expression.getText() === 'SSEError') {
        const [code] = node.arguments ?? []
        if (code !== undefined && ts.isStringLiteral(code)) thrown.add(code.text)
      }
      ts.forEachChild(node, visit)
    }
    for (const file of program.getSourceFiles()) if (!file.isDeclarationFile) visit(file)
    return thrown
  }

  it('is in a sorted list, once', () => {
    expect(codes.length).toBeGreaterThan(0)
    expect(codes).toEqual([...new Set(codes)].sort())
  })

  it('is thrown somewhere', () => {
    const thrown = thrownCodes()
    expect(codes.filter((code) => !thrown.has(code))).toEqual([])
  })

  it('is explained in docs/errors.md, which explains no other', () => {
    const text = readFileSync(join(root, 'docs/errors.md'), 'utf8')
    expect([...new Set(text.match(/ERR_SSE_[A-Z_]+/g))].sort()).toEqual(codes)
  })
})
