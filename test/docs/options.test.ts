import { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import {
  batch,
  conflate,
  createChannel,
  createChannels,
  createMemoryLog,
  createProducerPool,
  createSluice,
  debounce,
  type PipeOptions,
  SSEError,
  type SubscribeOptions,
  throttle,
  type WireTarget,
  wire,
} from 'sluice'
import { describe, expect, it } from 'vitest'
import { resolveChannelOptions } from '../../src/channel/options.js'
import { type ResolvedOptions, resolveHandlerOptions } from '../../src/handler/options.js'
import { resolveShutdownOptions } from '../../src/runtime/shutdown.js'
import { codeIn, ROOT, readPage, tableRows } from './markdown.js'

type Options = Record<string, unknown>

interface Documented {
  name: string
  unit: string
  minimum: string
  /** The text of the cell. */
  fallback: string
  limit: string
}

/** Something of sluice that takes options. */
interface Taker {
  heading: string
  file: string
  take(options: Options): unknown
  /** Options it cannot be without. */
  required: Options
}

const target: WireTarget = {
  signal: new AbortController().signal,
  requestSend: () => Promise.reject(new Error('Nothing is sent here.')),
  tryRequestSend: () => null,
  close: async () => {},
}

const takers: Taker[] = [
  {
    heading: 'createSSEHandler',
    file: 'src/handler/options.ts',
    take: (options) => resolveHandlerOptions(nested(options)),
    required: {},
  },
  { heading: 'createMemoryLog', file: 'src/buffer/memory-log.ts', take: createMemoryLog, required: {} },
  {
    heading: 'createChannel',
    file: 'src/channel/options.ts',
    take: (options) => createChannel(nested(options)),
    required: {},
  },
  {
    heading: 'createChannels',
    file: 'src/channel/channels.ts',
    take: createChannels,
    required: {},
  },
  {
    heading: 'wire',
    file: 'src/producers/wire.ts',
    take: (options) => wire(new EventEmitter(), target, options as never).stop(),
    required: { policy: 'close', events: ['tick'] },
  },
  ...[throttle, debounce, batch, conflate].map((operator) => ({
    heading: operator.name,
    file: `src/producers/operators/${operator.name}.ts`,
    take: (options: Options) => operator([], options as never),
    required:
      { throttle: { intervalMs: 1 }, debounce: { waitMs: 1 }, conflate: { key: String } }[operator.name] ??
      {},
  })),
  {
    heading: 'createProducerPool',
    file: 'src/producers/pool.ts',
    take: createProducerPool,
    required: {},
  },
  {
    heading: 'createSluice',
    file: 'src/runtime/options.ts',
    take: (options) => createSluice(nested(options)),
    required: { 'cors.origins': '*' },
  },
  { heading: 'shutdown', file: 'src/runtime/shutdown.ts', take: resolveShutdownOptions, required: {} },
]

const page = readPage('docs/options.md')

describe.each(takers)('the options of $heading in the docs', ({ heading, file, take, required }) => {
  const rows = documented(heading)
  const numbers = rows.filter(
    ({ minimum, unit }) => /^\d+$/.test(minimum) && unit !== 'text' && unit !== 'names',
  )

  it('are those it takes', () => {
    const own = rows.map(({ name }) => name.split('.')[0])
    const names = [...own, ...inherited(heading)]
    expect(namesExpected(() => take({ ...required, nonsense: 1 })).sort()).toEqual([...new Set(names)].sort())
  })

  it.each(numbers)('begin where they begin: $name', ({ name, minimum }) => {
    const least = Number(minimum)
    expect(() => take({ ...required, [name]: least })).not.toThrow()
    expect(() => take({ ...required, [name]: least - 1 })).toThrow(SSEError)
  })

  it.each(numbers.filter(({ unit }) => /^ms\b/.test(unit)))(
    'end where they end: $name',
    ({ name, unit, limit }) => {
      const most = Number(/up to ([\d,]+)/.exec(unit)?.[1]?.replaceAll(',', '') ?? 2 ** 31 - 1)
      const beyond = () => take({ ...required, [name]: most + 1 })
      expect(() => take({ ...required, [name]: most })).not.toThrow()
      if (/no upper bound/i.test(limit)) expect(beyond).not.toThrow()
      else expect(beyond).toThrow(SSEError)
    },
  )

  it('have the defaults they have', () => {
    const inSource = defaultsIn(file)
    const inDocs = rows
      .filter(({ name }) => inSource.has(name))
      .map(({ name, fallback }) => [name, meaningOf(fallback)])
    expect(inDocs.length > 0).toBe(rows.some(({ fallback }) => /^\d/.test(fallback)))
    expect(new Map(inDocs as [string, unknown][])).toEqual(inSource)
  })
})

it('the options of createSSEHandler in the docs have the defaults that it resolves', () => {
  const resolved = resolveHandlerOptions(undefined)
  const flat: Record<string, keyof ResolvedOptions> = {
    'heartbeat.intervalMs': 'heartbeatMs',
    'heartbeat.format': 'heartbeatFormat',
    'heartbeat.maxMissed': 'maxMissedHeartbeats',
    'replay.start': 'replayStart',
    'replay.afterGap': 'afterGap',
  }
  for (const { name, unit, minimum, fallback } of documented('createSSEHandler')) {
    if (unit !== 'text' && (/^\d/.test(minimum) || name in flat)) {
      expect([name, meaningOf(fallback)]).toEqual([
        name,
        resolved[flat[name] ?? (name as keyof ResolvedOptions)],
      ])
    }
  }
})

it.each(['gap', 'wait'] as const)(
  'the limits of maxLag in the docs are those of the policy %s',
  (slowConsumer) => {
    const resolved = resolveChannelOptions({ slowConsumer })
    const documentedLimits = documented('createChannel')
      .filter(({ name }) => name.startsWith('maxLag.'))
      .map(({ fallback }) => fallback.split('; with `wait` '))
      .map(([usual = '', waiting = usual]) => meaningOf(slowConsumer === 'wait' ? waiting : usual))
    const { maxLagEvents, maxLagBytes, maxLagMs } = resolved
    expect(documentedLimits).toEqual([maxLagEvents, maxLagBytes, maxLagMs])
  },
)

it('the default of cors.maxAgeSeconds in the docs is that of the source', () => {
  const inDocs = documented('createSluice')
    .filter(({ name }) => name === 'cors.maxAgeSeconds')
    .map(({ name, fallback }) => [name, meaningOf(fallback)] as [string, unknown])
  expect(new Map(inDocs)).toEqual(defaultsIn('src/runtime/cors.ts'))
})

it('the options of subscribe in the docs are those it takes', () => {
  const taken: Record<keyof SubscribeOptions, true> = {
    events: true,
    topics: true,
    authorize: true,
    filter: true,
    onSubscribe: true,
    onGap: true,
  }
  expect(documented('subscribe').map(({ name }) => name)).toEqual(Object.keys(taken))
})

it('the options of pipe in the docs are those it takes', () => {
  const taken: Record<keyof PipeOptions<unknown>, true> = { event: true, map: true, signal: true }
  expect(documented('pipe').map(({ name }) => name)).toEqual(Object.keys(taken))
})

/** The names of those options that are passed on, to each channel or to each connection. */
function inherited(heading: string): string[] {
  const [of, without] =
    heading === 'createChannels'
      ? ['createChannel', ['log']]
      : heading === 'createSluice'
        ? ['createSSEHandler', ['log', 'sessionId']]
        : [null, []]
  if (of === null) return []
  const names = documented(of).map(({ name }) => name.split('.')[0] as string)
  return [...new Set(names)].filter((name) => !without.includes(name))
}

function documented(heading: string): Documented[] {
  return tableRows(page, `## ${heading}`).map(
    ([option, unit = '', minimum = '', fallback = '', limit = '']) => {
      return { name: codeIn(option), unit, minimum, fallback, limit }
    },
  )
}

/** `{ 'replay.start': x }` as `{ replay: { start: x } }`. */
function nested(options: Options): Options {
  const result: Options = {}
  for (const [path, value] of Object.entries(options)) {
    const [name = '', member] = path.split('.')
    result[name] = member === undefined ? value : { ...(result[name] as Options), [member]: value }
  }
  return result
}

/** The names of options that the refusal of an unknown one lists. */
function namesExpected(refused: () => unknown): string[] {
  try {
    refused()
  } catch (error) {
    const [, names = ''] = /expected some of (.*)\.$/.exec((error as Error).message) ?? []
    return names.split(', ')
  }
  throw new Error('An unknown option was not refused.')
}

/** The defaults of numbers and choices, by name, where the source checks them; `required` for those without one. */
function defaultsIn(file: string): Map<string, unknown> {
  const source = readFileSync(ROOT + file, 'utf8')
  const constants = new Map(
    [...source.matchAll(/^const (\w+) = (.+)$/gm)].map(([, name, value]) => [name, value]),
  )
  const calls = source.matchAll(/(?:wholeNumber|delayMs|oneOf)\('([\w.]+)', [\w.]+, ([^,)]+)/g)
  return new Map(
    [...calls]
      // What a choice or a limit falls back on that has to be given is never looked at.
      .filter(
        ([, name]) =>
          name !== 'policy' &&
          // These depend on the policy.
          !name?.startsWith('maxLag.') &&
          `${file}:${name}` !== 'src/producers/operators/debounce.ts:maxWaitMs',
      )
      .map(([, name = '', expression = '']) => [
        name,
        evaluated(constants.get(expression) ?? expression, constants),
      ]),
  )
}

function evaluated(
  expression: string,
  constants: ReadonlyMap<string | undefined, string | undefined>,
): unknown {
  if (expression === 'Number.NaN') return 'required'
  if (expression === 'Number.POSITIVE_INFINITY') return Number.POSITIVE_INFINITY
  const choice = /^'(\w+)'$/.exec(expression)?.[1]
  if (choice !== undefined) return choice
  const factors = expression.split(' * ').map((factor): number => {
    const constant = constants.get(factor)
    return constant === undefined
      ? Number(factor.replaceAll('_', ''))
      : (evaluated(constant, constants) as number)
  })
  return factors.reduce((product, factor) => product * factor, 1)
}

/** A default as the docs write it. */
function meaningOf(cell: string): unknown {
  if (cell === 'required') return cell
  if (cell.startsWith('`')) return codeIn(cell)
  return Number(cell.replaceAll(',', ''))
}
