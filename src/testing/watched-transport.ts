import type { Chunk, StreamAnswer, Transport, TransportSink } from 'sluice'

/** A transport under test, and the duties of the port that it broke. */
export class WatchedTransport implements Transport {
  readonly violations: string[] = []
  readonly #transport: Transport
  #isWriting = false
  #isWaiting = false
  #isEnding = false
  #isLost = false
  #isDetached = false

  constructor(transport: Transport) {
    this.#transport = transport
  }

  get pendingBytes(): number {
    const bytes = this.#transport.pendingBytes
    this.#expect(Number.isSafeInteger(bytes) && bytes >= 0, `pendingBytes is ${bytes}`)
    return bytes
  }

  attach(sink: TransportSink): void {
    this.#transport.attach({
      roomMade: () => {
        this.#told('roomMade', this.#isWaiting && !this.#isWriting)
        this.#isWaiting = false
        sink.roomMade()
      },
      ended: () => {
        this.#told('ended', this.#isEnding)
        sink.ended()
      },
      lost: (reason, error) => {
        this.#told('lost', !this.#isLost)
        this.#isLost = true
        sink.lost(reason, error)
      },
    })
  }

  open(answer: StreamAnswer): boolean {
    return this.#transport.open(answer)
  }

  write(chunk: Chunk): boolean {
    this.#isWriting = true
    const hasRoom = this.#transport.write(chunk)
    this.#isWriting = false
    this.#isWaiting = !hasRoom
    return hasRoom
  }

  end(): void {
    this.#isEnding = true
    this.#transport.end()
  }

  reset(): void {
    this.#transport.reset()
  }

  detach(): void {
    this.#isDetached = true
    this.#transport.detach()
  }

  #told(what: keyof TransportSink, isDue: boolean): void {
    this.#expect(!this.#isDetached, `${what} after detach`)
    this.#expect(isDue, `${what} when it was not due`)
  }

  #expect(isTrue: boolean, violation: string): void {
    if (!isTrue) this.violations.push(violation)
  }
}
