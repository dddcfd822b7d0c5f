/** As a response of Node, with what a middleware may have put on it. */
interface ReplacedResponse {
  write(bytes: Uint8Array): unknown
  flush?(): void
  on(name: 'drain', listener: () => void): unknown
  off(name: 'drain', listener: () => void): unknown
}

/** Writes to a response whose `write` a middleware has replaced, which may pass neither a callback nor the result on. */
export class ReplacedWrite {
  readonly #response: ReplacedResponse
  readonly #onDrain: () => void
  #isListening = false

  constructor(response: ReplacedResponse, onDrain: () => void) {
    this.#response = response
    this.#onDrain = onDrain
  }

  /** Whether more is taken at once; undefined when the middleware does not say. */
  write(bytes: Uint8Array): boolean | undefined {
    const result = this.#response.write(bytes)
    // What compresses has it, by the custom of compression of Express.
    this.#response.flush?.()
    return typeof result === 'boolean' ? result : undefined
  }

  /** On the response, whose `on` what compresses has replaced, too. Once, because it never takes a listener off. */
  listenForDrain(): void {
    if (this.#isListening) return
    this.#isListening = true
    this.#response.on('drain', this.#onDrain)
  }

  detach(): void {
    this.#response.off('drain', this.#onDrain)
  }
}
