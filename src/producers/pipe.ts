import { SSEError } from '../errors.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { LinkedAbort } from './linked-abort.js'
import type { SendPermit } from './permit.js'
import { isClosedError, type RequestOptions, type SendOutcome } from './send.js'
import { openSource, type Puller, type Source } from './source.js'

/** What `pipe` sends to: a connection. */
export interface PipeTarget<Events extends object = EventMap> {
  /** Aborts when the target begins to close. */
  readonly signal: AbortSignal
  requestSend(options?: RequestOptions): Promise<SendPermit<Events>>
}

export interface PipeOptions<T, Events extends object = EventMap> {
  /** The name of every event, when there is no `map`. Default: none, which clients read as `message`. */
  event?: keyof Events & string
  /**
   * Makes an event of an item; null or undefined skips it. Default: the item is the data. Bytes are decoded as
   * UTF-8 then, across chunks.
   */
  map?: (item: T) => EventInput<Events> | null | undefined
  /** Stops: the source is told, and the promise rejects with the signal's reason. */
  signal?: AbortSignal
}

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
 * @throws (rejects) whatever the source or `map` throws; SSEError ERR_SSE_INVALID_SOURCE, or ERR_SSE_INVALID_EVENT
 * and the like for an item that cannot be sent; the signal's reason. The source is told to stop in each case.
 */
export async function pipe<T, Events extends object = EventMap>(
  source: Source<T> | ((signal: AbortSignal) => Source<T> | Promise<Source<T>>),
  target: PipeTarget<Events>,
  options: PipeOptions<T, Events> = {},
): Promise<PipeResult> {
  const { signal } = options
  const abort = new LinkedAbort(signal, target.signal)
  const result: PipeResult = { outcome: 'ended', events: 0 }
  const reading = new Reading<T>(abort.signal)
  try {
    abort.signal.throwIfAborted()
    reading.start(
      openSource(typeof source === 'function' ? await reading.orStop(source(abort.signal)) : source),
    )
    await transfer(reading, target, options, result)
  } catch (error) {
    signal?.throwIfAborted()
    if (!target.signal.aborted || (!isClosedError(error) && error !== target.signal.reason)) throw error
    result.outcome = 'closed'
  } finally {
    reading.finish()
    abort.unlink()
  }
  return result
}

async function transfer<T, Events extends object>(
  reading: Reading<T>,
  target: PipeTarget<Events>,
  options: PipeOptions<T, Events>,
  result: PipeResult,
): Promise<void> {
  const { signal } = options
  const toEvent = options.map ?? dataMapper<T, Events>(options.event)
  let permit = await target.requestSend({ signal })
  try {
    for (let item = await reading.next(); item.done !== true; item = await reading.next()) {
      const event = toEvent(item.value)
      if (event === null || event === undefined) continue
      const outcome = await sendOrRenew(permit, event, target, signal)
      if (outcome === 'queued') result.events += 1
      permit = await target.requestSend({ signal })
    }
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

function dataMapper<T, Events extends object>(event: string | undefined) {
  const decoder = new TextDecoder()
  return (item: T): EventInput<Events> | null => {
    const data = item instanceof Uint8Array ? decoder.decode(item, { stream: true }) : item
    // Only a part of a character so far.
    if (data === '' && item instanceof Uint8Array) return null
    return (event === undefined ? { data } : { event, data }) as EventInput<Events>
  }
}

/** Reads a source until somebody says stop, which ends even a read that never settles. */
class Reading<T> {
  readonly #stopped: AbortSignal
  #puller: Puller<T> | null = null
  #isDone = false
  #rejectWait: ((reason: unknown) => void) | null = null

  constructor(stopped: AbortSignal) {
    this.#stopped = stopped
    stopped.addEventListener('abort', this.#onStop)
  }

  start(puller: Puller<T>): void {
    this.#puller = puller
  }

  next(): IteratorResult<T, unknown> | Promise<IteratorResult<T, unknown>> {
    const next = (this.#puller as Puller<T>).next()
    return 'then' in next ? this.orStop(next).then((item) => this.#noted(item)) : this.#noted(next)
  }

  /** Waits for a promise, but rejects when the reading stops. */
  async orStop<V>(value: V | PromiseLike<V>): Promise<V> {
    this.#stopped.throwIfAborted()
    try {
      return await new Promise<V>((resolve, reject) => {
        this.#rejectWait = reject
        Promise.resolve(value).then(resolve, reject)
      })
    } finally {
      this.#rejectWait = null
    }
  }

  /** Tells the source to stop, unless it has ended by itself. */
  finish(): void {
    this.#stopped.removeEventListener('abort', this.#onStop)
    if (this.#isDone) return
    this.#isDone = true
    this.#puller?.stop()
  }

  #noted(item: IteratorResult<T, unknown>): IteratorResult<T, unknown> {
    this.#isDone = item.done === true
    return item
  }

  readonly #onStop = (): void => {
    this.#rejectWait?.(this.#stopped.reason)
    this.finish()
  }
}
