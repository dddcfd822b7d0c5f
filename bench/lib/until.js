import { setTimeout as delay } from 'node:timers/promises'

/** Polls until `look` returns something other than undefined; fails after the limit. */
export async function until(what, look, { everyMs = 20, limitMs = 30_000 } = {}) {
  const deadline = performance.now() + limitMs
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`waited ${limitMs / 1000} s for ${what}`)
    await delay(everyMs)
  }
}
