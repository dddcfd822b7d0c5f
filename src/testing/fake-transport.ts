import {
  type Chunk,
  SSEHandler,
  type SSEHandlerOptions,
  type StreamAnswer,
  type StreamRequest,
  type Transport,
  type TransportSink,
} from 'sluice'
import { ManualClock } from './manual-clock.js'

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

/** A connection over a fake transport. */
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
