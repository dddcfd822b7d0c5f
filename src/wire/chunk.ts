import { type Frame, frameSize } from './frame.js'

/** The end of a chunk of HTTP/1.1. */
const END = '\r\n'

/** Frames that leave in one write. Encoded once, whatever the number of connections and transports that write it. */
export class Chunk {
  readonly byteLength: number
  /** Runs of short frames are one string. Null once encoded. */
  #parts: Frame[] | null
  #http1: Buffer | null = null
  /** A view of the same memory. */
  #bytes: Uint8Array | null = null

  constructor(frames: readonly Frame[]) {
    this.#parts = joinedStrings(frames)
    let byteLength = 0
    for (const part of this.#parts) byteLength += frameSize(part)
    this.byteLength = byteLength
  }

  /** The frames in UTF-8. */
  get bytes(): Uint8Array {
    const { http1 } = this
    const end = http1.length - END.length
    this.#bytes ??= http1.subarray(end - this.byteLength, end)
    return this.#bytes
  }

  /** The frames in UTF-8, framed as a chunk of HTTP/1.1 (RFC 9112, section 7.1). */
  get http1(): Buffer {
    if (this.#http1 === null) {
      const size = `${this.byteLength.toString(16)}\r\n`
      const framed = Buffer.allocUnsafe(size.length + this.byteLength + END.length)
      let at = framed.write(size, 'latin1')
      for (const part of this.#parts ?? []) {
        if (typeof part === 'string') {
          at += framed.write(part, at)
        } else {
          framed.set(part, at)
          at += part.length
        }
      }
      framed.write(END, at, 'latin1')
      this.#http1 = framed
      this.#parts = null
    }
    return this.#http1
  }
}

function joinedStrings(frames: readonly Frame[]): Frame[] {
  const parts: Frame[] = []
  let run: string[] = []
  for (const frame of frames) {
    if (typeof frame === 'string') {
      run.push(frame)
      continue
    }
    if (run.length > 0) parts.push(run.join(''))
    run = []
    parts.push(frame)
  }
  if (run.length > 0) parts.push(run.join(''))
  return parts
}
