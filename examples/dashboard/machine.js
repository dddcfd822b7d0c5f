import { readdir, readFile, statfs } from 'node:fs/promises'
import os from 'node:os'
import { parse } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

/** Use is measured since the last time, but not over longer than this. */
const MAX_SPAN_MS = 5000
const FIRST_SPAN_MS = 250

const MAX_PROCESSES = 1000
const SHOWN_PROCESSES = 8
const FILES_AT_ONCE = 32
/** Linux counts the time of processes in hundredths of a second, whatever the kernel's own clock. */
const MS_PER_TICK = 10

const DISK = parse(process.cwd()).root

let previous = null

/** How the machine is doing now. */
export async function measureMachine() {
  let before = previous
  if (before === null || performance.now() - before.takenAt > MAX_SPAN_MS) {
    before = await readCounters()
    await wait(FIRST_SPAN_MS)
  }
  const after = await readCounters()
  previous = after
  const total = os.totalmem()
  const processes = await busiestProcesses(before, after)
  return {
    at: Date.now(),
    host: os.hostname(),
    uptimeS: Math.round(os.uptime()),
    cores: os.availableParallelism(),
    cpuPercent: percent(after.busyMs - before.busyMs, after.allMs - before.allMs),
    load: os.loadavg().map((load) => Math.round(load * 100) / 100),
    memory: { usedBytes: total - os.freemem(), totalBytes: total },
    disk: await readDisk(),
    ...(processes !== null && { processes }),
  }
}

/** What only grows; use is the difference of two readings. */
async function readCounters() {
  let busyMs = 0
  let allMs = 0
  for (const { times } of os.cpus()) {
    const all = times.user + times.nice + times.sys + times.irq + times.idle
    busyMs += all - times.idle
    allMs += all
  }
  const takenAt = performance.now()
  return { takenAt, busyMs, allMs, processes: await readProcesses() }
}

async function readDisk() {
  const { bsize, blocks, bfree, bavail } = await statfs(DISK)
  // What is reserved for root is neither used nor free for others; `df` reckons the same way.
  const usedBytes = (blocks - bfree) * bsize
  return { path: DISK, usedBytes, totalBytes: usedBytes + bavail * bsize }
}

/** The time each process has had so far, by its id; null where there is no /proc. */
async function readProcesses() {
  if (process.platform !== 'linux') return null
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).slice(0, MAX_PROCESSES)
  const processes = new Map()
  for (let first = 0; first < pids.length; first += FILES_AT_ONCE) {
    const some = pids.slice(first, first + FILES_AT_ONCE)
    for (const one of await Promise.all(some.map(readProcess))) {
      if (one !== null) processes.set(one.pid, one)
    }
  }
  return processes
}

/** See proc(5), /proc/pid/stat. The name is in parentheses and may itself have some. */
async function readProcess(pid) {
  const text = await readProcFile(`/proc/${pid}/stat`)
  if (text === null) return null
  const nameEnd = text.lastIndexOf(')')
  const fields = text.slice(nameEnd + 2).split(' ')
  return {
    pid: Number(pid),
    name: text.slice(text.indexOf('(') + 1, nameEnd),
    cpuMs: (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK,
    residentPages: Number(fields[21]),
  }
}

async function busiestProcesses(before, after) {
  if (before.processes === null || after.processes === null) return null
  const spanMs = after.takenAt - before.takenAt
  const busiest = [...after.processes.values()]
    .map((one) => {
      const cpuMsBefore = before.processes.get(one.pid)?.cpuMs ?? one.cpuMs
      return { ...one, cpuPercent: percent(one.cpuMs - cpuMsBefore, spanMs) }
    })
    .sort((a, b) => b.cpuPercent - a.cpuPercent || b.residentPages - a.residentPages)
    .slice(0, SHOWN_PROCESSES)
  return Promise.all(
    busiest.map(async ({ pid, name, cpuPercent }) => ({
      pid,
      name,
      cpuPercent,
      memoryBytes: await readResidentBytes(pid),
    })),
  )
}

async function readResidentBytes(pid) {
  const status = await readProcFile(`/proc/${pid}/status`)
  const kilobytes = status?.match(/^VmRSS:\s+(\d+) kB$/m)?.[1]
  return kilobytes === undefined ? 0 : Number(kilobytes) * 1024
}

/** Null for a process that has ended, or that is hidden from this user. */
async function readProcFile(path) {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(error.code)) return null
    throw error
  }
}

function percent(part, whole) {
  return whole > 0 ? Math.max(0, Math.round((part / whole) * 1000) / 10) : 0
}
