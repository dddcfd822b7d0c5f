import type { IncomingMessage } from 'node:http'
import { type ClosedInfo, createSluice, type Sluice, type SSEHandler } from 'sluice'
import { type Clock, systemClock, type Timer } from '../../src/clock.js'
import { serve, type TestServer } from '../support/server.js'
import { until } from '../support/until.js'

/** The system's time, which knows how many of its timers are pending. */
export class CountedClock implements Clock {
  readonly pending = new Set<Timer>()
  /** Timers ever set. */
  set = 0

  now(): number {
    return systemClock.now()
  }

  setTimeout(callback: () => void, delayMs: number): Timer {
    const timer = systemClock.setTimeout(() => {
      this.pending.delete(timer)
      callback()
    }, delayMs)
    this.pending.add(timer)
    this.set += 1
    return timer
  }

  clearTimeout(timer: Timer): void {
    this.pending.delete(timer)
    systemClock.clearTimeout(timer)
  }
}

/** How a stream ended, on a clock that tests share with it. */
interface Closing extends ClosedInfo {
  /** Of `performance.now()`. */
  seenAt: number
  /** Of the request. */
  url: string
}

export interface Streams extends TestServer {
  readonly open: ReadonlySet<SSEHandler>
  readonly closings: readonly Closing[]
  readonly opened: number
  readonly clock: CountedClock
  readonly sluice: Sluice
  /** Fails unless everything of every stream is gone. */
  untilNothingIsLeft(): Promise<void>
}

/** Looks more often than by default, so that a test need not wait for the last look. */
export const SWEEP_MS = 1000

/** A server that makes a stream of every request and keeps an account of them. */
export async function serveStreams(
  onOpen: (sse: SSEHandler, req: IncomingMessage) => void = () => {},
  clock = new CountedClock(),
  sluice = createSluice({ clock, sweepMs: SWEEP_MS }),
): Promise<Streams> {
  const open = new Set<SSEHandler>()
  const closings: Closing[] = []
  const state = { opened: 0 }
  const server = await serve((req, res) => {
    const sse = sluice.open(req, res)
    if (sse === null) return
    open.add(sse)
    state.opened += 1
    void sse.closed.then((info) => {
      open.delete(sse)
      closings.push({ ...info, seenAt: performance.now(), url: req.url ?? '' })
    })
    onOpen(sse, req)
  })
  return {
    ...server,
    open,
    closings,
    clock,
    sluice,
    get opened() {
      return state.opened
    },
    async untilNothingIsLeft() {
      await until(() => open.size === 0, 'every stream is closed')
      await until(() => sluice.stats().open === 0, 'no stream is registered')
      let connections = Number.NaN
      await until(() => {
        server.server.getConnections((_, count) => {
          connections = count
        })
        return connections === 0
      }, 'every connection is gone')
      // The sweep of the kernel's table looks once more, and finds nobody.
      await until(() => clock.pending.size === 0, 'no timer is pending')
    },
  }
}
