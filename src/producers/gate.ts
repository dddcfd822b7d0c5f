import type { Clock, Timer } from '../clock.js'
import type { CloseReason } from '../close-reason.js'
import { SSEError } from '../errors.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { onAbort } from './abort.js'
import { assertUsable, Permit, type PermitIssuer, type PermitState, type SendPermit } from './permit.js'
import {
  closedError,
  type RequestOptions,
  rejectedAsClosed,
  type SendOutcome,
  toleratesNoCatch,
} from './send.js'

/** What a gate stands in front of. */
export interface Guarded<Events extends object, Block = string> {
  /** Whether one more event fits beside what is queued and the `reserved` slots. */
  hasRoom(reserved: number): boolean
  /** Makes room if that can be done at once. Called when there is none and nobody waits. */
  makeRoom(): void
  /** Encodes an event; throws an SSEError for one that cannot be sent. May run code of the user (`toJSON`). */
  encode(event: EventInput<Events>): Block
  /** Takes an encoded event into a slot that is free or reserved; throws ERR_SSE_LOG_FAILED and takes nothing. */
  accept(block: Block): void
}

export interface GateLimits {
  maxWaiters: number
  leaseMs: number
}

/**
 * Leases are counted in turns of one timer: asking the clock for each permit would cost a tenth of what the event
 * costs. A lease lasts `leaseMs` to 9/8 of it, and 8 ms at least.
 */
const TURNS_PER_LEASE = 8

const QUEUED: Promise<SendOutcome> = Promise.resolve('queued')

/** Somebody who waits for a slot: for a permit, or (`block`) to have an event sent. */
class Waiter<Events extends object, Block> {
  previous: Waiter<Events, Block> | null = null
  following: Waiter<Events, Block> | null = null
  outcome: Promise<unknown> | null = null
  /** Stops listening to the signal. */
  stopListening: (() => void) | undefined

  constructor(
    readonly block: Block | null,
    readonly resolve: (value: SendPermit<Events> | SendOutcome) => void,
    readonly reject: (error: unknown) => void,
  ) {}
}

/**
 * Decides who may send. Slots are given first come, first served; nobody passes a waiter. Granted slots count as
 * taken: queued + granted never exceeds the queue's capacity.
 */
export class Gate<Events extends object = EventMap, Block = string> implements PermitIssuer<Events> {
  readonly #guarded: Guarded<Events, Block>
  readonly #limits: GateLimits
  readonly #clock: Clock
  #closed: CloseReason | null = null
  #granted = 0
  #waiting = 0
  #firstWaiter: Waiter<Events, Block> | null = null
  #lastWaiter: Waiter<Events, Block> | null = null
  /** The last permit, not in the list yet: most are used before the next is granted, and never need to be. */
  #newest: Permit<Events> | null = null
  #firstPermit: Permit<Events> | null = null
  #lastPermit: Permit<Events> | null = null
  #leaseTimer: Timer | null = null
  #leaseTurn = 0
  #isServing = false

  constructor(guarded: Guarded<Events, Block>, limits: GateLimits, clock: Clock) {
    this.#guarded = guarded
    this.#limits = limits
    this.#clock = clock
  }

  /** Permits that are neither used, released nor expired. */
  get granted(): number {
    return this.#granted
  }

  get waiting(): number {
    return this.#waiting
  }

  requestSend(options?: RequestOptions): Promise<SendPermit<Events>> {
    const signal = options?.signal
    if (this.#closed !== null) return rejectedAsClosed(this.#closed)
    if (signal?.aborted) return Promise.reject(signal.reason)
    try {
      if (this.#hasFreeSlot() || this.#madeRoom()) return Promise.resolve(this.#grant())
      return this.#wait(null, signal) as Promise<SendPermit<Events>>
    } catch (error) {
      // The event log is asked for room, and may be the user's.
      return Promise.reject(error)
    }
  }

  tryRequestSend(): SendPermit<Events> | null {
    return this.#closed === null && this.#hasFreeSlot() ? this.#grant() : null
  }

  send(event: EventInput<Events>, options?: RequestOptions): Promise<SendOutcome> {
    const signal = options?.signal
    if (this.#closed !== null) return rejectedAsClosed(this.#closed)
    if (signal?.aborted) return Promise.reject(signal.reason)
    try {
      const block = this.#guarded.encode(event)
      // Encoding runs code of the user, which may have closed the connection or aborted.
      signal?.throwIfAborted()
      if (this.#closed === null && (this.#hasFreeSlot() || this.#madeRoom())) {
        this.#guarded.accept(block)
        return QUEUED
      }
      return this.#wait(block, signal) as Promise<SendOutcome>
    } catch (error) {
      return Promise.reject(error)
    }
  }

  trySend(event: EventInput<Events>): SendOutcome {
    if (this.#closed !== null) return 'closed'
    if (!this.#hasFreeSlot()) return 'dropped'
    return this.tryAccept(this.#guarded.encode(event))
  }

  /** Takes an encoded block if there is a free slot that nobody waits for. */
  tryAccept(block: Block): SendOutcome {
    if (this.#closed !== null) return 'closed'
    if (!this.#hasFreeSlot()) return 'dropped'
    this.#guarded.accept(block)
    return 'queued'
  }

  /** To be called when slots became free: serves those who wait. */
  serve(): void {
    // Serving runs code of the event log, which may free slots and call this again.
    if (this.#firstWaiter === null || this.#isServing) return
    this.#isServing = true
    try {
      while (this.#firstWaiter !== null) {
        const waiter = this.#firstWaiter
        try {
          if (!this.#guarded.hasRoom(this.#granted)) break
        } catch (error) {
          this.#removeWaiter(waiter)
          waiter.reject(error)
          continue
        }
        this.#removeWaiter(waiter)
        this.#serveOne(waiter)
      }
    } finally {
      this.#isServing = false
    }
  }

  #serveOne(waiter: Waiter<Events, Block>): void {
    if (waiter.block === null) {
      waiter.resolve(this.#grant())
      return
    }
    try {
      this.#guarded.accept(waiter.block)
      waiter.resolve('queued')
    } catch (error) {
      waiter.reject(error)
    }
  }

  /** Rejects everybody who waits, now and from now on. Outstanding permits send nothing any more. */
  close(reason: CloseReason): void {
    if (this.#closed !== null) return
    this.#closed = reason
    if (this.#leaseTimer !== null) this.#clock.clearTimeout(this.#leaseTimer)
    this.#leaseTimer = null
    this.#listNewest()
    for (let permit = this.#firstPermit; permit !== null; permit = permit.following) permit.state = 'closed'
    this.#firstPermit = null
    this.#lastPermit = null
    this.#granted = 0
    while (this.#firstWaiter !== null) {
      const waiter = this.#firstWaiter
      this.#removeWaiter(waiter)
      if (waiter.outcome !== null) toleratesNoCatch(waiter.outcome)
      waiter.reject(closedError(reason))
    }
  }

  sendWith(permit: Permit<Events>, event: EventInput<Events>): 'queued' | 'closed' {
    if (permit.state === 'closed') return 'closed'
    assertUsable(permit.state, this.#limits.leaseMs)
    const block = this.#guarded.encode(event)
    // Encoding runs code of the user, which may have used this very permit or closed the connection; so may the log.
    if ((permit.state as PermitState) === 'closed') return 'closed'
    assertUsable(permit.state, this.#limits.leaseMs)
    permit.state = 'spent'
    try {
      this.#guarded.accept(block)
    } catch (error) {
      if (this.#closed === null) permit.state = 'held'
      throw error
    }
    if (this.#closed === null) this.#removePermit(permit)
    return 'queued'
  }

  takeBack(permit: Permit<Events>): void {
    this.#removePermit(permit)
    permit.state = 'spent'
    this.serve()
  }

  #hasFreeSlot(): boolean {
    return this.#firstWaiter === null && this.#guarded.hasRoom(this.#granted)
  }

  #madeRoom(): boolean {
    if (this.#firstWaiter !== null) return false
    this.#guarded.makeRoom()
    return this.#closed === null && this.#guarded.hasRoom(this.#granted)
  }

  #grant(): Permit<Events> {
    const permit = new Permit(this, this.#leaseTurn + TURNS_PER_LEASE + 1)
    this.#listNewest()
    this.#newest = permit
    this.#granted += 1
    if (this.#leaseTimer === null) this.#startLeaseTurn()
    return permit
  }

  #listNewest(): void {
    const permit = this.#newest
    if (permit === null) return
    this.#newest = null
    permit.previous = this.#lastPermit
    if (this.#lastPermit === null) this.#firstPermit = permit
    else this.#lastPermit.following = permit
    this.#lastPermit = permit
  }

  #startLeaseTurn(): void {
    const turnMs = this.#limits.leaseMs / TURNS_PER_LEASE
    this.#leaseTimer = this.#clock.setTimeout(() => this.#endLeaseTurn(), Math.max(1, turnMs))
  }

  #endLeaseTurn(): void {
    this.#leaseTimer = null
    this.#leaseTurn += 1
    this.#listNewest()
    while (this.#firstPermit !== null && this.#firstPermit.expiresAtTurn <= this.#leaseTurn) {
      const permit = this.#firstPermit
      this.#removePermit(permit)
      permit.state = 'expired'
    }
    this.serve()
    if (this.#granted > 0 && this.#leaseTimer === null) this.#startLeaseTurn()
  }

  #removePermit(permit: Permit<Events>): void {
    this.#granted -= 1
    if (permit === this.#newest) {
      this.#newest = null
      return
    }
    if (permit.previous === null) this.#firstPermit = permit.following
    else permit.previous.following = permit.following
    if (permit.following === null) this.#lastPermit = permit.previous
    else permit.following.previous = permit.previous
    permit.previous = null
    permit.following = null
  }

  #wait(block: Block | null, signal: AbortSignal | undefined): Promise<SendPermit<Events> | SendOutcome> {
    if (this.#closed !== null) return rejectedAsClosed(this.#closed)
    if (this.#waiting >= this.#limits.maxWaiters) {
      return Promise.reject(
        new SSEError(
          'ERR_SSE_TOO_MANY_WAITERS',
          `${this.#waiting} callers already wait for this connection, the most that maxWaiters allows; await each send before the next, or use trySend().`,
        ),
      )
    }
    let waiting: Waiter<Events, Block> | undefined
    const outcome = new Promise<SendPermit<Events> | SendOutcome>((resolve, reject) => {
      const waiter = new Waiter<Events, Block>(block, resolve, reject)
      waiter.previous = this.#lastWaiter
      if (this.#lastWaiter === null) this.#firstWaiter = waiter
      else this.#lastWaiter.following = waiter
      this.#lastWaiter = waiter
      this.#waiting += 1
      waiting = waiter
      if (signal === undefined) return
      waiter.stopListening = onAbort(signal, () => {
        this.#removeWaiter(waiter)
        reject(signal.reason)
        this.serve()
      })
    })
    if (waiting !== undefined) waiting.outcome = outcome
    return outcome
  }

  #removeWaiter(waiter: Waiter<Events, Block>): void {
    if (waiter.previous === null) this.#firstWaiter = waiter.following
    else waiter.previous.following = waiter.following
    if (waiter.following === null) this.#lastWaiter = waiter.previous
    else waiter.following.previous = waiter.previous
    waiter.previous = null
    waiter.following = null
    this.#waiting -= 1
    waiter.stopListening?.()
  }
}
