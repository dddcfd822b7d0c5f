import { onAbort as onLaterAbort } from '../producers/abort.js'

/** Whether a request may have it for its signal; wrappers of requests may have none. */
export function isSignal(signal: unknown): boolean {
  return signal == null || typeof (signal as Partial<AbortSignal>).addEventListener === 'function'
}

/** Calls the listener once when the signal aborts, at once when it has already. Returns what stops it. */
export function onAbort(signal: AbortSignal | null | undefined, listener: () => void): () => void {
  if (signal?.aborted) listener()
  return signal == null || signal.aborted ? () => {} : onLaterAbort(signal, listener)
}
