import { onTestFinished } from 'vitest'

/** Takes the rejections that nobody handles until the test ends, in place of the test runner, which fails for each. */
export function takeUnhandledRejections(): unknown[] {
  const taken: unknown[] = []
  const others = process.listeners('unhandledRejection')
  const take = (error: unknown) => void taken.push(error)
  process.removeAllListeners('unhandledRejection')
  process.on('unhandledRejection', take)
  onTestFinished(() => {
    process.off('unhandledRejection', take)
    for (const other of others) process.on('unhandledRejection', other)
  })
  return taken
}
