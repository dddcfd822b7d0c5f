import { EventEmitter } from 'eventemitter3'
import { assertReason, type CloseReason } from '../close-reason.js'
import { Demand } from '../producers/demand.js'
import type { SendPermit } from '../producers/permit.js'
import type { RequestOptions, SendOutcome } from '../producers/send.js'
import { encodeComment } from '../wire/encode.js'
import type { EventInput, EventMap } from '../wire/event.js'
import type { StreamRequest } from '../wire/request.js'
import { Connection } from './connection.js'
import type { Followable } from './follow.js'
import type { Phase } from './machine.js'
import type { Observable } from './observe.js'
import { resolveHandlerOptions, type SSEHandlerOptions } from './options.js'
import type { ClosedInfo, SSEHandlerEvents, SSEHandlerStats } from './sse-handler-events.js'
import type { Transport } from './transport.js'

/** The connection behind a handler, for channels and supervisors; null for what is no handler. */
export let connectionOf: (handler: unknown) => (Followable & Observable) | null

/**
 * One connection to one client. Made by `createSSEHandler`.
 *
 * It never throws for what a client or the network does: that is returned, or told by `closed`. It throws for
 * misuse, with an {@link SSEError}.
 */
export class SSEHandler<Events extends object = EventMap> extends EventEmitter<SSEHandlerEvents> {
  static {
    connectionOf = (handler) =>
      typeof handler === 'object' && handler !== null && #connection in handler ? handler.#connection : null
  }

  readonly #connection: Connection<Events>

  /** For those who write a transport; programs call `createSSEHandler`. */
  constructor(transport: Transport, request: StreamRequest, options?: SSEHandlerOptions<Events>) {
    super()
    this.#connection = new Connection(transport, request, resolveHandlerOptions(options), this)
  }

  /** Names the session: the option `sessionId`, or a random UUID. */
  get sessionId(): string {
    return this.#connection.sessionId
  }

  /** Where the connection is in its life. */
  get phase(): Phase {
    return this.#connection.phase
  }

  /** The position the client asked to resume from: its Last-Event-ID. Null when it sent none. */
  get lastEventId(): string | null {
    return this.#connection.lastEventId
  }

  /** Aborts when the connection begins to close; its reason is an SSEError with ERR_SSE_CLOSED. */
  get signal(): AbortSignal {
    return this.#connection.signal
  }

  /** Resolves when the connection is closed, whatever the reason. Never rejects. */
  get closed(): Promise<ClosedInfo> {
    return this.#connection.closed
  }

  /**
   * Waits for a free slot of the queue and reserves it. Resolves in the same turn while there is room.
   *
   * First come, first served: nobody passes a caller that waits, `send` included. Aborting gives the place in
   * line up and loses nothing. When the connection closes, every waiting caller rejects with ERR_SSE_CLOSED,
   * and so does each later call; such a rejection may go uncaught without ending the process.
   *
   * A permit that is not used within `leaseMs` expires, and its slot goes to the next.
   *
   * @throws SSEError (rejects) ERR_SSE_CLOSED, ERR_SSE_TOO_MANY_WAITERS; or the signal's reason.
   */
  requestSend(options?: RequestOptions): Promise<SendPermit<Events>> {
    return this.#connection.gate.requestSend(options)
  }

  /** A permit if a slot is free and nobody waits for it, else null. Null after the close, too. Never waits. */
  tryRequestSend(): SendPermit<Events> | null {
    return this.#connection.gate.tryRequestSend()
  }

  /**
   * Permits, one at a time, as an async iterable: `for await (const permit of sse.demand())`. Ends when the
   * connection closes. Each turn waits in line like a call of `requestSend`; leaving the loop gives a place in
   * line up. The signal ends the loop by rejecting with its reason.
   */
  demand(options?: RequestOptions): AsyncIterableIterator<SendPermit<Events>> {
    return new Demand(this.#connection.gate, options)
  }

  /**
   * Waits for room and sends one event. Resolves with `'queued'` when the event is accepted, not when the client
   * has it. The event is encoded at the call: changing it afterwards changes nothing. Fairness, abort and close
   * are as with `requestSend`; an aborted call has sent nothing.
   *
   * @throws SSEError (rejects) ERR_SSE_INVALID_EVENT, ERR_SSE_EVENT_TOO_LARGE, ERR_SSE_LOG_FAILED,
   * ERR_SSE_CLOSED, ERR_SSE_TOO_MANY_WAITERS; or the signal's reason.
   */
  send(event: EventInput<Events>, options?: RequestOptions): Promise<SendOutcome> {
    return this.#connection.gate.send(event, options)
  }

  /**
   * Sends one event if there is room and nobody waits, else drops it. Never waits. Drops are counted in `stats()`;
   * the event `dropped` tells the first of each series.
   *
   * @throws SSEError ERR_SSE_INVALID_EVENT, ERR_SSE_EVENT_TOO_LARGE, ERR_SSE_LOG_FAILED
   */
  trySend(event: EventInput<Events>): SendOutcome {
    const outcome = this.#connection.gate.trySend(event)
    if (outcome === 'dropped') this.#connection.countDrop()
    return outcome
  }

  /**
   * Sends a comment, which clients ignore. Comments pass events that wait. Those that wait take up to
   * `maxEventBytes`; one more is dropped.
   *
   * @throws SSEError ERR_SSE_INVALID_EVENT when the text is no string.
   */
  comment(text: string): SendOutcome {
    const block = encodeComment(text)
    if (this.#connection.isClosing) return 'closed'
    if (!this.#connection.outbox.addComment(block)) return 'dropped'
    this.#connection.pump.wake()
    return 'queued'
  }

  /**
   * Tells the client how long to wait before it reconnects, in milliseconds. Of several delays that wait to be
   * written the last one counts.
   *
   * @throws SSEError ERR_SSE_INVALID_EVENT when it is no whole number of 0 or more.
   */
  retry(retryMs: number): Exclude<SendOutcome, 'dropped'> {
    const { outbox, pump } = this.#connection
    if (this.#connection.isClosing) return 'closed'
    outbox.setRetry(retryMs)
    pump.wake()
    return 'queued'
  }

  /**
   * Ends the stream because of an error: after what was accepted the client gets an event `error`, then an event
   * `close`, then the end. The error itself is not sent: the client gets `data`, by default a message without
   * detail. The error is told by `closed`. Resolves like `closed`. When the end has begun already nothing is sent, and
   * the error is not told: it mostly is that very end.
   *
   * @throws SSEError (rejects) ERR_SSE_INVALID_EVENT or ERR_SSE_EVENT_TOO_LARGE when `data` cannot be sent; the
   * connection stays open.
   */
  async sendError(error: unknown, options: { data?: unknown } = {}): Promise<ClosedInfo> {
    this.#connection.endWithError(error, options.data)
    return this.closed
  }

  /**
   * Closes gracefully: callers that wait reject with ERR_SSE_CLOSED, what was accepted is written, then the
   * stream ends. When that takes longer than `drainMs` the connection is reset. Resolves like `closed`; a second
   * call changes nothing.
   *
   * @throws SSEError (rejects) ERR_SSE_INVALID_OPTION for a reason that is none.
   */
  async close(options: { reason?: CloseReason | undefined } = {}): Promise<ClosedInfo> {
    const { reason = 'server-closed' } = options
    assertReason(reason)
    this.#connection.tell({ type: 'closeRequested', reason })
    return this.closed
  }

  /**
   * Closes at once: resets the connection and drops what is queued. After a call from inside a listener the
   * connection closes when the listener has returned.
   *
   * @throws SSEError ERR_SSE_INVALID_OPTION for a reason that is none.
   */
  abort(reason: CloseReason = 'aborted'): void {
    assertReason(reason)
    this.#connection.tell({ type: 'evicted', reason })
  }

  /** What the connection is like at this moment. After the close: as it was at its end. */
  stats(): SSEHandlerStats {
    return this.#connection.stats()
  }
}
