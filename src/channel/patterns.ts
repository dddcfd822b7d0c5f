import { SSEError, shown } from '../errors.js'

const MAX_PATTERNS = 100
const MAX_PATTERN_LENGTH = 256
/** The names whose answer is remembered; beyond it all are forgotten at once. */
const MAX_NAMES_KNOWN = 64

/**
 * Names to select by, in which `*` stands for any characters, none included: `order:*`. Matching takes time in
 * proportion to the lengths of pattern and name, whatever a client asks for.
 */
export class Patterns {
  /** The same for the same set of patterns. */
  readonly key: string
  readonly #names: ReadonlySet<string>
  readonly #patterns: readonly (readonly string[])[]
  /** Made for the first name that is matched with a pattern. */
  #known: Map<string, boolean> | null = null

  constructor(option: string, patterns: string | readonly string[]) {
    const list = typeof patterns === 'string' ? [patterns] : patterns
    assertPatterns(option, list)
    const unique = [...new Set(list)].sort()
    this.key = JSON.stringify(unique)
    this.#names = new Set(unique.filter((pattern) => !pattern.includes('*')))
    this.#patterns = unique.filter((pattern) => pattern.includes('*')).map((pattern) => pattern.split('*'))
  }

  matches(name: string): boolean {
    if (this.#names.has(name)) return true
    if (this.#patterns.length === 0) return false
    this.#known ??= new Map()
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const matches = this.#patterns.some((parts) => matchesParts(name, parts))
    if (this.#known.size >= MAX_NAMES_KNOWN) this.#known.clear()
    this.#known.set(name, matches)
    return matches
  }
}

/** Whether a name is these parts in order, with anything between two of them. */
function matchesParts(name: string, parts: readonly string[]): boolean {
  const first = parts[0] as string
  const last = parts[parts.length - 1] as string
  if (!name.startsWith(first) || !name.endsWith(last)) return false
  let at = first.length
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return at + last.length <= name.length
}

function assertPatterns(option: string, patterns: readonly string[]): void {
  const isList = Array.isArray(patterns) && patterns.length > 0 && patterns.length <= MAX_PATTERNS
  if (isList && patterns.every(isPattern)) return
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option ${option} is ${shown(patterns)}; expected 1 to ${MAX_PATTERNS} names of 1 to ${MAX_PATTERN_LENGTH} characters, in which * stands for any.`,
  )
}

function isPattern(pattern: unknown): boolean {
  return typeof pattern === 'string' && pattern !== '' && pattern.length <= MAX_PATTERN_LENGTH
}
