import type { ClosedInfo, SSEHandlerStats } from '../handler/sse-handler-events.js'
import { unansweredPeers } from '../transport/linux.js'
import type { Admitting } from './admission.js'
import { Lifecycle } from './lifecycle.js'
import type { ResolvedSluiceOptions } from './options.js'
import { Registry } from './registry.js'
import type { Supervised } from './supervised.js'
import { Totals } from './totals.js'
import { VanishedSweep } from './vanished.js'
import { WheelClock } from './wheel-clock.js'

/** What the parts of a runtime share: the open streams, their time, what is counted and told, and whether it stops. */
export class Core implements Admitting {
  readonly streams = new Registry<Supervised>()
  readonly totals = new Totals()
  readonly lifecycle: Lifecycle
  readonly wheel: WheelClock
  readonly #sweep: VanishedSweep
  readonly #stopping = new AbortController()

  constructor(
    { logger, clock, sweepMs }: Pick<ResolvedSluiceOptions<never>, 'logger' | 'clock' | 'sweepMs'>,
    sluice: object,
  ) {
    this.lifecycle = new Lifecycle(logger, sluice)
    this.wheel = new WheelClock(clock)
    this.#sweep = new VanishedSweep(this.streams, clock, sweepMs, {
      read: unansweredPeers,
      failed: (error) =>
        this.lifecycle.log('warn', { err: error }, 'sse sweep could not read the socket table'),
    })
  }

  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  opened(stream: Supervised): void {
    this.streams.add(stream)
    this.totals.opened(stream.client)
    this.#sweep.start()
    this.lifecycle.tell('established', () => stream.establishedFields())
  }

  heartbeatMissed(): void {
    this.totals.heartbeatMissed()
  }

  terminated(stream: Supervised, info: ClosedInfo, stats: SSEHandlerStats): void {
    this.streams.remove(stream)
    this.totals.closed(info, stats)
    this.lifecycle.tell('terminated', () => {
      const { error, ...end } = info
      return {
        ...stream.fields(),
        ...end,
        // Loggers show the message and the stack of an error that has this name.
        ...(error !== undefined && { err: error }),
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
      }
    })
  }

  /** Nothing is let in any more, and the sweep is over. */
  stop(): void {
    this.#stopping.abort()
    this.#sweep.stop()
  }
}
