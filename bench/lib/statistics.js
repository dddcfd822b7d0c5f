export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** What the rounds gave: the median, and how far it can be trusted. */
export function spread(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) }
}

/** The ratio within each round, so that a machine that slows down between rounds slows both sides down. */
export function ratioPerRound(numerators, denominators) {
  return spread(numerators.map((numerator, round) => numerator / denominators[round]))
}
