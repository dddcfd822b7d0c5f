import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const PROGRAMS = fileURLToPath(new URL('./programs/', import.meta.url))
const BUILT = fileURLToPath(new URL('../../dist/index.js', import.meta.url))
const CALL_LIMIT_MS = 60_000

/** A program of `programs/` in a process of its own, which answers calls and ends with this one. */
export interface Program {
  readonly pid: number
  call<T = void>(name: string, ...args: unknown[]): Promise<T>
  /** Ends it at once. */
  kill(): Promise<void>
}

interface Pending {
  resolve(result: unknown): void
  reject(error: Error): void
}

/** Starts a program, behind words such as those that enter a namespace. The caller ends it. */
export function startProgram(name: string, before: string[] = [], nodeOptions: string[] = []): Program {
  if (!existsSync(BUILT)) {
    throw new Error(
      'The fault tests run with the built package, and there is no dist/index.js: run `npm run build`.',
    )
  }
  const [command = '', ...words] = [...before, process.execPath, ...nodeOptions, `${PROGRAMS}${name}.js`]
  const child = spawn(command, words, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const pending = new Map<number, Pending>()
  let calls = 0
  let end: string | null = null
  const ended = new Promise<void>((resolve) => {
    const fail = (what: string) => {
      end ??= what
      for (const { reject } of pending.values()) reject(new Error(what))
      pending.clear()
      resolve()
    }
    child.once('exit', (code, signal) => fail(`The program ${name} ended, with ${signal ?? `code ${code}`}.`))
    child.once('error', (error) => fail(`The program ${name} did not start: ${error.message}`))
  })
  child.on('message', ({ id, result, error }: { id: number; result: unknown; error?: string }) => {
    if (error === undefined) pending.get(id)?.resolve(result)
    else pending.get(id)?.reject(new Error(error))
    pending.delete(id)
  })
  return {
    pid: child.pid ?? 0,
    async call<T>(method: string, ...args: unknown[]): Promise<T> {
      if (end !== null) throw new Error(end)
      const id = calls++
      const late = AbortSignal.timeout(CALL_LIMIT_MS)
      return await new Promise<T>((resolve, reject) => {
        late.onabort = () => reject(new Error(`${name} did not answer '${method}' in time.`))
        pending.set(id, { resolve: resolve as Pending['resolve'], reject })
        child.send({ id, name: method, args }, (error) => error && reject(error))
      }).finally(() => {
        late.onabort = null
      })
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
