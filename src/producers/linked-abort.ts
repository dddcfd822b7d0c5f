/**
 * Aborts when any of several signals does, until it is unlinked. Not AbortSignal.any: that leaves a trace in a
 * long-lived signal for each call (Node issue 54614).
 */
export class LinkedAbort {
  readonly #controller = new AbortController()
  readonly #sources: AbortSignal[]

  constructor(...sources: (AbortSignal | undefined)[]) {
    this.#sources = sources.filter((source) => source !== undefined)
    for (const source of this.#sources) source.addEventListener('abort', this.#onAbort)
    this.#onAbort()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Removes its listeners. */
  unlink(): void {
    for (const source of this.#sources) source.removeEventListener('abort', this.#onAbort)
  }

  readonly #onAbort = (): void => {
    const aborted = this.#sources.find((source) => source.aborted)
    if (aborted === undefined) return
    this.unlink()
    this.#controller.abort(aborted.reason)
  }
}
