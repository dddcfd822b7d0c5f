import type { Clock } from '../clock.js'
import type { Exchange } from '../transport/exchange.js'
import type { ResolvedSluiceOptions } from './options.js'
import type { RefusalCause } from './refusal.js'

/** What `authorize` made of a request. */
export type Authorized = { principal: string | null } | { refused: RefusalCause; error?: unknown }

/**
 * Asks `authorize`, and waits no longer than `authorizeTimeoutMs`, nor for a client that has left. What the hook does
 * afterwards changes nothing.
 */
export async function authorized<Request>(
  exchange: Exchange,
  raw: Request,
  authorize: NonNullable<ResolvedSluiceOptions<Request>['authorize']>,
  timeoutMs: number,
  clock: Clock,
): Promise<Authorized> {
  const controller = new AbortController()
  const { signal } = controller
  let give: (outcome: Authorized) => void = () => {}
  const givenUp = new Promise<Authorized>((resolve) => {
    give = resolve
  })
  const giveUp = (refused: RefusalCause) => {
    give({ refused })
    controller.abort()
  }
  const timer = clock.setTimeout(() => giveUp('authorize-timeout'), timeoutMs)
  const stop = exchange.onGone(() => giveUp('client-left'))
  try {
    return await Promise.race([givenUp, ask(() => authorize(raw, { signal }))])
  } finally {
    clock.clearTimeout(timer)
    stop()
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
