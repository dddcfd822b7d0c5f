import {
  type Chunk,
  SSEHandler,
  type SSEHandlerOptions,
  type StreamAnswer,
  type StreamRequest,
  type Transport,
  type TransportSink,
} from 'sluice'
import { Gate, type GateLimits, type Guarded } from '../../src/producers/gate.js'
import { encodeEvent } from '../../src/wire/encode.js'
import type { EventInput, EventMap } from '../../src/wire/event.js'
import { ManualClock } from './clock.js'
import { until } from './until.js'

/** A transport that takes nothing until it is told to: for what a socket cannot do on demand. */
export class FakeTransport implements Transport {
  pendingBytes = 0
  /** What was called, in order; writes with the text of their chunk. */
  readonly calls: string[] = []
  readonly chunks: string[] = []
  /** Calls that break the duties of a connection towards its transport. Always to be empty. */
  readonly violations: string[] = []
  answer: StreamAnswer | null = null
  /** Takes each chunk inside `write`, as a socket with room does. */
  takesAtOnce = false
  /** What `open`, `write`, `reset` and so on are to throw. */
  readonly throwing = new Map<keyof Transport, unknown>()
  /** Tells that the client has left while the connection attaches. */
  isLostAtAttach = false
  /** Whether it is asked to wait until the last chunk is taken. */
  isWaiting = false
  #sink: TransportSink | null = null
  #state: 'new' | 'attached' | 'open' | 'answered' | 'ended' | 'reset' = 'new'

  get text(): string {
    return this.chunks.join('')
  }

  get isAttached(): boolean {
    return this.#sink !== null
  }

  attach(sink: TransportSink): void {
    this.#called('attach', this.#state === 'new')
    this.#state = 'attached'
    this.#sink = sink
    if (this.isLostAtAttach) sink.lost('client-closed')
  }

  open(answer: StreamAnswer): boolean {
    const isAgain = this.#state === 'open' && !answer.stream
    this.#called('open', this.#state === 'attached' || isAgain)
    if (isAgain && this.chunks.length > 0) return false
    this.answer = answer
    this.#state = answer.stream ? 'open' : 'answered'
    return true
  }

  write(chunk: Chunk): boolean {
    this.#called('write', this.#state === 'open' && this.isAttached && !this.isWaiting)
    this.chunks.push(Buffer.from(chunk.bytes).toString())
    if (this.takesAtOnce) return true
    this.isWaiting = true
    this.pendingBytes += chunk.byteLength
    return false
  }

  end(): void {
    this.#called('end', this.#state === 'open' && !this.isWaiting)
    this.#state = 'ended'
    if (this.takesAtOnce) this.#sink?.ended()
  }

  reset(): void {
    this.#called('reset', this.#state !== 'reset')
    this.#state = 'reset'
  }

  detach(): void {
    this.#called('detach', this.isAttached)
    this.#sink = null
  }

  /** The peer takes some bytes, or all; with the last of them there is room again. */
  take(bytes = this.pendingBytes): void {
    this.pendingBytes = Math.max(0, this.pendingBytes - bytes)
    if (this.pendingBytes > 0 || !this.isWaiting) return
    this.isWaiting = false
    this.#sink?.roomMade()
  }

  /** The end of the stream has left. */
  finish(): void {
    if (this.#state === 'ended') this.#sink?.ended()
  }

  /** The client leaves. */
  lose(error?: unknown): void {
    this.#sink?.lost('client-closed', error)
  }

  #called(name: keyof Transport, isAllowed: boolean): void {
    this.calls.push(name)
    if (!isAllowed) this.violations.push(`${name} while ${this.#state}${this.isWaiting ? ', waiting' : ''}`)
    if (this.throwing.has(name)) throw this.throwing.get(name)
  }
}

export interface FakeConnection {
  sse: SSEHandler
  transport: FakeTransport
  clock: ManualClock
}

/** A connection over a fake transport, its head written and not taken. */
export function connectFake(
  options: SSEHandlerOptions = {},
  prepare: { request?: Partial<StreamRequest>; transport?: (transport: FakeTransport) => void } = {},
): FakeConnection {
  const clock = new ManualClock()
  const transport = new FakeTransport()
  prepare.transport?.(transport)
  const request: StreamRequest = { method: 'GET', url: '/', header: () => undefined, ...prepare.request }
  const sse = new SSEHandler(transport, request, { clock, ...options })
  return { sse, transport, clock }
}

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
