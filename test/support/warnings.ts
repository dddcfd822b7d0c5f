import { onTestFinished } from 'vitest'

/** Warnings of the process until the test ends. */
export function takeWarnings(): (Error & { detail?: string })[] {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => void warnings.push(warning)
  process.on('warning', onWarning)
  onTestFinished(() => void process.off('warning', onWarning))
  return warnings
}
