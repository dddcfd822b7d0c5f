import { fork } from 'node:child_process'

const CALL_LIMIT_MS = 120_000

/**
 * Starts a process that answers calls. It may call `gc()`. What it prints goes to stderr: stdout is for the
 * table.
 */
export function startProcess(file, args = []) {
  const child = fork(file, args, { execArgv: ['--expose-gc'], stdio: ['ignore', 2, 2, 'ipc'] })
  const pending = new Map()
  let calls = 0
  let ended = null
  const settle = (id, error, result) => {
    const call = pending.get(id)
    if (call === undefined) return
    pending.delete(id)
    clearTimeout(call.timer)
    if (error === undefined) call.resolve(result)
    else call.reject(new Error(error))
  }
  const exited = new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      ended = `the process ended, with ${signal ?? `code ${code}`}`
      for (const id of pending.keys()) settle(id, ended)
      resolve()
    })
  })
  child.on('message', ({ id, result, error }) => settle(id, error, result))
  return {
    call(name, ...args) {
      if (ended !== null) return Promise.reject(new Error(ended))
      const id = calls
      calls += 1
      const answer = new Promise((resolve, reject) => {
        const late = `no answer to '${name}' in ${CALL_LIMIT_MS / 1000} s`
        const timer = setTimeout(() => settle(id, late), CALL_LIMIT_MS)
        pending.set(id, { resolve, reject, timer })
        child.send({ id, name, args }, (error) => error && settle(id, error.message))
      })
      // A call that nobody waits for any more, because another one failed, may fail too.
      answer.catch(() => {})
      return answer
    },
    async stop() {
      if (child.connected) child.disconnect()
      await exited
    },
  }
}

/** The other side: answers the calls of the process that started this one, and ends with it. */
export function answerCalls(handlers) {
  process.on('message', async ({ id, name, args }) => {
    try {
      process.send({ id, result: await handlers[name](...args) })
    } catch (error) {
      process.send({ id, error: error.stack })
    }
  })
  process.on('disconnect', () => process.exit())
}
