import type { Clock } from '../clock.js'
import { onAbort } from '../producers/abort.js'
import type { Exchange } from '../transport/exchange.js'
import type { ResolvedSluiceOptions } from './options.js'
import type { RefusalCause } from './refusal.js'

/** What `authorize` made of a request. */
export type Authorized = { principal: string | null } | { refused: RefusalCause; error?: unknown }

/** What an answer is waited for no longer than. */
export interface Patience {
  timeoutMs: number
  clock: Clock
  /** Aborts when the process stops. */
  stopping: AbortSignal
}

/**
 * Asks `authorize`, and waits no longer than `authorizeTimeoutMs`, for a client that has left, or when the process stops.
 * What the hook does afterwards changes nothing.
 */
export async function authorized<Request>(
  exchange: Exchange,
  request: Request,
  authorize: NonNullable<ResolvedSluiceOptions<Request>['authorize']>,
  { timeoutMs, clock, stopping }: Patience,
): Promise<Authorized> {
  const controller = new AbortController()
  let give: (outcome: Authorized) => void = () => {}
  const givenUp = new Promise<Authorized>((resolve) => {
    give = resolve
  })
  const giveUp = (refused: RefusalCause) => {
    give({ refused })
    controller.abort()
  }
  const timer = clock.setTimeout(() => giveUp('authorize-timeout'), timeoutMs)
  const stops = [
    exchange.onGone(() => giveUp('client-left')),
    onAbort(stopping, () => giveUp('shutting-down')),
    () => clock.clearTimeout(timer),
  ]
  try {
    const answer = ask(() => authorize(request, { signal: controller.signal }))
    return await Promise.race([givenUp, answer])
  } finally {
    for (const stop of stops) stop()
  }
}

async function ask(question: () => unknown): Promise<Authorized> {
  try {
    const answer = await question()
    if (answer === true) return { principal: null }
    if (typeof answer === 'string' && answer !== '') return { principal: answer }
    return { refused: answer === 403 ? 'forbidden' : 'unauthenticated' }
  } catch (error) {
    return { refused: 'hook-failed', error }
  }
}
