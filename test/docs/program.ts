import { type ChildProcess, fork } from 'node:child_process'
import { type IncomingMessage, request } from 'node:http'
import { until } from '../support/until.js'

const PRELOAD = new URL('./preload.js', import.meta.url)

/** An answer that is being read. */
export interface Answer {
  /** Status line and headers, one a line, as curl would print them. */
  readonly head: readonly string[]
  readonly body: string
  readonly ended: boolean
  leave(): void
}

/** A program of the docs that runs in a process of its own, against the built package. */
export class Program {
  stdout = ''
  stderr = ''
  port: number | null = null
  /** Responses that have closed. */
  closed = 0
  readonly #child: ChildProcess

  constructor(path: string) {
    this.#child = fork(path, {
      execArgv: ['--import', PRELOAD.href],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#child.on('message', (message: { port?: number; closed?: true }) => {
      if (message.port !== undefined) this.port = message.port
      if (message.closed) this.closed += 1
    })
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** How it ended: its exit code, or the signal that ended it. Null while it runs. */
  get end(): number | NodeJS.Signals | null {
    return this.#child.exitCode ?? this.#child.signalCode
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  async fetch(
    path: string,
    options: { method: string; headers: Record<string, string>; body: string | undefined },
  ) {
    await until(() => this.port !== null || !this.isRunning, 'the program listens')
    if (this.port === null) throw new Error(`The program ended before it listened.\n${this.stderr}`)
    const { method, headers, body } = options
    const outgoing = request({ host: '127.0.0.1', port: this.port, path, method, headers, agent: false })
    outgoing.end(body)
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve).once('error', reject)
    })
    outgoing.on('error', () => {})
    return read(response, () => void outgoing.destroy())
  }

  /** Ends it, whatever it does; resolves when it is gone and its output is complete. */
  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once('close', resolve))
    if (this.isRunning) this.#child.kill('SIGKILL')
    if (this.#child.stdout?.closed && this.#child.stderr?.closed) return
    await gone
  }
}

function read(response: IncomingMessage, leave: () => void): Answer {
  const { httpVersion, statusCode, statusMessage, rawHeaders } = response
  const headers = rawHeaders.flatMap((name, index) =>
    index % 2 === 0 ? `${name}: ${rawHeaders[index + 1]}` : [],
  )
  const state = { body: '', ended: false }
  response.setEncoding('utf8')
  response.on('data', (part: string) => {
    state.body += part
  })
  response.on('end', () => {
    state.ended = true
  })
  response.on('error', () => {})
  return {
    head: [`HTTP/${httpVersion} ${statusCode} ${statusMessage}`, ...headers],
    get body() {
      return state.body
    },
    get ended() {
      return state.ended
    },
    leave,
  }
}
