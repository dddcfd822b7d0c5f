import { Ring } from './ring.js'

interface Frame {
  text: string
  bytes: number
}

/** Encoded frames that wait for the transport. It counts; the gate in front of it holds the limits. */
export class FrameQueue {
  #bytes = 0
  readonly #frames: Ring<Frame>

  constructor(maxEvents: number) {
    this.#frames = new Ring(maxEvents)
  }

  get length(): number {
    return this.#frames.length
  }

  get bytes(): number {
    return this.#bytes
  }

  /** False, and nothing changes, when the queue holds `maxEvents` frames already. */
  push(text: string, bytes: number): boolean {
    if (!this.#frames.push({ text, bytes })) return false
    this.#bytes += bytes
    return true
  }

  /** Moves frames to `into`, oldest first, until they are `maxBytes` or more. Returns how many bytes it moved. */
  take(maxBytes: number, into: string[]): number {
    let taken = 0
    while (taken < maxBytes) {
      const frame = this.#frames.shift()
      if (frame === undefined) break
      into.push(frame.text)
      taken += frame.bytes
    }
    this.#bytes -= taken
    return taken
  }

  clear(): void {
    this.#frames.clear()
    this.#bytes = 0
  }
}
