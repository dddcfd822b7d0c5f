import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { certificate } from '../support/certificate.js'
import { until } from '../support/until.js'

const PROGRAMS = fileURLToPath(new URL('./programs/', import.meta.url))

/** What a program can be asked for, in front of its routes. */
export type Feature = 'compression' | 'slow-session'

interface Message {
  port?: number
  opened?: true
  phase?: string
  closed?: string
  waiting?: true
  disconnected?: true
  flooded?: number
  memory?: NodeJS.MemoryUsage
}

/** A program of `programs/`, in a process of its own with the built package, and what it has told. */
export class FrameworkProgram {
  port = 0
  /** Streams it has opened. */
  opened = 0
  /** The phase of the last one. */
  phase = ''
  /** The reasons of those that have closed. */
  readonly closed: string[] = []
  /** Requests that wait for their session. */
  waiting = 0
  /** Connections that are gone. */
  disconnected = 0
  /** Bytes that a flood has been allowed to send. */
  floodedBytes = 0
  output = ''
  /** How it ended; null while it runs. */
  end: number | NodeJS.Signals | null = null
  #memory: NodeJS.MemoryUsage | null = null
  readonly #child: ChildProcess

  constructor(file: string, features: readonly Feature[]) {
    this.#child = fork(PROGRAMS + file, features, {
      execArgv: file.endsWith('.ts') ? ['--import', 'tsx'] : [],
      env: {
        ...process.env,
        KEY: certificate.key,
        CERT: certificate.cert,
        TSX_TSCONFIG_PATH: `${PROGRAMS}tsconfig.json`,
        NEXT_TELEMETRY_DISABLED: '1',
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    this.#child.on('message', (message: Message) => this.#told(message))
    this.#child.once('close', (code, signal) => {
      this.end = code ?? signal
    })
  }

  #told(message: Message): void {
    this.port = message.port ?? this.port
    this.phase = message.phase ?? this.phase
    this.opened += message.opened ? 1 : 0
    this.waiting += message.waiting ? 1 : 0
    this.disconnected += message.disconnected ? 1 : 0
    this.floodedBytes += message.flooded ?? 0
    this.#memory = message.memory ?? this.#memory
    if (message.closed !== undefined) this.closed.push(message.closed)
  }

  tell(command: 'publish' | 'flood' | 'pass' | 'shutdown', data?: unknown): void {
    this.#child.send({ command, data })
  }

  async memory(): Promise<NodeJS.MemoryUsage> {
    this.#memory = null
    this.#child.send({ command: 'measure' })
    await this.until(() => this.#memory !== null, 'it tells its memory')
    return this.#memory as unknown as NodeJS.MemoryUsage
  }

  /** Waits, but not for a program that has ended. */
  async until(condition: () => boolean, what: string): Promise<void> {
    await until(() => condition() || this.end !== null, what).catch((error) => {
      throw new Error(`${error.message}. It printed: ${this.output}`)
    })
    if (!condition()) throw new Error(`It ended (${this.end}) before ${what}. It printed: ${this.output}`)
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL')
    await until(() => this.end !== null, 'the program is gone')
  }
}

/** Starts a program; the test's end ends it. */
export async function startProgram(
  file: string,
  features: readonly Feature[] = [],
): Promise<FrameworkProgram> {
  const program = new FrameworkProgram(file, features)
  onTestFinished(() => program.stop())
  await program.until(() => program.port !== 0, 'it listens')
  return program
}
