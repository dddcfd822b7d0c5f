// Measures sluice beside its peers: node bench/run.js [scenario ...] [--rounds n] [--quick] [--markdown] [--write]
//
// Each round runs every peer once, one after the other, each against a fresh server process; ratios are taken
// within a round. `--write` puts the figures of all scenarios into docs/. Ends with 0 unless a delivery was wrong or a run broke: a target that was missed is printed.
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startClient } from './lib/actors.js'
import { watchOthers } from './lib/contention.js'
import { keep, machine, table } from './lib/report.js'
import { write } from './lib/write.js'
import { channelStalled } from './scenarios/channel-stalled.js'
import { channelChurn, churn } from './scenarios/churn.js'
import { channelConnection, connection } from './scenarios/connection.js'
import { burst, single } from './scenarios/fan-out.js'
import { heartbeats } from './scenarios/heartbeats.js'
import { channelIdle, idle } from './scenarios/idle.js'
import { paced } from './scenarios/paced.js'
import { resume } from './scenarios/resume.js'
import { stalled } from './scenarios/stalled.js'

/** Cores taken by others, above which figures are told to be doubtful. */
const BUSY = 0.25

const SCENARIOS = [
  connection,
  stalled,
  idle,
  heartbeats,
  churn,
  burst,
  single,
  paced,
  resume,
  channelConnection,
  channelStalled,
  channelIdle,
  channelChurn,
]

const { values: flags, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
})
const rounds = flags.rounds === undefined ? undefined : Number(flags.rounds)
if (rounds !== undefined && !(Number.isSafeInteger(rounds) && rounds > 0)) {
  fail(`--rounds is '${flags.rounds}'; expected a whole number of 1 or more.`)
}
for (const name of names) {
  if (SCENARIOS.some((scenario) => scenario.name === name)) continue
  fail(`There is no scenario '${name}'; expected some of ${SCENARIOS.map(({ name }) => name).join(', ')}.`)
}
if (flags.write && (flags.quick || names.length > 0)) {
  fail('--write is for all scenarios at their full size; leave out --quick and the names.')
}

const results = { at: new Date().toISOString(), machine: machine(), quick: flags.quick, scenarios: {} }
const rows = []
const notes = []
const charts = []
for (const scenario of SCENARIOS) {
  if (names.length > 0 && !names.includes(scenario.name)) continue
  const size = flags.quick ? scenario.quick : scenario.full
  const coresOfOthers = watchOthers()
  const figures = await measure(scenario, size, rounds ?? size.rounds)
  const others = coresOfOthers()
  results.scenarios[scenario.name] = { size, figures, coresOfOthers: others }
  if (figures === null) continue
  const of = (peer, key) => figures[peer].map((round) => round[key])
  rows.push(...scenario.compare(of, size).map((row) => ({ scenario: scenario.name, ...row })))
  notes.push(...scenario.notes(of, size))
  if (others > BUSY) {
    notes.push(
      `${scenario.name}: doubtful. Other programs took ${others.toFixed(1)} cores of this machine meanwhile.`,
    )
  }
  charts.push(...(scenario.charts?.(of, size) ?? []))
}

if (rows.length > 0) console.log(table(rows))
if (!flags.markdown) {
  console.log(`\n${results.machine}${flags.quick ? '; quick: smaller than the claims' : ''}`)
  for (const note of notes) console.log(`- ${note}`)
  console.log(`- results: ${relative(process.cwd(), fileURLToPath(await keep(results)))}`)
} else {
  await keep(results)
}
if (flags.write) await writeDown()

/** A page of which a part is missing would be wrong. */
async function writeDown() {
  if (process.exitCode === 1) return console.error('Nothing was written: a run broke.')
  const files = await write({ at: results.at, machine: results.machine, table: table(rows), notes, charts })
  console.error(`written: ${files.map((file) => relative(process.cwd(), fileURLToPath(file))).join(', ')}`)
}

/** What each peer gave in each round; null when a run broke, which is said and makes the exit code 1. */
async function measure(scenario, size, rounds) {
  const figures = Object.fromEntries(scenario.peers.map((peer) => [peer, []]))
  const client = startClient()
  try {
    for (let round = 1; round <= rounds; round += 1) {
      for (const peer of scenario.peers) {
        if (!flags.markdown) console.error(`${scenario.name}, round ${round} of ${rounds}: ${peer}`)
        try {
          figures[peer].push(await scenario.run(peer, size, client))
        } catch (error) {
          throw new Error(`${scenario.name}, ${peer}`, { cause: error })
        }
      }
    }
    return figures
  } catch (error) {
    console.error(error)
    process.exitCode = 1
    return null
  } finally {
    await client.stop()
  }
}

function fail(message) {
  console.error(message)
  process.exit(2)
}
