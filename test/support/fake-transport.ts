import type { SSEHandler } from 'sluice'
import { ManualClock } from 'sluice/testing'
import { Gate, type GateLimits, type Guarded } from '../../src/producers/gate.js'
import { encodeEvent } from '../../src/wire/encode.js'
import type { EventInput, EventMap } from '../../src/wire/event.js'
import { until } from './until.js'

export { connectFake, FakeTransport } from 'sluice/testing'

/** What stands behind a gate when there is no connection: a queue that is emptied by hand. */
export class GuardedQueue implements Guarded<EventMap> {
  readonly capacity: number
  readonly #blocks: string[] = []
  /** Called with each block once it is kept, as the listeners of an event log are. */
  onAccept: ((block: string) => void) | undefined
  /** Called when room is asked for, as an event log is. */
  onAsked: (() => void) | undefined

  constructor(capacity: number) {
    this.capacity = capacity
  }

  get length(): number {
    return this.#blocks.length
  }

  hasRoom(reserved: number): boolean {
    this.onAsked?.()
    return this.#blocks.length + reserved < this.capacity
  }

  /** Nobody takes from the queue but the test. */
  makeRoom(): void {}

  encode(event: EventInput): string {
    return encodeEvent(event)
  }

  accept(block: string): void {
    if (!this.hasRoom(0)) throw new Error('The gate let an event in for which there is no slot.')
    this.#blocks.push(block)
    this.onAccept?.(block)
  }

  /** Frees one slot, without the gate's knowledge, and returns what was in it. */
  take(): string | undefined {
    return this.#blocks.shift()
  }

  /** Frees every slot and returns what was in them. */
  takeAll(): string[] {
    return this.#blocks.splice(0)
  }
}

export interface GuardedGate {
  gate: Gate<EventMap>
  queue: GuardedQueue
  clock: ManualClock
}

/** A gate of its own, before a queue that is emptied by hand. */
export function gateBefore(capacity: number, limits: Partial<GateLimits> = {}): GuardedGate {
  const queue = new GuardedQueue(capacity)
  const clock = new ManualClock()
  return { queue, clock, gate: new Gate(queue, { maxWaiters: 1000, leaseMs: 8000, ...limits }, clock) }
}

export interface Tracked<T> {
  state: 'pending' | 'fulfilled' | 'rejected'
  value?: T
  error?: unknown
}

/** Watches a promise, so that a test can say that it has not settled yet. */
export function track<T>(promise: Promise<T>): Tracked<T> {
  const tracked: Tracked<T> = { state: 'pending' }
  promise.then(
    (value) => Object.assign(tracked, { state: 'fulfilled', value }),
    (error) => Object.assign(tracked, { state: 'rejected', error }),
  )
  return tracked
}

/** Lets the event loop go round: promises settle, and what a turn produced is written. */
export async function turns(count = 2): Promise<void> {
  for (let i = 0; i < count; i += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** Sends until there is no room; fails when there always is. */
export function sendUntilFull(sender: Pick<SSEHandler, 'trySend'>, event: EventInput): void {
  for (let sent = 0; sender.trySend(event) === 'queued'; sent += 1) {
    if (sent === 10_000) throw new Error('10,000 events were queued, and there is room still.')
  }
}

/**
 * Resolves when the kernel takes nothing more for a client that does not read: no byte in 25 looks in a row. The
 * producer is asked before each look to offer more.
 */
export async function untilStuck(sse: SSEHandler, offerMore: () => void = () => {}): Promise<void> {
  let unmoved = 0
  let bytes = -1
  await until(() => {
    offerMore()
    const { bytesSent, phase } = sse.stats()
    unmoved = phase !== 'flowing' && bytesSent === bytes ? unmoved + 1 : 0
    bytes = bytesSent
    return unmoved === 25
  }, 'the client is sent nothing more')
}
