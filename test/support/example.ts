import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { until } from './until.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** A program of `examples/` that runs in a process of its own. */
export interface RunningExample {
  readonly child: ChildProcess
  /** What it has printed so far. */
  readonly output: string
  /** Its exit code, or the signal that ended it; null while it runs. */
  readonly exit: number | NodeJS.Signals | null
  /** Where it puts temporary files: an empty folder at the start. */
  readonly temporaryFolder: string
}

/** How an example is run that needs more than its name. */
export interface ExampleOptions {
  /** Arguments of Node itself. */
  nodeArgs?: readonly string[]
  env?: Readonly<Record<string, string>>
}

/** Starts an example with the built package. The test's end ends it. */
export async function startExample(
  path: string,
  args: readonly string[] = [],
  { nodeArgs = [], env = {} }: ExampleOptions = {},
): Promise<RunningExample> {
  if (!existsSync(join(ROOT, 'dist/index.js'))) {
    throw new Error(
      'The examples run with the built package, and there is no dist/index.js: run `npm run build`.',
    )
  }
  const temporaryFolder = await makeFolder()
  const child = spawn(process.execPath, [...nodeArgs, join(ROOT, 'examples', path), ...args], {
    cwd: ROOT,
    env: { ...process.env, PORT: '0', TMPDIR: temporaryFolder, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const state: { output: string; exit: RunningExample['exit'] } = { output: '', exit: null }
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      state.output += part
    })
  }
  // 'close' and not 'exit': all it has printed is there then.
  child.once('close', (code, signal) => {
    state.exit = code ?? signal
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await until(() => state.exit !== null, 'the example has ended')
  })
  return {
    child,
    temporaryFolder,
    get output() {
      return state.output
    },
    get exit() {
      return state.exit
    },
  }
}

/** An empty folder; gone when the test ends. */
export async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}
