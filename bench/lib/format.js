import { median } from './statistics.js'

export function decimals(digits) {
  return (value) => value.toFixed(digits)
}

/** The median of what the rounds gave. */
export function figure(values, show) {
  return show(median(values))
}

export function bytes(value) {
  return Math.abs(value) >= 1e6 ? `${(value / 1e6).toFixed(2)} MB` : `${(value / 1e3).toFixed(1)} kB`
}

/** A median with its range over the rounds. */
export function range({ median, min, max }, show) {
  const [middle, low, high] = [median, min, max].map(show)
  return low === high ? middle : `${middle} (${low} – ${high})`
}
