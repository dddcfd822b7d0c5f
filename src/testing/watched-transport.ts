import { type EventEmitter, getEventListeners } from 'node:events'
import type { Chunk, StreamAnswer, Transport, TransportSink } from 'sluice'

type ListenedTo = readonly (EventEmitter | AbortSignal)[]

/** A transport under test, and the duties of the port that it broke. */
export class WatchedTransport implements Transport {
  readonly violations: string[] = []
  readonly #transport: Transport
  /** Whether it has told that the end has left. */
  hasEnded = false
  readonly #listenedTo: ListenedTo
  readonly #listeners: Map<string, unknown[]>
  #isWriting = false
  #isWaiting = false
  #isEnding = false
  #isLost = false
  #isDetached = false

  constructor(transport: Transport, listenedTo: ListenedTo = []) {
    this.#transport = transport
    this.#listenedTo = listenedTo
    this.#listeners = listenersOf(listenedTo)
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
        this.#told('ended', this.#isEnding && !this.hasEnded && this.pendingBytes === 0)
        this.hasEnded = true
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
    for (const [name, listeners] of listenersOf(this.#listenedTo)) {
      // Not their number: meanwhile Node may have removed one of its own.
      const before = this.#listeners.get(name) ?? []
      const left = listeners.filter((listener) => !before.includes(listener))
      this.#expect(left.length === 0, `${left.length} listeners of ${name} left after detach`)
    }
  }

  #told(what: keyof TransportSink, isDue: boolean): void {
    this.#expect(!this.#isDetached, `${what} after detach`)
    this.#expect(isDue, `${what} when it was not due`)
  }

  #expect(isTrue: boolean, violation: string): void {
    if (!isTrue) this.violations.push(violation)
  }
}

/**
 * Those of errors may stay, because a late error must not end the process; the others Node adds itself, when it ends a
 * response or throws a body away.
 */
const NOT_COUNTED: readonly unknown[] = ['error', 'finish', 'data']

/** The listeners that there are, by what they listen to. */
function listenersOf(listenedTo: ListenedTo): Map<string, unknown[]> {
  const listeners = new Map<string, unknown[]>()
  for (const [i, target] of listenedTo.entries()) {
    const names = target instanceof AbortSignal ? ['abort'] : target.eventNames()
    for (const name of names) {
      if (NOT_COUNTED.includes(name)) continue
      const what = `${String(name)} (${i}, ${target.constructor.name})`
      listeners.set(what, getEventListeners(target, name as string))
    }
  }
  return listeners
}
