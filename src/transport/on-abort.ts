/** Who waits for a signal, and what stops the one listener that all of them share. */
interface Waiting {
  readonly listeners: Set<() => void>
  stop(): void
}

/** A program may give one signal to all its requests, and Node warns of more than ten listeners of one. */
const waiting = new WeakMap<AbortSignal, Waiting>()

/** Whether a request may have it for its signal; wrappers of requests may have none. */
export function isSignal(signal: unknown): boolean {
  return signal == null || typeof (signal as Partial<AbortSignal>).addEventListener === 'function'
}

/** Calls the listener once when the signal aborts, at once when it has already. Returns what stops it. */
export function onAbort(signal: AbortSignal | null | undefined, listener: () => void): () => void {
  if (signal?.aborted) listener()
  if (signal == null || signal.aborted) return () => {}
  const { listeners, stop } = waiting.get(signal) ?? listenTo(signal)
  // Of its own, so that a listener may be given twice.
  const tell = () => listener()
  listeners.add(tell)
  return () => {
    if (listeners.delete(tell) && listeners.size === 0) stop()
  }
}

function listenTo(signal: AbortSignal): Waiting {
  const listeners = new Set<() => void>()
  const stop = () => {
    signal.removeEventListener('abort', tellAll)
    waiting.delete(signal)
  }
  const tellAll = () => {
    stop()
    for (const tell of listeners) tell()
  }
  signal.addEventListener('abort', tellAll)
  const made = { listeners, stop }
  waiting.set(signal, made)
  return made
}
