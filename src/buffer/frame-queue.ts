import { type Frame, frameSize } from '../wire/frame.js'
import { Ring } from './ring.js'

/** The most bytes of UTF-8 that one UTF-16 unit of a string becomes. */
const MAX_BYTES_PER_UNIT = 3

/**
 * Encoded frames that wait for the transport, at most `maxEvents`. The gate in front of it holds the limit in
 * bytes.
 *
 * Counting the bytes of a string costs as much as queueing it, so they are counted only when the answer depends
 * on them.
 */
export class FrameQueue {
  readonly #frames: Ring<Frame>
  #units = 0
  /** Kept up to date once somebody asked, until the queue is empty. */
  #bytes: number | null = null

  constructor(maxEvents: number) {
    this.#frames = new Ring(maxEvents)
  }

  get length(): number {
    return this.#frames.length
  }

  get bytes(): number {
    if (this.#bytes === null) {
      this.#bytes = 0
      for (let i = 0; i < this.#frames.length; i += 1) this.#bytes += frameSize(this.#frames.at(i) as Frame)
    }
    return this.#bytes
  }

  isBelow(maxBytes: number): boolean {
    return this.#units * MAX_BYTES_PER_UNIT < maxBytes || this.bytes < maxBytes
  }

  /** False, and nothing changes, when the queue holds `maxEvents` frames already. */
  push(frame: Frame): boolean {
    if (!this.#frames.push(frame)) return false
    this.#units += frame.length
    if (this.#bytes !== null) this.#bytes += frameSize(frame)
    return true
  }

  /**
   * Moves frames to `into`, oldest first, until they are about `maxBytes` or more (counted in UTF-16 units). Returns how
   * many these were.
   */
  take(maxBytes: number, into: Frame[]): number {
    let taken = 0
    while (taken < maxBytes) {
      const frame = this.#frames.shift()
      if (frame === undefined) break
      into.push(frame)
      taken += frame.length
      if (this.#bytes !== null) this.#bytes -= frameSize(frame)
    }
    this.#units -= taken
    if (this.#units === 0) this.#bytes = null
    return taken
  }

  clear(): void {
    this.#frames.clear()
    this.#units = 0
    this.#bytes = null
  }
}
