// What the operating system says about a process.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

/** CPU time that another process has taken, user and system; Linux only. In steps of a tick, which is 10 ms. */
export function cpuMicrosecondsOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return microsecondsOf(stat, 14) + microsecondsOf(stat, 15)
}

/** A field of /proc/…/stat that counts ticks; the fields are numbered from 1, as in proc(5). */
export function microsecondsOf(stat, field) {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'latin1' }))
  // The second field, the name of the program, is in brackets and may hold anything.
  const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[field - 3]
  return (Number(ticks) / ticksPerSecond) * 1e6
}

let ticksPerSecond

/** CPU time that this process has taken, user and system. */
export function cpuMicroseconds() {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** System calls with which a process has written, to whatever; Linux only, else NaN. */
export function writeCallsOf(pid = 'self') {
  try {
    return Number(/^syscw: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))[1])
  } catch {
    return Number.NaN
  }
}

/** The most memory that another process has had resident since it began; Linux only. */
export function peakRssOf(pid) {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1]) * 1024
}

/** The most memory that this process has had resident, since it began or since `forgetPeak`. */
export function peakRss() {
  try {
    return peakRssOf('self')
  } catch {
    // On Linux this may be what the process had that started this one.
    return process.resourceUsage().maxRSS * 1024
  }
}

/** Has the peak begin anew, where the system can. */
export function forgetPeak() {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    // Then it is the peak since the process began: too much rather than too little.
  }
}
