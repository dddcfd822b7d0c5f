const STEP_MICROS = 10
const STEPS = 200_000

/** Latencies in steps of 10 µs, up to two seconds. */
export class Latencies {
  #counts = new Uint32Array(STEPS)
  #total = 0

  add(micros) {
    const step = Math.floor(micros / STEP_MICROS)
    this.#counts[Math.max(0, Math.min(step, STEPS - 1))] += 1
    this.#total += 1
  }

  /** Milliseconds that so large a share of all came within. */
  percentile(share) {
    let seen = 0
    const step = this.#counts.findIndex((count) => {
      seen += count
      return seen >= this.#total * share
    })
    return ((step + 1) * STEP_MICROS) / 1000
  }

  clear() {
    this.#counts.fill(0)
    this.#total = 0
  }
}
