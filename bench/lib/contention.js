// Whether something else was busy on this machine while a scenario ran: then its figures are worth less.
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { microsecondsOf } from './operating-system.js'

/** Starts to look; what it returns says how many cores others took on average, NaN where the system does not tell. */
export function watchOthers() {
  const startedAt = performance.now()
  const before = takenByOthers()
  return () => (takenByOthers() - before) / 1000 / (performance.now() - startedAt)
}

/** Microseconds taken by all but this process and those it has started and seen end. */
function takenByOthers() {
  const all = cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0)
  const { user, system } = process.cpuUsage()
  return all * 1000 - user - system - takenByChildren()
}

function takenByChildren() {
  try {
    const stat = readFileSync('/proc/self/stat', 'latin1')
    // The 16th and 17th fields: user and system ticks of children that have ended.
    return microsecondsOf(stat, 16) + microsecondsOf(stat, 17)
  } catch {
    return Number.NaN
  }
}
