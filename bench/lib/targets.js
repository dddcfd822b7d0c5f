const KINDS = {
  atLeast: { sign: '≥', holds: (seen, limit) => seen >= limit },
  atMost: { sign: '≤', holds: (seen, limit) => seen <= limit },
  below: { sign: '<', holds: (seen, limit) => seen < limit },
  exactly: { sign: '=', holds: ({ min, max }, limit) => min === limit && max === limit },
}

/** A target as one reads it, and whether what was seen meets it: the median does, or every round where it is exact. `unjudged` says why it cannot be told. */
export function judge({ target, ratio, value, show = String, unjudged }) {
  if (target === undefined) return { target: '', met: '' }
  const [[kind, limit]] = Object.entries(target)
  const seen = ratio ?? value
  const { sign, holds } = KINDS[kind]
  return {
    target: `${sign} ${ratio === undefined ? show(limit) : Number(limit.toFixed(2))}`,
    met: unjudged ?? (holds(kind === 'exactly' ? seen : seen.median, limit) ? 'met' : 'missed'),
  }
}
