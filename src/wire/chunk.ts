import { type Frame, frameSize } from './frame.js'

const CR = 0x0d
const LF = 0x0a

/** Frames that leave in one write. Encoded once, in the form the transport asks for. */
export class Chunk {
  readonly byteLength: number
  /** Runs of short frames are one string. */
  readonly #parts: Frame[]
  #bytes: Uint8Array | null = null
  #http1: Uint8Array | null = null

  constructor(frames: readonly Frame[]) {
    this.#parts = joinedStrings(frames)
    let byteLength = 0
    for (const part of this.#parts) byteLength += frameSize(part)
    this.byteLength = byteLength
  }

  /** The frames in UTF-8. */
  get bytes(): Uint8Array {
    if (this.#bytes === null) {
      this.#bytes = Buffer.allocUnsafe(this.byteLength)
      this.#copyTo(this.#bytes as Buffer, 0)
    }
    return this.#bytes
  }

  /** The frames in UTF-8, framed as a chunk of HTTP/1.1 (RFC 9112, section 7.1). */
  get http1(): Uint8Array {
    if (this.#http1 === null) {
      const size = `${this.byteLength.toString(16)}\r\n`
      const framed = Buffer.allocUnsafe(size.length + this.byteLength + 2)
      framed.write(size, 'latin1')
      this.#copyTo(framed, size.length)
      framed[framed.length - 2] = CR
      framed[framed.length - 1] = LF
      this.#http1 = framed
    }
    return this.#http1
  }

  #copyTo(target: Buffer, start: number): void {
    let at = start
    for (const part of this.#parts) {
      if (typeof part === 'string') {
        at += target.write(part, at)
      } else {
        target.set(part, at)
        at += part.length
      }
    }
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
