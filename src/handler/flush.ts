import { textOf } from '../errors.js'

/** Something that writes when it is told to. */
export interface Flushable {
  flush(): void
}

let due: Flushable[] = []

/**
 * Has `flush` called once in the check phase of this turn of the event loop: whatever a turn produced for a
 * connection leaves in one write. All connections share one immediate.
 */
export function scheduleFlush(flushable: Flushable): void {
  if (due.push(flushable) === 1) setImmediate(flushDue)
}

function flushDue(): void {
  const flushables = due
  due = []
  for (const flushable of flushables) {
    try {
      flushable.flush()
    } catch (error) {
      process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in a flush' })
    }
  }
}
