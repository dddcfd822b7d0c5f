import { spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { chromium } from 'playwright-core'
import type { TestProject } from 'vitest/node'

declare module 'vitest' {
  export interface ProvidedContext {
    chromiumPath: string
    curlPath: string
    nginxPath: string
    /** `ip` and `tc` of iproute2. Empty on other systems than Linux, which have neither. */
    ipPath: string
    tcPath: string
  }
}

/** A program that the tests run and npm does not bring. */
interface Need {
  name: string
  /** Says another path than those looked at. */
  variable: string
  /** What it is asked to see whether it runs. Default: `--version`. */
  versionFlag?: string
  /** Where it may be: paths, and names to look up on PATH. */
  candidates: string[]
  /** What its package is called, by package manager. */
  packages: Record<PackageManager, string[]>
  /** Another way to get it. */
  elsewhere: string
}

type PackageManager = 'apt-get' | 'dnf' | 'apk' | 'brew'

interface Install {
  /** Run before, to know what there is. */
  update?: string[]
  install: string[]
  asRoot: boolean
}

const INSTALLS: Record<PackageManager, Install> = {
  'apt-get': { update: ['update'], install: ['install', '-y', '--no-install-recommends'], asRoot: true },
  dnf: { install: ['install', '-y'], asRoot: true },
  apk: { install: ['add', '--no-cache'], asRoot: true },
  brew: { install: ['install'], asRoot: false },
}

const CHROMIUM: Need = {
  name: 'Chromium',
  variable: 'CHROMIUM_PATH',
  candidates: [
    'chromium',
    'chromium-browser',
    'google-chrome',
    'google-chrome-stable',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    chromium.executablePath(),
  ],
  packages: {
    'apt-get': ['chromium'],
    dnf: ['chromium'],
    apk: ['chromium'],
    brew: ['--cask', 'google-chrome'],
  },
  elsewhere: 'npx playwright-core install --with-deps chromium',
}

const CURL: Need = {
  name: 'curl',
  variable: 'CURL_PATH',
  candidates: ['curl'],
  packages: { 'apt-get': ['curl'], dnf: ['curl'], apk: ['curl'], brew: ['curl'] },
  elsewhere: 'see https://curl.se/download.html',
}

const NGINX: Need = {
  name: 'nginx',
  variable: 'NGINX_PATH',
  versionFlag: '-v',
  // Not everybody who may run it has its folder on the path.
  candidates: ['nginx', '/usr/sbin/nginx'],
  packages: { 'apt-get': ['nginx-light'], dnf: ['nginx'], apk: ['nginx'], brew: ['nginx'] },
  elsewhere: 'see https://nginx.org/en/docs/install.html',
}

const IPROUTE2 = {
  versionFlag: '-V',
  packages: { 'apt-get': ['iproute2'], dnf: ['iproute', 'iproute-tc'], apk: ['iproute2'], brew: [] },
  elsewhere: 'see https://wiki.linuxfoundation.org/networking/iproute2',
}

const IP: Need = {
  ...IPROUTE2,
  name: 'ip of iproute2',
  variable: 'IP_PATH',
  candidates: ['ip', '/usr/sbin/ip', '/sbin/ip'],
}

const TC: Need = {
  ...IPROUTE2,
  name: 'tc of iproute2',
  variable: 'TC_PATH',
  candidates: ['tc', '/usr/sbin/tc', '/sbin/tc'],
}

/** Vitest's global set-up: finds what the tests need, or installs it, or says what to do. Nothing is skipped. */
export default function setup(project: TestProject): void {
  project.provide('chromiumPath', pathOf(CHROMIUM))
  project.provide('curlPath', pathOf(CURL))
  project.provide('nginxPath', pathOf(NGINX))
  const isLinux = process.platform === 'linux'
  if (!isLinux) {
    console.warn(
      `The network faults of test/faults/network.test.ts are skipped: they need the network namespaces of Linux, and this is ${process.platform}.`,
    )
  }
  project.provide('ipPath', isLinux ? pathOf(IP) : '')
  project.provide('tcPath', isLinux ? pathOf(TC) : '')
}

function pathOf(need: Need): string {
  const given = process.env[need.variable]
  if (given !== undefined && given !== '') {
    if (runs(given, need.versionFlag)) return given
    throw new Error(
      `${need.variable} is '${given}', and '${given} ${need.versionFlag ?? '--version'}' does not run; set it to ${need.name}, or unset it.`,
    )
  }
  const found = find(need)
  if (found !== null) return found
  const tried = install(need)
  const installed = find(need)
  if (installed !== null) return installed
  throw new Error(remedy(need, tried))
}

function find({ candidates, versionFlag }: Need): string | null {
  return candidates.flatMap(pathsOf).find((path) => runs(path, versionFlag)) ?? null
}

function pathsOf(candidate: string): string[] {
  if (candidate.includes('/') || candidate.includes('\\')) return [candidate]
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  return folders.map((folder) => join(folder, candidate))
}

/** Whether a program starts: some systems have a placeholder under its name, which only says how to install it. */
function runs(path: string, versionFlag = '--version'): boolean {
  return spawnSync(path, [versionFlag], { stdio: 'ignore', timeout: 30_000 }).status === 0
}

/** Installs with the system's package manager. Returns what was tried and failed; null when nothing did. */
function install(need: Need): string | null {
  const manager = managerHere()
  if (manager === null) return 'found none of the package managers apt-get, dnf, apk and brew'
  const { update, install, asRoot } = INSTALLS[manager]
  const mustSudo = asRoot && process.getuid?.() !== 0
  if (mustSudo && !runsQuietly('sudo', ['-n', 'true'])) return `may not run ${manager} as root`
  const prefix = mustSudo ? ['sudo', '-n', manager] : [manager]
  const commands = [update, [...install, ...need.packages[manager]]].filter((words) => words !== undefined)
  console.log(`The tests need ${need.name}; installing it with ${manager}, which may take some minutes.`)
  const failures: string[] = []
  for (const words of commands) {
    const [program = manager, ...rest] = [...prefix, ...words]
    const { status, stdout, stderr, error } = spawnSync(program, rest, {
      encoding: 'utf8',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
    if (status === 0) continue
    const lastLines = `${stdout ?? ''}${stderr ?? ''}`.trim().split('\n').slice(-5).join('\n')
    failures.push(`ran '${[program, ...rest].join(' ')}', which failed: ${error?.message ?? lastLines}`)
  }
  return failures.length === 0 ? null : failures.join('\nIt ')
}

function managerHere(): PackageManager | null {
  const managers = Object.keys(INSTALLS) as PackageManager[]
  return managers.find((manager) => runsQuietly(manager, ['--version'])) ?? null
}

function runsQuietly(program: string, words: string[]): boolean {
  return spawnSync(program, words, { stdio: 'ignore' }).status === 0
}

function remedy(need: Need, tried: string | null): string {
  const managers = Object.entries(INSTALLS) as [PackageManager, Install][]
  const ways = managers
    .filter(([manager]) => need.packages[manager].length > 0)
    .map(
      ([manager, { install, asRoot }]) =>
        `  ${asRoot ? 'sudo ' : ''}${manager} ${[...install, ...need.packages[manager]].join(' ')}`,
    )
  return [
    `The tests need ${need.name}, which is not on this machine.`,
    tried === null
      ? 'Its package was installed, but it does not run.'
      : `It could not be installed by itself: this set-up ${tried}`,
    `Install it in one of these ways, or set ${need.variable} to its path:`,
    ...ways,
    `  ${need.elsewhere}`,
  ].join('\n')
}
