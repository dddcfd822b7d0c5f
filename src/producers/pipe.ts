import { SSEError } from '../errors.js'
import { knownOptions } from '../options.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { LinkedAbort } from './abort.js'
import type { SendPermit } from './permit.js'
import type { RequestOptions, SendOutcome } from './send.js'
import { openSource, type Puller, type Source } from './source.js'

const KNOWN: ReadonlySet<string> = new Set(['event', 'map', 'signal'])
const SKIPS_PER_TURN = 64

/** What `pipe` reads: a source, or a function that makes one and is given a signal which says stop. */
export type PipeSource<T> = Source<T> | ((signal: AbortSignal) => Source<T> | Promise<Source<T>>)

/** What `pipe` sends to: a connection. */
export interface PipeTarget<Events extends object = EventMap> {
  /** Aborts when the target begins to close. */
  readonly signal: AbortSignal
  /** Waits for a slot and reserves it, as `SSEHandler.requestSend` does. */
  requestSend(options?: RequestOptions): Promise<SendPermit<Events>>
}

/** The names of the events whose data an item can be. Bytes become strings. */
export type EventNameFor<T, Events extends object> = {
  [Name in keyof Events & string]: (T extends Uint8Array ? string : T) extends Events[Name] ? Name : never
}[keyof Events & string]

/** Options of {@link pipe}. */
export interface PipeOptions<T, Events extends object = EventMap> {
  /** The name of every event, when there is no `map`. Default: none, which clients read as `message`. */
  event?: EventNameFor<T, Events> | undefined
  /**
   * Makes an event of an item; null or undefined skips it. Default: the item is the data. Bytes are decoded as
   * UTF-8 then, across chunks.
   */
  map?: ((item: T) => EventInput<Events> | null | undefined) | undefined
  /** Stops: the source is told, and the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/** How a {@link pipe} ended. */
export interface PipeResult {
  /** `ended`: the source came to its end. `closed`: the connection closed first. */
  outcome: 'ended' | 'closed'
  /** Events that were accepted. */
  events: number
}

/**
 * Sends everything a source gives, at the pace of the client: it asks for a permit first and pulls then, so that
 * at most one item is in hand. The connection stays open at the end: close it, or pipe the next source.
 *
 * When the client leaves, the source is told at once: an iterator's `return()`, a Node stream's `destroy()`, a
 * Web stream's `cancel()`; a source given as a function also gets an AbortSignal. The promise settles then, even
 * if the source never answers.
 *
 * While the source makes it wait, pipe holds one slot of the queue, for up to `leaseMs`; it waits in line again
 * when the item comes later. Fairness among pipes is that of `requestSend`.
 *
 * @returns how it ended; a client that left is no error.
 * @throws (rejects) whatever the source or `map` throws; SSEError ERR_SSE_INVALID_SOURCE, ERR_SSE_INVALID_OPTION, or ERR_SSE_INVALID_EVENT
 * and the like for an item that cannot be sent; the signal's reason. The source is told to stop in each case.
 */
export async function pipe<T, Events extends object = EventMap>(
  source: PipeSource<T>,
  target: PipeTarget<Events>,
  options: PipeOptions<T, Events> = {},
): Promise<PipeResult> {
  knownOptions('pipe', options, KNOWN)
  const { signal } = options
  const reading = new Reading<T>(new LinkedAbort(signal, target.signal))
  const result: PipeResult = { outcome: 'ended', events: 0 }
  try {
    await reading.open(source)
    await transfer(reading, target, options, result)
    reading.finish()
  } catch (error) {
    reading.finish(error)
    signal?.throwIfAborted()
    // What a source throws after the client has left interests nobody; a source that is none does.
    if (!target.signal.aborted || isMisuse(error)) throw error
    result.outcome = 'closed'
  }
  return result
}

function isMisuse(error: unknown): boolean {
  return error instanceof SSEError && error.code === 'ERR_SSE_INVALID_SOURCE'
}

async function transfer<T, Events extends object>(
  reading: Reading<T>,
  target: PipeTarget<Events>,
  options: PipeOptions<T, Events>,
  result: PipeResult,
): Promise<void> {
  const { signal } = options
  const mapper = options.map === undefined ? new DataMapper<T, Events>(options.event) : null
  const toEvent = options.map ?? ((item: T) => mapper?.event(item))
  let permit = await target.requestSend({ signal })
  try {
    let skipped = 0
    for (let item = await reading.next(); item.done !== true; item = await reading.next()) {
      const event = toEvent(item.value)
      if (event === null || event === undefined) {
        // A source that never waits would keep timers and sockets from their turn.
        skipped += 1
        if (skipped % SKIPS_PER_TURN === 0) await new Promise(setImmediate)
        continue
      }
      const outcome = await sendOrRenew(permit, event, target, signal)
      if (outcome === 'queued') result.events += 1
      permit = await target.requestSend({ signal })
    }
    const rest = mapper?.rest() ?? null
    if (rest !== null && (await sendOrRenew(permit, rest, target, signal)) === 'queued') result.events += 1
  } finally {
    permit.release()
  }
}

/** Sends with a permit or, when its lease ran out because the source was slow, with a new one. */
async function sendOrRenew<Events extends object>(
  permit: SendPermit<Events>,
  event: EventInput<Events>,
  target: PipeTarget<Events>,
  signal: AbortSignal | undefined,
): Promise<SendOutcome> {
  try {
    return permit.send(event)
  } catch (error) {
    if (!(error instanceof SSEError) || error.code !== 'ERR_SSE_PERMIT_EXPIRED') throw error
  }
  const renewed = await target.requestSend({ signal })
  try {
    return renewed.send(event)
  } finally {
    renewed.release()
  }
}

/** Makes an item the data of an event; bytes are decoded across items. */
class DataMapper<T, Events extends object> {
  readonly #event: string | undefined
  readonly #decoder = new TextDecoder()

  constructor(event: string | undefined) {
    this.#event = event
  }

  /** Null for bytes that are only a part of a character so far. */
  event(item: T): EventInput<Events> | null {
    if (!(item instanceof Uint8Array)) return this.#withData(item)
    const text = this.#decoder.decode(item, { stream: true })
    return text === '' ? null : this.#withData(text)
  }

  /** What is left when the source has ended inside a character. */
  rest(): EventInput<Events> | null {
    const text = this.#decoder.decode()
    return text === '' ? null : this.#withData(text)
  }

  #withData(data: unknown): EventInput<Events> {
    return (this.#event === undefined ? { data } : { event: this.#event, data }) as EventInput<Events>
  }
}

/** Reads a source until it ends or somebody says stop, which ends even a read that never settles. */
class Reading<T> {
  readonly #stop: LinkedAbort
  #puller: Puller<T> | null = null
  #rejectWait: ((reason: unknown) => void) | null = null

  constructor(stop: LinkedAbort) {
    this.#stop = stop
    stop.signal.addEventListener('abort', this.#onStop)
  }

  async open(source: PipeSource<T>): Promise<void> {
    const { signal } = this.#stop
    if (typeof source !== 'function') {
      this.#puller = openSource(source)
    } else {
      signal.throwIfAborted()
      this.#puller = openSource(await this.#orStop(source(signal), (late) => openSource(late).stop()))
    }
    signal.throwIfAborted()
  }

  async next(): Promise<IteratorResult<T, unknown>> {
    const { signal } = this.#stop
    signal.throwIfAborted()
    const next = (this.#puller as Puller<T>).next()
    const item = 'then' in next ? await this.#orStop(next) : next
    // The source may have closed the connection while it was pulled.
    signal.throwIfAborted()
    if (item.done === true) this.#puller = null
    return item
  }

  /** Tells the source to stop, unless it has ended by itself; then nothing is told. */
  finish(error?: unknown): void {
    this.#stop.unlink()
    this.#stop.signal.removeEventListener('abort', this.#onStop)
    if (this.#puller === null) return
    this.#tellSource()
    this.#stop.abort(error)
  }

  /** Waits for a promise, but rejects when the reading stops; what the promise gives after that goes to `onLate`. */
  #orStop<V>(value: V | PromiseLike<V>, onLate?: (value: V) => void): Promise<V> {
    const { signal } = this.#stop
    return new Promise<V>((resolve, reject) => {
      this.#rejectWait = reject
      if (signal.aborted) reject(signal.reason)
      Promise.resolve(value)
        .then((settled) => {
          if (signal.aborted) onLate?.(settled)
          resolve(settled)
        })
        .catch(reject)
    })
  }

  readonly #onStop = (): void => {
    this.#rejectWait?.(this.#stop.signal.reason)
    this.#tellSource()
  }

  #tellSource(): void {
    const puller = this.#puller
    this.#puller = null
    try {
      puller?.stop()
    } catch {
      // The source is being left: what it throws now interests nobody.
    }
  }
}
