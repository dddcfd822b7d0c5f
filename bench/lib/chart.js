// Bars as SVG, by hand: one group for each chart, one bar for each peer, from zero, with the median written behind it and
// a thin line over the range of the rounds. The colours are readable on light and on dark backgrounds.
import { spread } from './statistics.js'

const WIDTH = 840
const LABELS = 230
const BARS = 430
const ROW = 22
const TITLE = 26
const GAP = 22
const TEXT = '#6e7781'
const OURS = '#2da44e'
const PEER = '#768390'

/** Charts as one picture. */
export function draw(charts) {
  let top = GAP
  const groups = charts.map((chart) => {
    const group = `<g transform="translate(0 ${top})">${drawOne(chart)}</g>`
    top += TITLE + chart.bars.length * ROW + GAP
    return group
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${top}" viewBox="0 0 ${WIDTH} ${top}" role="img"`,
    `  font-family="system-ui, sans-serif" font-size="13" fill="${TEXT}">`,
    '<title>Benchmarks of sluice and its peers; a shorter bar is better</title>',
    ...groups,
    '</svg>\n',
  ].join('\n')
}

function drawOne({ title, bars }) {
  const spreads = bars.map(({ values }) => spread(values))
  const widest = Math.max(...spreads.map(({ max }) => max))
  const x = (value) => Math.round((Math.max(0, value) / widest) * BARS * 10) / 10
  const rows = bars.map(({ label, show, aside, isOurs }, index) => {
    const { median, min, max } = spreads[index]
    const y = TITLE + index * ROW
    const weight = isOurs ? ' font-weight="600"' : ''
    return [
      `<text x="${LABELS - 10}" y="${y + 12}" text-anchor="end"${weight}>${escaped(label)}</text>`,
      `<rect x="${LABELS}" y="${y + 1}" width="${Math.max(1, x(median))}" height="14" rx="2" fill="${isOurs ? OURS : PEER}"/>`,
      ...(min < max
        ? [`<path d="M${LABELS + x(min)} ${y + 8}H${LABELS + x(max)}" stroke="${TEXT}" stroke-width="2"/>`]
        : []),
      `<text x="${LABELS + Math.max(x(median), x(max)) + 8}" y="${y + 12}"${weight}>${escaped(aside ? `${show(median)}, ${aside}` : show(median))}</text>`,
    ].join('')
  })
  return [`<text x="10" y="10" font-weight="600" font-size="14">${escaped(title)}</text>`, ...rows].join('\n')
}

function escaped(text) {
  return text.replace(/[&<>]/g, (character) => `&#${character.charCodeAt(0)};`)
}
