import { setTimeout as wait } from 'node:timers/promises'

/** Resolves once the condition holds; fails the test when it has not within 10 s. */
export async function until(condition: () => unknown, what: string = condition.toString()): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Waited 10 s in vain until ${what}`)
    await wait(2)
  }
}
