import type { Clock } from '../clock.js'
import { delayMs, knownOptions } from '../options.js'
import type { Supervised } from './supervised.js'

/** Options of `shutdown`. */
export interface ShutdownOptions {
  /** Milliseconds after which what has not ended is reset. 0 to 2,147,483,647, default 10,000. */
  graceMs?: number | undefined
  /**
   * Milliseconds over which the clients come back: each is told a delay of its own, at random, as `retry`. 1 to
   * 2,147,483,647, default 10,000.
   */
  reconnectWithinMs?: number | undefined
}

/** What `shutdown` did. */
export interface ShutdownReport {
  /** Streams that were open. */
  streams: number
  /** Those that had to be reset: what was left for them was lost, unless a log has it. */
  reset: number
  durationMs: number
}

export type ResolvedShutdownOptions = { [Name in keyof ShutdownOptions]-?: number }

/** How many streams are closed in one turn of the event loop: each may write. */
const CLOSED_PER_TURN = 128

const KNOWN: ReadonlySet<string> = new Set(['graceMs', 'reconnectWithinMs'])

export function resolveShutdownOptions(options: ShutdownOptions): ResolvedShutdownOptions {
  knownOptions('shutdown', options, KNOWN)
  return {
    graceMs: delayMs('graceMs', options.graceMs, 10_000, 0),
    reconnectWithinMs: delayMs('reconnectWithinMs', options.reconnectWithinMs, 10_000),
  }
}

/** Ends streams gracefully, and resets those that have not ended when the time is up. */
export async function shutDown(
  streams: readonly Supervised[],
  { graceMs, reconnectWithinMs }: ResolvedShutdownOptions,
  clock: Clock,
): Promise<ShutdownReport> {
  const startedAt = clock.now()
  const open = new Set(streams)
  const ended = streams.map(async (stream) => {
    await stream.handler.closed
    open.delete(stream)
    stream.hangUp(graceMs)
  })
  const timer = clock.setTimeout(() => {
    for (const { handler } of open) handler.abort('shutdown')
  }, graceMs)
  for (const [i, stream] of streams.entries()) {
    if (i > 0 && i % CLOSED_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
    stream.end('shutdown', graceMs, 1 + Math.floor(Math.random() * reconnectWithinMs))
  }
  await Promise.all(ended)
  clock.clearTimeout(timer)
  const reset = streams.filter(({ wasForced }) => wasForced).length
  return { streams: streams.length, reset, durationMs: Math.round(clock.now() - startedAt) }
}
