const POLL_MS = 2
const LIMIT_MS = 10_000

/** Resolves once the condition holds; rejects when it has not within 10 s. */
export async function until(condition: () => unknown, what: string = condition.toString()): Promise<void> {
  const deadline = performance.now() + LIMIT_MS
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Waited 10 s in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
