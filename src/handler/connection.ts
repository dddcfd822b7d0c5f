import type { EventEmitter } from 'eventemitter3'
import { type ActorRefFrom, createActor } from 'xstate'
import type { EventLog } from '../buffer/event-log.js'
import type { Timer } from '../clock.js'
import type { CloseReason } from '../close-reason.js'
import { textOf } from '../errors.js'
import { Gate, type Guarded } from '../producers/gate.js'
import { closedError } from '../producers/send.js'
import { encodeComment, encodeEvent } from '../wire/encode.js'
import type { EventInput } from '../wire/event.js'
import type { Frame } from '../wire/frame.js'
import { answerTo, NO_CONTENT, type StreamRequest } from '../wire/request.js'
import { liveConnectionMachine, type Reporting } from './effects.js'
import type { Followable, Follower } from './follow.js'
import type { Gap } from './gap.js'
import type { LogReader } from './log-reader.js'
import type { Effects, LifecycleEvent, Phase } from './machine.js'
import type { ConnectionObserver, Observable } from './observe.js'
import type { ResolvedOptions } from './options.js'
import { Outbox } from './outbox.js'
import { Pump, type PumpOwner } from './pump.js'
import type { ClosedInfo, SSEHandlerEvents, SSEHandlerStats } from './sse-handler-events.js'
import type { LostReason, Transport, TransportSink } from './transport.js'

const INTERNAL_ERROR = {
  code: 'internal_error',
  message: 'The stream ended because of an error on the server.',
}

const HEARTBEAT_COMMENT = encodeComment('')

type EventName = EventEmitter.EventNames<SSEHandlerEvents>

/** One connection: wires gate, outbox, pump, transport and machine together, and carries the machine's effects out. */
export class Connection<Events extends object>
  implements Guarded<Events>, Followable, Observable, PumpOwner, TransportSink, Effects, Reporting
{
  phase: Phase = 'opening'
  lastEventId: string | null = null
  dropped = 0
  gaps = 0
  #heartbeatsMissed = 0
  /** Bytes that the peer had not taken when the last heartbeat was due. */
  #pendingAtBeat = 0
  /** Whether the end has begun or has been asked for. */
  isClosing = false
  readonly sessionId: string
  readonly openedAt = Date.now()
  readonly gate: Gate<Events>
  readonly outbox: Outbox<Events>
  readonly pump: Pump
  readonly #options: ResolvedOptions
  readonly #transport: Transport
  readonly #audience: EventEmitter<SSEHandlerEvents>
  readonly #actor: ActorRefFrom<typeof liveConnectionMachine>
  readonly #startedAt: number
  #timer: Timer | null = null
  #stopListening: (() => void) | null = null
  #controller: AbortController | null = null
  #drainMs: number
  #isDropping = false
  #untoldGaps: Gap[] | null = null
  #follower: Follower | null = null
  #observer: ConnectionObserver | null = null
  #reason: CloseReason | null = null
  #isOpening = true
  #error: unknown
  #closed: ClosedInfo | null = null
  #lastStats: SSEHandlerStats | null = null
  #closedPromise: Promise<ClosedInfo> | null = null
  #resolveClosed: ((info: ClosedInfo) => void) | null = null

  constructor(
    transport: Transport,
    request: StreamRequest,
    options: ResolvedOptions,
    audience: EventEmitter<SSEHandlerEvents>,
  ) {
    this.sessionId = options.sessionId ?? crypto.randomUUID()
    this.#options = options
    this.#transport = transport
    this.#audience = audience
    this.#startedAt = options.clock.now()
    this.#drainMs = options.drainMs
    this.outbox = new Outbox(options, this)
    this.gate = new Gate(this, options, options.clock)
    this.pump = new Pump(this.outbox, transport, this, options.clock, options.writeStallMs)
    this.#actor = createActor(liveConnectionMachine, { input: this })
    this.#open(request)
    this.#isOpening = false
  }

  get closed(): Promise<ClosedInfo> {
    this.#closedPromise ??=
      this.#closed === null
        ? new Promise((resolve) => {
            this.#resolveClosed = resolve
          })
        : Promise.resolve(this.#closed)
    return this.#closedPromise
  }

  /** Made on first use: on Node 20 an AbortController costs 2 µs. */
  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController()
      if (this.#reason !== null) this.#controller.abort(closedError(this.#reason))
    }
    return this.#controller.signal
  }

  /** After the close: as it was at its end. */
  stats(): SSEHandlerStats {
    const { gate, outbox, pump } = this
    if (this.#lastStats !== null) return { ...this.#lastStats }
    return {
      sessionId: this.sessionId,
      phase: this.phase,
      openedAt: this.openedAt,
      durationMs: this.#durationMs,
      eventsSent: outbox.eventsWritten,
      bytesSent: pump.bytesWritten,
      eventsReplayed: outbox.eventsReplayed,
      unsentEvents: outbox.eventsUnwritten,
      queuedEvents: outbox.length,
      queuedBytes: this.#queuedBytes,
      permits: gate.granted,
      waiters: gate.waiting,
      dropped: this.dropped,
      gaps: this.gaps,
      heartbeatsMissed: this.#heartbeatsMissed,
      lastId: outbox.lastId,
    }
  }

  /** Statistics are read over all connections: the log of one must not take them away from the others. */
  get #queuedBytes(): number {
    try {
      return this.outbox.bytes
    } catch (error) {
      this.report(error, 'stats')
      return 0
    }
  }

  get #durationMs(): number {
    return Math.round(this.#options.clock.now() - this.#startedAt)
  }

  /** Lets the machine know. What comes after the close is of no interest. */
  tell(event: LifecycleEvent): void {
    if (this.phase === 'closed') return
    // Told from inside a listener, the machine takes it when the listener has returned.
    if (event.type === 'closeRequested' || event.type === 'evicted') this.isClosing = true
    this.#actor.send(event)
  }

  get reason(): CloseReason | null {
    return this.#reason
  }

  get eventsSent(): number {
    return this.outbox.eventsWritten
  }

  get heldBytes(): number {
    return this.phase === 'closed' ? 0 : this.outbox.queuedBytes + this.#transport.pendingBytes
  }

  get log(): EventLog | null {
    return this.outbox.reader?.log ?? null
  }

  observe(observer: ConnectionObserver): void {
    this.#observer = observer
  }

  drainWithin(ms: number): void {
    this.#drainMs = ms
  }

  get isBlocked(): boolean {
    return this.pump.isBlocked
  }

  get follower(): Follower | null {
    return this.#follower
  }

  get hasLog(): boolean {
    return this.#options.log !== null
  }

  follow(reader: LogReader, follower: Follower): void {
    this.outbox.follow(reader)
    this.#follower = follower
    if (this.outbox.isReplaying) this.tell({ type: 'resumed' })
    this.pump.wake()
  }

  flushNow(): void {
    this.pump.flushNow()
  }

  wake(): void {
    this.pump.wake()
  }

  encodeSnapshot(events: readonly EventInput[]): Frame[] {
    return this.outbox.encodeSnapshot(events)
  }

  get reader(): LogReader | null {
    return this.outbox.reader
  }

  unfollow(): void {
    this.outbox.reader?.pause()
    this.#follower = null
  }

  answerNoContent(): boolean {
    if (!this.outbox.isUntouched) return false
    try {
      if (!this.#transport.open(NO_CONTENT)) return false
      this.tell({ type: 'refused', reason: 'completed' })
    } catch (error) {
      this.failed(error)
    }
    return true
  }

  /** Counts an event that found no room, and tells of the first of each series. */
  countDrop(): void {
    this.dropped += 1
    if (this.#isDropping) return
    this.#isDropping = true
    this.emit('dropped', { dropped: this.dropped })
  }

  endWithError(error: unknown, data: unknown = INTERNAL_ERROR): void {
    const block = this.outbox.checked(encodeEvent({ event: 'error', data }))
    if (this.isClosing) return
    this.#error ??= error
    this.outbox.setTail(block + encodeEvent({ event: 'close', data: { reason: 'error' } }))
    this.tell({ type: 'closeRequested', reason: 'error' })
  }

  emit<Name extends EventName>(name: Name, ...args: EventEmitter.EventArgs<SSEHandlerEvents, Name>): void {
    try {
      this.#audience.emit(name, ...args)
    } catch (error) {
      this.report(error, `listener of '${name}'`)
    }
  }

  #open(request: StreamRequest): void {
    const answer = answerTo(request)
    if (answer.stream) {
      this.lastEventId = answer.lastEventId
      this.outbox.open(this.sessionId, answer.lastEventId, answer.paddingBytes)
    }
    this.#actor.start()
    this.#transport.attach(this)
    if (this.phase !== 'opening') return
    try {
      const { headers } = this.#options
      this.#transport.open({
        ...answer,
        headers: answer.stream ? headers : { ...headers, ...answer.headers },
      })
    } catch (error) {
      this.failed(error)
      return
    }
    if (!answer.stream) {
      this.tell({ type: 'refused', reason: 'refused' })
      return
    }
    this.#stopListening = this.#options.log?.onAppend(() => this.pump.wake()) ?? null
    this.tell({ type: this.outbox.isReplaying ? 'resumed' : 'opened' })
    if (this.#options.heartbeatFormat !== 'none') this.#scheduleHeartbeat(this.#options.heartbeatMs)
    this.pump.wake()
  }

  // What the gate guards.

  hasRoom(reserved: number): boolean {
    return this.outbox.hasRoom(reserved)
  }

  makeRoom(): void {
    this.pump.gather()
  }

  encode(event: EventInput<Events>): string {
    return this.outbox.encode(event)
  }

  accept(block: string): void {
    this.outbox.accept(block)
    this.#isDropping = false
    this.pump.wake()
  }

  // What the outbox tells.

  gapMet(gap: Gap): void {
    this.gaps += 1
    this.#untoldGaps ??= []
    this.#untoldGaps.push(gap)
  }

  // What the pump tells.

  wrote(): void {
    if (this.#untoldGaps !== null) this.#tellGaps(this.#untoldGaps)
    if (this.phase === 'replaying' && !this.outbox.isReplaying) this.tell({ type: 'caughtUp' })
    this.gate.serve()
    this.#follower?.advanced()
  }

  #tellGaps(gaps: Gap[]): void {
    this.#untoldGaps = null
    for (const gap of gaps) {
      this.#observer?.gap(gap)
      this.emit('gap', gap)
      this.#follower?.toldGap(gap)
      if (gap.continues === 'close') this.tell({ type: 'closeRequested', reason: 'gap' })
    }
  }

  emptied(): void {
    if (this.phase !== 'draining') return
    this.pump.stop()
    this.#transport.end()
  }

  blocked(): void {
    this.tell({ type: 'blocked' })
  }

  unblocked(): void {
    this.tell({ type: 'unblocked' })
  }

  stalled(): void {
    this.tell({ type: 'evicted', reason: 'write-stalled' })
  }

  failed(error: unknown): void {
    this.#error ??= error
    this.tell({ type: 'evicted', reason: 'transport-error' })
  }

  // What the transport tells.

  roomMade(): void {
    this.pump.roomMade()
  }

  ended(): void {
    this.tell({ type: 'drained' })
  }

  lost(reason: LostReason, error?: unknown): void {
    this.#error ??= error
    this.tell({ type: 'lost', reason })
  }

  // What the machine has done.

  enterPhase(phase: Phase): void {
    const previous = this.phase
    this.phase = phase
    if (phase !== previous) this.emit('phase', phase, previous)
  }

  tellBlocked(): void {
    this.#observer?.blocked()
    this.emit('blocked')
  }

  tellUnblocked(): void {
    this.emit('unblocked')
  }

  closeGate(reason: CloseReason): void {
    this.#beginEnd(reason)
    this.isClosing = true
    this.gate.close(reason)
    if (this.#controller?.signal.aborted === false) this.#controller.abort(closedError(reason))
  }

  startDraining(): void {
    this.#clearTimer()
    this.outbox.seal()
    this.#follower?.advanced()
    this.#timer = this.#options.clock.setTimeout(() => this.tell({ type: 'drainTimedOut' }), this.#drainMs)
    this.pump.wake()
  }

  resetTransport(reason: CloseReason): void {
    this.#beginEnd(reason)
    this.#observer?.forced(reason)
    this.#transport.reset()
  }

  #beginEnd(reason: CloseReason): void {
    if (this.#reason !== null) return
    this.#reason = reason
    this.#observer?.closing(reason)
  }

  cleanUp(reason: CloseReason): void {
    const { outbox, pump } = this
    const info: ClosedInfo = {
      sessionId: this.sessionId,
      reason,
      at: Date.now(),
      durationMs: this.#durationMs,
      eventsSent: outbox.eventsWritten,
      bytesSent: pump.bytesWritten,
      eventsUnsent: 0,
      ...(this.#error !== undefined && { error: this.#error }),
    }
    this.#closed = info
    this.#everyStep([
      // The event log is asked, and may throw.
      () => {
        info.eventsUnsent = outbox.eventsUnwritten
        this.#lastStats = this.stats()
      },
      () => this.#clearTimer(),
      () => pump.stop(),
      () => this.#stopListening?.(),
      () => this.#transport.detach(),
      () => this.#follower?.closed(),
      () => outbox.clear(),
      () => this.#observer?.closed(info, this.stats()),
      () => this.#resolveClosed?.(info),
      // A connection that is refused is closed before its caller can listen.
      () => (this.#isOpening ? queueMicrotask(() => this.#tellClosed(info)) : this.#tellClosed(info)),
    ])
  }

  #tellClosed(info: ClosedInfo): void {
    this.emit('closed', info)
    this.#audience.removeAllListeners()
  }

  report(error: unknown, during: string): void {
    try {
      if (this.#audience.emit('error', error, during)) return
    } catch (second) {
      process.emitWarning(textOf(second), { type: 'SSEWarning', detail: "in a listener of 'error'" })
    }
    process.emitWarning(textOf(error), { type: 'SSEWarning', detail: `during ${during}` })
  }

  /** Runs each step of the clean-up though another throws. */
  #everyStep(steps: (() => void)[]): void {
    for (const step of steps) {
      try {
        step()
      } catch (error) {
        this.report(error, 'clean-up')
      }
    }
  }

  #scheduleHeartbeat(afterMs: number): void {
    this.#timer = this.#options.clock.setTimeout(() => this.#beat(), Math.max(1, Math.ceil(afterMs)))
  }

  /** Sends a heartbeat if nothing was written for an interval, and looks again when the next may be due. */
  #beat(): void {
    const { clock, heartbeatMs, heartbeatFormat } = this.#options
    const dueInMs = this.pump.lastWriteAt + heartbeatMs - clock.now()
    if (dueInMs > 0) {
      this.#scheduleHeartbeat(dueInMs)
      return
    }
    this.#scheduleHeartbeat(heartbeatMs)
    this.outbox.setHeartbeat(
      heartbeatFormat === 'event'
        ? encodeEvent({ event: 'heartbeat', data: { timestamp: Date.now() } })
        : HEARTBEAT_COMMENT,
    )
    this.#countMissed()
    this.pump.wake()
  }

  /** A heartbeat is missed when it cannot be written, and the peer has taken nothing since the one before. */
  #countMissed(): void {
    const pendingBytes = this.pump.isWaiting ? this.#transport.pendingBytes : 0
    // Nothing is pending for the response of a pipelined request, which waits for its turn.
    const isMissed = pendingBytes > 0 && pendingBytes >= this.#pendingAtBeat
    this.#heartbeatsMissed = isMissed ? this.#heartbeatsMissed + 1 : 0
    this.#pendingAtBeat = pendingBytes
    this.#observer?.heartbeat(this.#heartbeatsMissed)
    this.emit('heartbeat', { missed: this.#heartbeatsMissed })
    if (this.#heartbeatsMissed >= this.#options.maxMissedHeartbeats) {
      this.tell({ type: 'evicted', reason: 'heartbeat-missed' })
    }
  }

  #clearTimer(): void {
    if (this.#timer !== null) this.#options.clock.clearTimeout(this.#timer)
    this.#timer = null
  }
}
