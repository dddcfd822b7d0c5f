import { LinkedAbort } from './abort.js'
import type { SendPermit } from './permit.js'
import { isClosedError, type RequestOptions } from './send.js'

interface PermitSource<Events extends object> {
  requestSend(options?: RequestOptions): Promise<SendPermit<Events>>
}

/** Permits as an async iterable. Written by hand: a generator's `return()` would wait behind a pending `next()`. */
export class Demand<Events extends object> implements AsyncIterableIterator<SendPermit<Events>> {
  readonly #gate: PermitSource<Events>
  readonly #abort: LinkedAbort
  #isStopped = false

  constructor(gate: PermitSource<Events>, options: RequestOptions | undefined) {
    this.#gate = gate
    this.#abort = new LinkedAbort(options?.signal)
  }

  async next(): Promise<IteratorResult<SendPermit<Events>, undefined>> {
    try {
      return { done: false, value: await this.#gate.requestSend({ signal: this.#abort.signal }) }
    } catch (error) {
      this.#abort.unlink()
      if (this.#isStopped || isClosedError(error)) return { done: true, value: undefined }
      throw error
    }
  }

  async return(): Promise<IteratorResult<SendPermit<Events>, undefined>> {
    this.#isStopped = true
    this.#abort.abort()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
