import { SSEError } from '../errors.js'
import type { EventInput, EventMap } from '../wire/event.js'
import type { SendOutcome } from './send.js'

/** A reservation of one slot in a connection's queue: the right to send one event without waiting. */
export interface SendPermit<Events extends object = EventMap> {
  /**
   * Sends one event and spends the permit. Never waits. Returns `'closed'` when the connection closed meanwhile.
   *
   * @throws SSEError ERR_SSE_INVALID_EVENT or ERR_SSE_EVENT_TOO_LARGE: the permit is still good, send another.
   * ERR_SSE_LOG_FAILED: nothing was sent, the permit is still good.
   * ERR_SSE_PERMIT_SPENT after `send` or `release`; ERR_SSE_PERMIT_EXPIRED some time after `leaseMs`.
   */
  send(event: EventInput<Events>): Exclude<SendOutcome, 'dropped'>
  /** Gives the slot back unused. Does nothing after `send`, a first `release`, the expiry or the close. */
  release(): void
  /** The same as `release`, for `using permit = await sse.requestSend()`. */
  [Symbol.dispose](): void
}

/** The gate's side of its permits. */
export interface PermitIssuer<Events extends object> {
  sendWith(permit: Permit<Events>, event: EventInput<Events>): Exclude<SendOutcome, 'dropped'>
  takeBack(permit: Permit<Events>): void
}

export type PermitState = 'held' | 'spent' | 'expired' | 'closed'

/** A node of its gate's list of outstanding permits, which is in the order they expire. */
export class Permit<Events extends object> implements SendPermit<Events> {
  state: PermitState = 'held'
  previous: Permit<Events> | null = null
  following: Permit<Events> | null = null

  constructor(
    private readonly issuer: PermitIssuer<Events>,
    /** The turn of its gate's lease timer at which it expires. */
    readonly expiresAtTurn: number,
  ) {}

  send(event: EventInput<Events>): Exclude<SendOutcome, 'dropped'> {
    return this.issuer.sendWith(this, event)
  }

  release(): void {
    if (this.state === 'held') this.issuer.takeBack(this)
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

export function assertUsable(state: PermitState, leaseMs: number): void {
  if (state === 'spent') {
    throw new SSEError(
      'ERR_SSE_PERMIT_SPENT',
      'This permit was already sent with or released; ask for one permit per event with requestSend().',
    )
  }
  if (state === 'expired') {
    throw new SSEError(
      'ERR_SSE_PERMIT_EXPIRED',
      `This permit was not used within ${leaseMs} ms and its slot was given back; ask for a permit when the event is ready, or raise leaseMs.`,
    )
  }
}
