const listenersOf = new WeakMap<AbortSignal, Set<() => void>>()

/**
 * Calls the listener when the signal aborts. Returns what stops it. However many listen here, the signal has one
 * listener: Node warns of a leak at the eleventh, and a connection may well have more producers.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  const listeners = listenersOf.get(signal) ?? listenTo(signal)
  const own = (): void => listener()
  listeners.add(own)
  return () => {
    listeners.delete(own)
    if (listeners.size === 0 && listenersOf.get(signal) === listeners) {
      listenersOf.delete(signal)
      signal.removeEventListener('abort', callListeners)
    }
  }
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const listeners = new Set<() => void>()
  listenersOf.set(signal, listeners)
  signal.addEventListener('abort', callListeners, { once: true })
  return listeners
}

function callListeners(this: AbortSignal): void {
  const listeners = listenersOf.get(this)
  listenersOf.delete(this)
  for (const listener of listeners ?? []) listener()
}

/**
 * A signal that aborts when any of several does, or by itself, until it is unlinked. Not AbortSignal.any: that
 * leaves a trace in a long-lived signal for each call (Node issue 54614).
 */
export class LinkedAbort {
  readonly #controller = new AbortController()
  readonly #stops: (() => void)[] = []

  constructor(...sources: (AbortSignal | undefined)[]) {
    for (const source of sources) {
      if (source === undefined) continue
      if (source.aborted) this.abort(source.reason)
      else this.#stops.push(onAbort(source, () => this.abort(source.reason)))
    }
    if (this.signal.aborted) this.unlink()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  abort(reason?: unknown): void {
    this.unlink()
    this.#controller.abort(reason)
  }

  /** Removes its listeners. */
  unlink(): void {
    for (const stop of this.#stops.splice(0)) stop()
  }
}
