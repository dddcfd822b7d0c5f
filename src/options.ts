import { SSEError, shown } from './errors.js'

/** `setTimeout` turns a longer delay into 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1

interface Range {
  min: number
  max?: number
  /** Whether `Infinity` turns the limit off. */
  infinity?: boolean
}

/** The value of a whole-number option, or its default; throws `ERR_SSE_INVALID_OPTION` out of its range. */
export function wholeNumber(name: string, value: number | undefined, fallback: number, range: Range): number {
  if (value === undefined) return fallback
  if (range.infinity && value === Number.POSITIVE_INFINITY) return value
  const max = range.max ?? Number.MAX_SAFE_INTEGER
  if (Number.isInteger(value) && value >= range.min && value <= max) return value
  const upTo = range.max === undefined ? ` of at least ${range.min}` : ` from ${range.min} to ${range.max}`
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option ${name} is ${shown(value)}; expected a whole number${upTo}${range.infinity ? ', or Infinity' : ''}.`,
  )
}

/**
 * The value of a delay in milliseconds, or its default; throws `ERR_SSE_INVALID_OPTION` when no timer can keep it, or
 * when it has neither.
 */
export function delayMs(name: string, value: number | undefined, fallback?: number, min = 1): number {
  return wholeNumber(name, value ?? fallback ?? Number.NaN, 0, { min, max: MAX_TIMER_MS })
}

/** The value of an option with a few fixed choices, or its default. */
export function oneOf<T extends string>(
  name: string,
  value: T | undefined,
  fallback: T,
  choices: readonly T[],
): T {
  if (value === undefined) return fallback
  if (choices.includes(value)) return value
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option ${name} is ${shown(value)}; expected one of ${choices.join(', ')}.`,
  )
}

/** Refuses a misspelt option instead of ignoring it. */
export function knownOptions(of: string, options: object, known: ReadonlySet<string>): void {
  if (options === null || typeof options !== 'object') {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `The options of ${of} are ${shown(options)}; expected an object.`,
    )
  }
  for (const name of Object.keys(options)) {
    if (known.has(name)) continue
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `${of} has no option ${shown(name)}; expected some of ${[...known].join(', ')}.`,
    )
  }
}
