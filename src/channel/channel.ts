import { EventEmitter } from 'eventemitter3'
import { formatEventId } from '../buffer/event-id.js'
import type { EventLabel } from '../buffer/event-log.js'
import { SSEError, shown, textOf } from '../errors.js'
import { assertNoId, checkedSize, checkedTopic, logFailed } from '../handler/event-checks.js'
import type { Followable } from '../handler/follow.js'
import { redacted } from '../handler/redact.js'
import { connectionOf, type SSEHandler } from '../handler/sse-handler.js'
import { knownOptions } from '../options.js'
import { Demand } from '../producers/demand.js'
import { Gate } from '../producers/gate.js'
import type { SendPermit } from '../producers/permit.js'
import { closedError, type RequestOptions, rejectedAsClosed, type SendOutcome } from '../producers/send.js'
import { encodeEvent } from '../wire/encode.js'
import type { EventInput, EventMap } from '../wire/event.js'
import { Audience } from './audience.js'
import { type ChannelOptions, type ResolvedChannelOptions, resolveChannelOptions } from './options.js'
import { ReadsBySelection } from './reads.js'
import { Selection, type SelectOptions } from './selection.js'
import type { SnapshotHook } from './snapshot.js'
import { type Hooks, Subscription } from './subscription.js'

/**
 * What is published between two flushes before publishers are held up until the next: as much as a reader that keeps up
 * takes in one write. Else a burst would run away from every reader, and keep timers and sockets from their turn.
 */
const MAX_BURST_EVENTS = 256
const MAX_BURST_UNITS = 64 * 1024
/** Permits that nobody uses hold nobody up, but take memory. */
const MAX_PERMITS = 1000
/** Options of `channel.subscribe`. */
export interface SubscribeOptions<Events extends object = EventMap> extends SelectOptions {
  /**
   * Gives a client that comes without a position the state to begin with. Called at once; events published from then on
   * follow the snapshot. What it throws, and taking longer than `snapshotTimeoutMs`, ends the connection like `sendError`.
   */
  onSubscribe?: SnapshotHook<Events> | undefined
  /** Gives a client that has missed events the state as it is, in place of what is left of them; told as `continues: 'snapshot'`. */
  onGap?: SnapshotHook<Events> | undefined
}

/** What a channel is like at one moment. */
export interface ChannelStats {
  /** Connections that follow it. */
  readers: number
  /** Events appended through this channel. */
  published: number
  /** The id of the last event, whoever appended it. */
  lastId: string
  /** Events and bytes that the log holds. */
  heldEvents: number
  heldBytes: number
  /** How far the slowest reader is behind, in events; 0 without readers. */
  maxLagEvents: number
  /** How often a reader fell behind by more than `maxLag` or the log. Once per crossing. */
  slow: number
  /** Gap events told to readers. */
  gaps: number
  /** Readers closed with the reason `slow-consumer`. */
  closedSlow: number
  /** Permits that are neither used, released nor expired, and callers that wait. */
  permits: number
  waiters: number
  /** Events that `trySend` dropped. */
  dropped: number
  isEnded: boolean
}

/** What `channel.on` listens to. A listener that throws disturbs nothing. */
export interface ChannelEvents {
  /** A reader has fallen behind by more than `maxLag` or the log. Told once, until it has caught up. */
  slow: (reader: { sessionId: string; lagEvents: number; lagBytes: number }) => void
}

/** What `channel.subscribe` takes: the handler of any connection, whatever its events. */
export type Subscriber = Pick<SSEHandler, 'sessionId' | 'signal' | 'closed'>

interface Block {
  readonly text: string
  readonly label: EventLabel
}

/**
 * Makes a channel: one ordered history with many readers.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function createChannel<Events extends object = EventMap>(
  options: ChannelOptions<Events> = {},
): Channel<Events> {
  return new Channel(resolveChannelOptions(options))
}

/**
 * One ordered, replayable history with many readers, made by `createChannel`. Each connection that follows it has a place
 * of its own in the log and is sent what stands behind, as fast as it takes it: what it missed and what is live are one
 * and the same. A slow reader costs a number, not a queue.
 */
export class Channel<Events extends object = EventMap> extends EventEmitter<ChannelEvents> {
  readonly #options: ResolvedChannelOptions
  readonly #gate: Gate<Events, Block>
  readonly #audience: Audience
  readonly #reads: ReadsBySelection
  /** Whether publishers wait for readers. */
  readonly #isPaced: boolean
  /** What may be published without a reader that keeps up falling out of the log, or behind `maxLag`. */
  readonly #eventsUnwrittenAtMost: number
  readonly #unitsUnwrittenAtMost: number
  #stopListening: (() => void) | null = null
  #label: EventLabel = { event: 'message', topic: undefined }
  #controller: AbortController | null = null
  #isAppending = false
  #published = 0
  #dropped = 0
  /** What was published since the last flush. */
  #burstEvents = 0
  #burstUnits = 0
  /** What of it was not relieved. */
  #unwrittenEvents = 0
  #unwrittenUnits = 0
  /** Resolves behind the next flush, for the publishers that are held up until then. */
  #flushed: Promise<void> | null = null
  #resolveFlushed: (() => void) | null = null
  #heldUp = 0

  /** @internal Programs call `createChannel`. */
  constructor(options: ResolvedChannelOptions) {
    super()
    const { log, maxLagEvents, maxLagBytes, slowConsumer } = options
    this.#options = options
    this.#isPaced = slowConsumer === 'wait'
    this.#eventsUnwrittenAtMost = Math.min(
      MAX_BURST_EVENTS,
      Math.ceil(Math.min(maxLagEvents, log.maxEvents) / 2),
    )
    this.#unitsUnwrittenAtMost = Math.min(MAX_BURST_UNITS, maxLagBytes / 2, log.maxBytes / 2)
    this.#reads = new ReadsBySelection(options.log)
    this.#audience = new Audience(options, {
      isAnybodyWaiting: () => this.#gate.waiting > 0,
      flushed: () => this.#endBurst(),
      roomMade: () => this.#serve(),
      fellBehind: (subscription) => this.#tellSlow(subscription),
      left: (subscription) => this.#letGo(subscription),
      allCaughtUp: () => this.#reads.forget(),
    })
    this.#gate = new Gate<Events, Block>(
      {
        hasRoom: (reserved) =>
          !this.#isBurst && reserved < MAX_PERMITS && this.#audience.isWithinLimit(reserved),
        makeRoom: () => {},
        encode: (event) => this.#encode(event),
        accept: (block) => void this.#append(block),
      },
      options,
      options.clock,
    )
  }

  /** Connections that follow the channel. */
  get readers(): number {
    return this.#audience.size
  }

  /** Whether it has readers, permits that are out, or callers that wait. */
  get isInUse(): boolean {
    return this.#audience.size > 0 || this.#gate.granted > 0 || this.#gate.waiting > 0
  }

  /** Events appended through this channel. */
  get published(): number {
    return this.#published
  }

  /** Aborts when the channel has ended; its reason is an SSEError with ERR_SSE_CLOSED. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.#audience.isEnded) this.#controller.abort(closedError('completed'))
    }
    return this.#controller.signal
  }

  /** The id of the last event: the position that the state of the program is at. */
  get lastId(): string {
    return formatEventId(this.#options.log.epoch, this.#options.log.next - 1)
  }

  /**
   * Appends an event, at once and whatever the readers do. Resolves with its id. Events of one turn leave in one flush;
   * when a burst of 256 events or 64 KiB goes on without one, the promise resolves behind the next flush, so that awaiting
   * it paces a loop to what readers can take. The event is encoded at the call, once for all readers.
   *
   * @throws SSEError (rejects) ERR_SSE_INVALID_EVENT, ERR_SSE_EVENT_TOO_LARGE, ERR_SSE_LOG_FAILED; ERR_SSE_CLOSED after
   * `end`.
   */
  publish(event: EventInput<Events>): Promise<string> {
    try {
      const block = this.#encode(event)
      // Encoding runs code of the user, which may have ended the channel.
      if (this.#audience.isEnded) return rejectedAsClosed('completed')
      const id = formatEventId(this.#options.log.epoch, this.#append(block))
      return this.#isBurst ? this.#afterFlush(id) : Promise.resolve(id)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Waits until a burst has been flushed and, with `slowConsumer: 'wait'`, until every reader is within `maxLag`; then
   * reserves a place. First come, first served; abort, lease and limits are as with `requestSend` of a connection. At
   * `end` everybody who waits rejects with ERR_SSE_CLOSED, and so does each later call.
   *
   * @throws SSEError (rejects) ERR_SSE_CLOSED, ERR_SSE_TOO_MANY_WAITERS; or the signal's reason.
   */
  requestSend(options?: RequestOptions): Promise<SendPermit<Events>> {
    this.#forgetWait()
    const permit = this.#gate.requestSend(options)
    this.#noteWait()
    return permit
  }

  /** A permit if nobody has to wait for one, else null. Null after `end`, too. Never waits. */
  tryRequestSend(): SendPermit<Events> | null {
    return this.#gate.tryRequestSend()
  }

  /** Permits, one at a time, until the channel ends: as `demand` of a connection. */
  demand(options?: RequestOptions): AsyncIterableIterator<SendPermit<Events>> {
    return new Demand<Events>(this, options)
  }

  /**
   * Waits like `requestSend` and appends one event. The event is encoded at the call.
   *
   * @throws SSEError (rejects) as `publish`; ERR_SSE_TOO_MANY_WAITERS; or the signal's reason.
   */
  send(event: EventInput<Events>, options?: RequestOptions): Promise<SendOutcome> {
    this.#forgetWait()
    const outcome = this.#gate.send(event, options)
    this.#noteWait()
    return outcome
  }

  /**
   * Appends one event if `send` would not wait, else drops it, which is counted in `stats()`.
   *
   * @throws SSEError ERR_SSE_INVALID_EVENT, ERR_SSE_EVENT_TOO_LARGE, ERR_SSE_LOG_FAILED
   */
  trySend(event: EventInput<Events>): SendOutcome {
    const outcome = this.#gate.trySend(event)
    if (outcome === 'dropped') this.#dropped += 1
    return outcome
  }

  /**
   * Has a connection follow the channel. It gets what it missed since its Last-Event-ID, or a gap event, then what is
   * published, until it closes or `unsubscribe`. Its own events, sent with `sse.send`, come between and do not move its
   * position; they cannot have ids.
   *
   * A connection follows one channel, since its Last-Event-ID is a position in one log. One that comes back after
   * `unsubscribe`, perhaps with another selection, goes on where it was. A connection that is closed already is left alone.
   *
   * Call it in the same turn as `createSSEHandler`: then the first event carries the position, and a reader that has all
   * of an ended channel is answered 204, so that it does not come back.
   *
   * @throws SSEError ERR_SSE_ALREADY_SUBSCRIBED, ERR_SSE_INVALID_OPTION; ERR_SSE_INVALID_EVENT for a connection whose
   * `firstEvent` has an id.
   */
  subscribe(subscriber: Subscriber, options: SubscribeOptions<Events> = {}): void {
    const connection = this.#subscribable(subscriber)
    const selection = checkedSelection(options, connection)
    if (connection.isClosing) return
    const subscription = new Subscription(
      connection,
      this.#reads.for(selection),
      this.#options,
      options as Hooks,
      this.#audience,
    )
    this.#audience.enter(subscription)
    this.#stopListening ??= this.#options.log.onAppend(this.#onAppend)
    try {
      subscription.start()
    } catch (error) {
      this.#audience.leave(subscription)
      throw error
    }
  }

  /** Has a connection follow no more; it stays open. Nothing happens when it does not follow this channel. */
  unsubscribe(subscriber: Subscriber): void {
    const follower = connectionOf(subscriber)?.follower
    if (!(follower instanceof Subscription) || !this.#audience.has(follower)) return
    follower.stop()
    this.#audience.leave(follower)
  }

  /**
   * Ends the channel: readers get the rest, then their streams end with the reason `completed`. One that comes later gets
   * what it has not had and then the end, or 204 when it has all. Publishing rejects with ERR_SSE_CLOSED. A second call
   * changes nothing.
   */
  end(): void {
    if (this.#audience.isEnded) return
    this.#gate.close('completed')
    this.#controller?.abort(closedError('completed'))
    this.#audience.end()
  }

  /** What the channel is like at this moment. Looks at every reader. */
  stats(): ChannelStats {
    const { log } = this.#options
    const { oldest, next } = log
    const { maxLagEvents, slow, gaps, closedSlow, isEnded } = this.#audience
    return {
      readers: this.readers,
      published: this.#published,
      lastId: this.lastId,
      heldEvents: next - oldest,
      heldBytes: oldest === next ? 0 : log.bytesFrom(oldest),
      maxLagEvents,
      slow,
      gaps,
      closedSlow,
      permits: this.#gate.granted,
      waiters: this.#gate.waiting,
      dropped: this.#dropped,
      isEnded,
    }
  }

  #encode(published: EventInput<Events>): Block {
    const { redact, maxEventBytes } = this.#options
    const event = redact === null ? (published as EventInput) : redacted(published as EventInput, redact)
    const text = checkedSize(encodeEvent(event), maxEventBytes)
    const { topic, event: name = 'message' } = event
    assertNoId(event)
    // Streams repeat a few names and topics: most events share their label with the one before.
    if (name !== this.#label.event || topic !== this.#label.topic) {
      this.#label = { event: name, topic: checkedTopic(topic) }
    }
    return { text, label: this.#label }
  }

  #append({ text, label }: Block): number {
    let sequence: number
    this.#isAppending = true
    try {
      sequence = this.#options.log.append(text, label)
    } catch (cause) {
      throw logFailed(cause)
    } finally {
      this.#isAppending = false
    }
    this.#published += 1
    this.#burstEvents += 1
    this.#burstUnits += text.length
    this.#audience.noteAppended(text.length)
    // Without readers nobody listens to the log, but a burst is to end all the same.
    if (this.#stopListening === null || this.#isBurst) this.#audience.schedule(this.#isBurst)
    this.#relieve(text.length)
    return sequence
  }

  readonly #onAppend = (): void => {
    // Others may append to the log, too: how much is not known.
    if (!this.#isAppending) this.#audience.noteAppended(Infinity)
    this.#audience.schedule(this.#isBurst)
  }

  #relieve(units: number): void {
    this.#unwrittenEvents += 1
    this.#unwrittenUnits += units
    if (
      this.#unwrittenEvents < this.#eventsUnwrittenAtMost &&
      this.#unwrittenUnits < this.#unitsUnwrittenAtMost
    )
      return
    this.#unwrittenEvents = 0
    this.#unwrittenUnits = 0
    this.#audience.relieve()
  }

  get #isBurst(): boolean {
    return this.#burstEvents >= MAX_BURST_EVENTS || this.#burstUnits >= MAX_BURST_UNITS
  }

  #afterFlush(id: string): Promise<string> {
    this.#heldUp += 1
    if (this.#heldUp > this.#options.maxWaiters) return Promise.resolve(id)
    this.#flushed ??= new Promise((resolve) => {
      this.#resolveFlushed = resolve
    })
    return this.#flushed.then(() => id)
  }

  #endBurst(): void {
    this.#burstEvents = 0
    this.#burstUnits = 0
    this.#unwrittenEvents = 0
    this.#unwrittenUnits = 0
    this.#heldUp = 0
    this.#resolveFlushed?.()
    this.#flushed = null
    this.#resolveFlushed = null
    this.#serve()
  }

  #serve(): void {
    this.#gate.serve()
    this.#forgetWait()
    this.#noteWait()
  }

  /** Who waited for readers may have given up since. */
  #forgetWait(): void {
    if (this.#isPaced && this.#gate.waiting === 0) this.#audience.setAwaited(false)
  }

  #noteWait(): void {
    if (this.#isPaced && this.#gate.waiting > 0)
      this.#audience.setAwaited(!this.#audience.isWithinLimit(this.#gate.granted))
  }

  #subscribable(subscriber: Subscriber): Followable {
    const connection = connectionOf(subscriber)
    if (connection === null) {
      throw new SSEError(
        'ERR_SSE_INVALID_OPTION',
        `The subscriber is ${shown(subscriber)}; expected what createSSEHandler of this copy of sluice returns. A process that both imports and requires sluice (ESM and CommonJS) has two copies of it: use one.`,
      )
    }
    const hasOtherLog = connection.reader !== null && connection.reader.log !== this.#options.log
    if (!connection.hasLog && !hasOtherLog && connection.follower === null) return connection
    const what = connection.hasLog
      ? 'has a log of its own'
      : 'follows a channel already, or has followed another'
    throw new SSEError(
      'ERR_SSE_ALREADY_SUBSCRIBED',
      `The connection ${what}, and a Last-Event-ID is a position in one log; publish to one channel under several topics, and select them with the option topics.`,
    )
  }

  #tellSlow({ connection, reader }: Subscription): void {
    const { lag: lagEvents, lagBytes } = reader
    try {
      this.emit('slow', { sessionId: connection.sessionId, lagEvents, lagBytes })
    } catch (error) {
      process.emitWarning(textOf(error), { type: 'SSEWarning', detail: "in a listener of 'slow'" })
    }
  }

  #letGo(subscription: Subscription): void {
    this.#reads.letGo(subscription.reads)
    if (this.#audience.size > 0) return
    this.#reads.forget()
    this.#stopListening?.()
    this.#stopListening = null
  }
}

const KNOWN_SUBSCRIBE: ReadonlySet<string> = new Set([
  'events',
  'topics',
  'authorize',
  'filter',
  'onSubscribe',
  'onGap',
])
const FUNCTIONS = ['authorize', 'filter', 'onSubscribe', 'onGap'] as const

/** Null when everything is selected. */
function checkedSelection<Events extends object>(
  options: SubscribeOptions<Events>,
  connection: Followable,
): Selection | null {
  knownOptions('subscribe', options, KNOWN_SUBSCRIBE)
  for (const name of FUNCTIONS) {
    if (options[name] === undefined || typeof options[name] === 'function') continue
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `Option ${name} is ${shown(options[name])}; expected a function.`,
    )
  }
  const { events, topics, authorize, filter } = options
  if (events === undefined && topics === undefined && authorize === undefined && filter === undefined)
    return null
  return new Selection(options, (error) => connection.report(error, 'the selection of an event'))
}
