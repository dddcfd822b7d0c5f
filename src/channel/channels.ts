import { MemoryLog, type MemoryLogOptions } from '../buffer/memory-log.js'
import { type Clock, systemClock, type Timer } from '../clock.js'
import { SSEError, shown } from '../errors.js'
import { delayMs, knownOptions, wholeNumber } from '../options.js'
import type { EventMap } from '../wire/event.js'
import { Channel } from './channel.js'
import { type ChannelOptions, KNOWN_CHANNEL_OPTIONS, resolveChannelOptions } from './options.js'

/** Options of `createChannels`: those of each channel, and bounds for all of them together. */
export interface ChannelsOptions<Events extends object = EventMap>
  extends Omit<ChannelOptions<Events>, 'log'> {
  /** The log of each channel: a memory log with these bounds, in an epoch of its own. */
  log?: Omit<MemoryLogOptions, 'epoch' | 'clock'> | undefined
  /**
   * The most channels. At the limit the longest idle one is disposed of: one without readers, permits and waiting callers, to which nothing was published
   * for a quarter of `idleMs` or so. When all are in use, `open` throws ERR_SSE_TOO_MANY_CHANNELS. Minimum 1, default 10,000.
   */
  maxChannels?: number | undefined
  /**
   * The most bytes of encoded events in all logs together. At the limit the longest idle channels are disposed of; when all
   * are in use, the one that is published to gives its own oldest events up. Minimum 1, default 256 MiB.
   */
  maxBytes?: number | undefined
  /**
   * Milliseconds a channel is kept without readers and without anything published; to 1/4. 1 to 2,147,483,647, default
   * 600,000.
   */
  idleMs?: number | undefined
}

/** What a set of channels is like at one moment. */
export interface ChannelsStats {
  channels: number
  /** How many of them have readers. */
  inUse: number
  readers: number
  /** Bytes of encoded events in all logs. */
  heldBytes: number
  /** Channels disposed of because they were idle, or to make room. */
  disposed: number
}

/** Idle channels are looked for this often in `idleMs`. */
const SWEEPS_PER_IDLE = 4
/** Looking in vain for an idle channel is followed by a pause of so many times what it took. */
const PAUSE_PER_LOOK = 50
const KNOWN: ReadonlySet<string> = new Set(['maxChannels', 'maxBytes', 'idleMs', ...KNOWN_CHANNEL_OPTIONS])
const KNOWN_LOG: ReadonlySet<string> = new Set(['maxEvents', 'maxBytes', 'maxAgeMs'])

/**
 * Makes a set of channels by name, one for each run, user or room, bounded in number and bytes.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function createChannels<Events extends object = EventMap>(
  options: ChannelsOptions<Events> = {},
): Channels<Events> {
  return new Channels(options)
}

interface Held<Events extends object> {
  readonly channel: Channel<Events>
  readonly log: MemoryLog
  /** When it was last seen in use, by the clock. */
  usedAt: number
  /** What had been published then. */
  published: number
}

/** Channels by name, made on demand and disposed of when idle. Made by `createChannels`. */
export class Channels<Events extends object = EventMap> {
  /** The longest unused first, as far as looking them up tells. */
  readonly #held = new Map<string, Held<Events>>()
  readonly #channelOptions: ChannelOptions<Events>
  readonly #logOptions: MemoryLogOptions
  readonly #maxChannels: number
  readonly #maxBytes: number
  readonly #idleMs: number
  readonly #clock: Clock
  #heldBytes = 0
  #disposed = 0
  /** When idle channels are looked for again after there were none. */
  #looksAgainAt = 0
  #isClosed = false
  #sweepTimer: Timer | null = null

  constructor(options: ChannelsOptions<Events>) {
    knownOptions('createChannels', options, KNOWN)
    const { log = {}, maxChannels, maxBytes, idleMs, ...channelOptions } = options
    knownOptions('log', log, KNOWN_LOG)
    this.#channelOptions = channelOptions
    this.#logOptions = log
    this.#clock = channelOptions.clock ?? systemClock
    this.#maxChannels = wholeNumber('maxChannels', maxChannels, 10_000, { min: 1 })
    this.#maxBytes = wholeNumber('maxBytes', maxBytes, 256 * 1024 * 1024, { min: 1 })
    this.#idleMs = delayMs('idleMs', idleMs, 600_000)
    // Bad options are told now, not when the first channel is opened.
    this.#make()
  }

  /** How many channels there are. */
  get size(): number {
    return this.#held.size
  }

  /**
   * The channel of a name, made if there is none. A name that a client sends would make a channel for whatever it sends:
   * look with `get` first.
   *
   * @throws SSEError ERR_SSE_TOO_MANY_CHANNELS; ERR_SSE_CLOSED after `close`; ERR_SSE_INVALID_OPTION for a name that is no
   * string.
   */
  open(name: string): Channel<Events> {
    const found = this.get(name)
    if (found !== undefined) return found
    if (typeof name !== 'string') {
      throw new SSEError(
        'ERR_SSE_INVALID_OPTION',
        `The name of a channel is ${shown(name)}; expected a string.`,
      )
    }
    if (this.#isClosed) {
      throw new SSEError('ERR_SSE_CLOSED', 'The channels are closed; make others with createChannels().', {
        reason: 'shutdown',
      })
    }
    if (this.#held.size >= this.#maxChannels && !this.#madeRoom()) {
      throw new SSEError(
        'ERR_SSE_TOO_MANY_CHANNELS',
        `All ${this.#maxChannels} channels are in use, the most that maxChannels allows; delete some, or raise the limit.`,
      )
    }
    const held = this.#make()
    this.#held.set(name, held)
    this.#sweepTimer ??= this.#scheduleSweep()
    return held.channel
  }

  /** The channel of a name; undefined when there is none. */
  get(name: string): Channel<Events> | undefined {
    const held = this.#held.get(name)
    if (held === undefined) return undefined
    held.usedAt = this.#clock.now()
    this.#held.delete(name)
    this.#held.set(name, held)
    return held.channel
  }

  /**
   * Ends the channel of a name and forgets it: its readers get the rest, and who comes back finds another history. False
   * when there is none.
   */
  delete(name: string): boolean {
    const held = this.#held.get(name)
    if (held === undefined) return false
    this.#held.delete(name)
    held.channel.end()
    // Its readers may still read what it holds, which is theirs from now on.
    this.#heldBytes -= held.log.leaveBudget()
    if (this.#held.size === 0) this.#stopSweep()
    return true
  }

  /** Ends and forgets all channels; `open` throws from then on. */
  close(): void {
    this.#isClosed = true
    for (const name of [...this.#held.keys()]) this.delete(name)
  }

  /** What the channels are like at this moment. Looks at each. */
  stats(): ChannelsStats {
    let inUse = 0
    let readers = 0
    for (const { channel } of this.#held.values()) {
      readers += channel.readers
      if (channel.readers > 0) inUse += 1
    }
    return {
      channels: this.#held.size,
      inUse,
      readers,
      heldBytes: this.#heldBytes,
      disposed: this.#disposed,
    }
  }

  #make(): Held<Events> {
    const log = new MemoryLog({ ...this.#logOptions, clock: this.#clock }, (log, bytes) =>
      this.#account(log, bytes),
    )
    const channel = new Channel<Events>(resolveChannelOptions({ ...this.#channelOptions, log }))
    return { channel, log, usedAt: this.#clock.now(), published: 0 }
  }

  /** Counts bytes that a log takes, or gives back. */
  #account(log: MemoryLog, bytes: number): void {
    this.#heldBytes += bytes
    if (this.#heldBytes <= this.#maxBytes) return
    while (this.#heldBytes > this.#maxBytes && this.#madeRoom(log)) {}
    while (this.#heldBytes > this.#maxBytes && log.evictOldest()) {}
  }

  /** Disposes of one idle channel. Looking takes time in proportion to the channels. */
  #madeRoom(except?: MemoryLog): boolean {
    const startedAt = this.#clock.now()
    if (startedAt < this.#looksAgainAt) return false
    const isMade = this.#disposeIdlest(except)
    const now = this.#clock.now()
    if (!isMade) this.#looksAgainAt = now + (now - startedAt) * PAUSE_PER_LOOK
    return isMade
  }

  /** Disposes of the idle channel that was looked up longest ago. False when there is none. */
  #disposeIdlest(except?: MemoryLog): boolean {
    for (const [name, { channel, log, published }] of this.#held) {
      if (channel.isInUse || channel.published !== published || log === except) continue
      this.#dispose(name)
      return true
    }
    return false
  }

  #dispose(name: string): void {
    this.#disposed += 1
    this.delete(name)
  }

  #scheduleSweep(): Timer {
    return this.#clock.setTimeout(() => this.#sweep(), Math.ceil(this.#idleMs / SWEEPS_PER_IDLE))
  }

  #sweep(): void {
    this.#sweepTimer = null
    const now = this.#clock.now()
    for (const [name, held] of [...this.#held]) {
      const { isInUse, published } = held.channel
      if (isInUse || published !== held.published) {
        held.usedAt = now
        held.published = published
      } else if (now - held.usedAt >= this.#idleMs) {
        this.#dispose(name)
      }
    }
    if (this.#held.size > 0) this.#sweepTimer ??= this.#scheduleSweep()
  }

  #stopSweep(): void {
    if (this.#sweepTimer !== null) this.#clock.clearTimeout(this.#sweepTimer)
    this.#sweepTimer = null
  }
}
