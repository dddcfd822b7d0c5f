const CR = 0x0d
const LF = 0x0a

/** Frames that leave in one write. Encoded once, in the form the transport asks for. */
export class Chunk {
  readonly byteLength: number
  readonly #text: string
  #bytes: Uint8Array | null = null
  #http1: Uint8Array | null = null

  constructor(text: string) {
    this.#text = text
    this.byteLength = Buffer.byteLength(text)
  }

  /** The text in UTF-8. */
  get bytes(): Uint8Array {
    this.#bytes ??= Buffer.from(this.#text)
    return this.#bytes
  }

  /** The text in UTF-8, framed as a chunk of HTTP/1.1 (RFC 9112, section 7.1). */
  get http1(): Uint8Array {
    this.#http1 ??= this.#frame()
    return this.#http1
  }

  #frame(): Uint8Array {
    const size = `${this.byteLength.toString(16)}\r\n`
    const framed = Buffer.allocUnsafe(size.length + this.byteLength + 2)
    framed.write(size, 'latin1')
    // ASCII is the same in both, and copied faster.
    framed.write(this.#text, size.length, this.byteLength === this.#text.length ? 'latin1' : 'utf8')
    framed[framed.length - 2] = CR
    framed[framed.length - 1] = LF
    return framed
  }
}
