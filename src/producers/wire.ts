import type { CloseReason } from '../close-reason.js'
import { SSEError, shown, textOf } from '../errors.js'
import { knownOptions, oneOf, wholeNumber } from '../options.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { onAbort } from './abort.js'
import type { SendPermit } from './permit.js'
import type { PipeTarget } from './pipe.js'
import { isClosedError } from './send.js'

/** A source that pushes: an EventEmitter, an EventTarget, or a function that subscribes a callback. */
export type PushSource<T> =
  | {
      on(event: string, listener: (item: T) => void): unknown
      off(event: string, listener: (item: T) => void): unknown
    }
  | EventTarget
  | ((emit: (item: T) => void) => () => void)

/** What `wire` sends to: a connection. */
export interface WireTarget<Events extends object = EventMap> extends PipeTarget<Events> {
  /** A slot if one is free, as `SSEHandler.tryRequestSend` gives it. Never waits. */
  tryRequestSend(): SendPermit<Events> | null
  /** Closes the target: for the policy `close`. */
  close(options: { reason: CloseReason }): Promise<unknown>
}

/** Options of {@link wire}. */
export interface WireOptions<T, Events extends object = EventMap> {
  /** The names to listen to, for an emitter or an EventTarget. */
  events?: readonly string[] | undefined
  /** Makes an event of what was emitted, by the name it was emitted under; null or undefined skips it. Default: `{ event: name, data: item }`. */
  map?: ((item: T, name: string) => EventInput<Events> | null | undefined) | undefined
  /**
   * What happens when the client is slower than the source and `maxEvents` wait.
   * - `drop-newest`: what comes is dropped.
   * - `drop-oldest`: what waits longest is dropped.
   * - `keep-latest`: of events with the same `key` only the latest waits; a key too many drops the oldest one.
   * - `close`: the connection closes with reason `slow-consumer`.
   */
  policy: 'drop-newest' | 'drop-oldest' | 'keep-latest' | 'close'
  /** With `keep-latest`: what an event replaces. Default: the event's name. */
  key?: ((event: EventInput<Events>) => string) | undefined
  /** The most events that wait here, besides those in the connection's queue. Minimum 1, default 64. */
  maxEvents?: number | undefined
  /** Called at the first drop of each series, not for each drop; `dropped` counts all so far. */
  onDrop?: ((info: { dropped: number }) => void) | undefined
  /** Called with what `map`, `key`, `onDrop` or an event that cannot be sent threw, and the item it was about. Default: a process warning. */
  onError?: ((error: unknown, item: T) => void) | undefined
  /** Stops listening. */
  signal?: AbortSignal | undefined
}

/** How a {@link wire} ended, and its figures. */
export interface WireResult {
  /** `closed`: the connection closed. `stopped`: `stop()` or the signal. */
  outcome: 'closed' | 'stopped'
  sent: number
  dropped: number
}

/** A push source that is wired to a connection. */
export interface Wired {
  readonly sent: number
  /** Events dropped by the policy. */
  readonly dropped: number
  /** Events that wait here. */
  readonly waiting: number
  /** Stops listening and forgets what waits. */
  stop(): void
  /** Resolves when nothing is listened to any more. Never rejects. */
  readonly done: Promise<WireResult>
}

const KNOWN: ReadonlySet<string> = new Set([
  'events',
  'map',
  'policy',
  'key',
  'maxEvents',
  'onDrop',
  'onError',
  'signal',
])
const POLICIES = ['drop-newest', 'drop-oldest', 'keep-latest', 'close'] as const

/**
 * Sends what a source pushes that cannot be paused: an EventEmitter, an EventTarget or a callback. What the
 * client is too slow for waits here, up to `maxEvents`, and then the stated policy decides. Listening stops when
 * the connection closes.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION, ERR_SSE_INVALID_SOURCE
 */
export function wire<T, Events extends object = EventMap>(
  source: PushSource<T>,
  target: WireTarget<Events>,
  options: WireOptions<T, Events>,
): Wired {
  knownOptions('wire', options, KNOWN)
  if (source === null || (typeof source !== 'object' && typeof source !== 'function'))
    throw invalidSource(source)
  if (options.policy === undefined) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `wire needs a policy; expected one of ${POLICIES.join(', ')}.`,
    )
  }
  return new Wiring(source, target, options)
}

class Wiring<T, Events extends object> implements Wired {
  readonly done: Promise<WireResult>
  readonly #target: WireTarget<Events>
  readonly #options: WireOptions<T, Events>
  readonly #policy: (typeof POLICIES)[number]
  readonly #maxEvents: number
  /** In the order of sending; the key is the event's own under `keep-latest` and unique otherwise. */
  readonly #waiting = new Map<string | number, { event: EventInput<Events>; item: T }>()
  readonly #unsubscribe: () => void
  readonly #stop = new AbortController()
  readonly #stopListening: (() => void)[] = []
  #resolveDone: (result: WireResult) => void = () => {}
  #sent = 0
  #dropped = 0
  #arrivals = 0
  #isDropping = false
  #isSending = false

  constructor(source: PushSource<T>, target: WireTarget<Events>, options: WireOptions<T, Events>) {
    this.#target = target
    this.#options = options
    this.#policy = oneOf('policy', options.policy, 'close', POLICIES)
    this.#maxEvents = wholeNumber('maxEvents', options.maxEvents, 64, { min: 1 })
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve
    })
    this.#unsubscribe = subscribe(source, options.events, this.#take)
    const { signal } = options
    this.#stopListening.push(onAbort(target.signal, () => this.#finish('closed')))
    if (signal !== undefined) this.#stopListening.push(onAbort(signal, () => this.stop()))
    if (target.signal.aborted) this.#finish('closed')
    if (signal?.aborted) this.stop()
  }

  get sent(): number {
    return this.#sent
  }

  get dropped(): number {
    return this.#dropped
  }

  get waiting(): number {
    return this.#waiting.size
  }

  stop(): void {
    this.#finish('stopped')
  }

  /** Called by the source: throws nothing into it. */
  readonly #take = (item: T, name: string): void => {
    if (this.#stop.signal.aborted) return
    try {
      const { map, key } = this.#options
      const event = map === undefined ? namedEvent<Events>(name, item) : map(item, name)
      if (event === null || event === undefined) return
      const permit = this.#waiting.size === 0 && !this.#isSending ? this.#target.tryRequestSend() : null
      if (permit !== null) this.#send(permit, event)
      else if (this.#policy === 'keep-latest') this.#keep(key?.(event) ?? event.event ?? '', event, item)
      else this.#keep(this.#arrivals++, event, item)
    } catch (error) {
      this.#fail(error, item)
    }
  }

  #keep(key: string | number, event: EventInput<Events>, item: T): void {
    const replaces = this.#waiting.has(key)
    const isFull = this.#waiting.size >= this.#maxEvents && !replaces
    if (isFull || replaces) this.#countDrops(1, item)
    // onDrop may have stopped it.
    if (this.#stop.signal.aborted) return
    if (isFull && this.#policy === 'close') void this.#target.close({ reason: 'slow-consumer' })
    if (isFull && (this.#policy === 'close' || this.#policy === 'drop-newest')) return
    if (isFull) this.#waiting.delete(this.#waiting.keys().next().value as string | number)
    this.#waiting.set(key, { event, item })
    if (!this.#isSending) void this.#sendWaiting()
  }

  async #sendWaiting(): Promise<void> {
    this.#isSending = true
    try {
      while (!this.#stop.signal.aborted && this.#waiting.size > 0) {
        const permit = await this.#target.requestSend({ signal: this.#stop.signal })
        const [oldest] = this.#waiting
        if (oldest === undefined) {
          permit.release()
          break
        }
        const [key, { event, item }] = oldest
        this.#waiting.delete(key)
        try {
          this.#send(permit, event)
        } catch (error) {
          this.#fail(error, item)
        }
      }
      this.#isDropping = false
    } catch (error) {
      // The close and the stop are told elsewhere. Any other error leaves no place in line to wait for.
      if (!isClosedError(error) && !this.#stop.signal.aborted) {
        const [{ item }] = this.#waiting.values() as unknown as [{ item: T }]
        this.#countDrops(this.#waiting.size, item)
        this.#waiting.clear()
        this.#fail(error, item)
      }
    } finally {
      this.#isSending = false
    }
  }

  #send(permit: SendPermit<Events>, event: EventInput<Events>): void {
    try {
      if (permit.send(event) === 'queued') this.#sent += 1
    } finally {
      permit.release()
    }
  }

  #countDrops(count: number, item: T): void {
    this.#dropped += count
    if (this.#isDropping) return
    this.#isDropping = true
    try {
      this.#options.onDrop?.({ dropped: this.#dropped })
    } catch (error) {
      this.#fail(error, item)
    }
  }

  #fail(error: unknown, item: T): void {
    const { onError } = this.#options
    try {
      if (onError === undefined) this.#report(error)
      else onError(error, item)
    } catch (second) {
      this.#report(second)
    }
  }

  #report(error: unknown): void {
    process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in a source wired to a connection' })
  }

  #finish(outcome: WireResult['outcome']): void {
    if (this.#stop.signal.aborted) return
    this.#stop.abort()
    for (const stop of this.#stopListening) stop()
    this.#waiting.clear()
    try {
      this.#unsubscribe()
    } catch (error) {
      this.#report(error)
    }
    this.#resolveDone({ outcome, sent: this.#sent, dropped: this.#dropped })
  }
}

function namedEvent<Events extends object>(name: string, data: unknown): EventInput<Events> {
  return (name === '' ? { data } : { event: name, data }) as EventInput<Events>
}

function subscribe<T>(
  source: PushSource<T>,
  events: readonly string[] | undefined,
  take: (item: T, name: string) => void,
): () => void {
  if (typeof source === 'function') return source((item) => take(item, ''))
  if (events === undefined || events.length === 0) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'wire needs the names of the events to listen to: { events: [...] }.',
    )
  }
  const listeners = events.map((name) => ({ name, listener: (item: unknown) => take(item as T, name) }))
  if ('addEventListener' in source) {
    for (const { name, listener } of listeners) source.addEventListener(name, listener)
    return () => {
      for (const { name, listener } of listeners) source.removeEventListener(name, listener)
    }
  }
  if (typeof source.on === 'function' && typeof source.off === 'function') {
    for (const { name, listener } of listeners) source.on(name, listener)
    return () => {
      for (const { name, listener } of listeners) source.off(name, listener)
    }
  }
  throw invalidSource(source)
}

function invalidSource(source: unknown): SSEError {
  return new SSEError(
    'ERR_SSE_INVALID_SOURCE',
    `The source is ${shown(source)}; expected an EventEmitter, an EventTarget or a function that subscribes a callback.`,
  )
}
