/** Writes a position in a log as an event id: `epoch-sequence`, ASCII. */
export function formatEventId(epoch: string, sequence: number): string {
  return `${epoch}-${sequence}`
}

/** Reads an event id; null for anything that {@link formatEventId} does not write. */
export function parseEventId(id: string): { epoch: string; sequence: number } | null {
  const dash = id.lastIndexOf('-')
  if (dash < 1 || id.length > 128) return null
  const digits = id.slice(dash + 1)
  if (!/^(0|[1-9]\d{0,15})$/.test(digits)) return null
  const sequence = Number(digits)
  return Number.isSafeInteger(sequence) ? { epoch: id.slice(0, dash), sequence } : null
}
