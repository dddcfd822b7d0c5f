import type { Clock, Timer } from '../clock.js'
import type { Peer } from '../transport/exchange.js'
import type { UnansweredPeer } from '../transport/linux.js'

/**
 * Without an acknowledgement for so long the peer is gone. With the heartbeat's 15 s, a slot of the wheel and a sweep in
 * front of it, that is within 45 s by default. A link that is down for less is survived.
 */
const GONE_AFTER_MS = 20_000

/** A connection as the sweep sees it. */
export interface Sweepable {
  readonly peer: Peer | null
  vanished(): void
}

type Sweepables = Iterable<Sweepable> & { readonly size: number }

/** How far apart two readings of the same moment may be: the table is read, and this process runs, in its own time. */
const SAME_MOMENT_MS = 500

/** Where the kernel's word comes from. */
export interface SocketTable {
  /** Null where there is no such table. */
  read(): Promise<UnansweredPeer[] | null>
  /** Told when it could not be read this time. */
  failed(error: unknown): void
}

interface Suspicion {
  since: number
  last: UnansweredPeer
}

/**
 * Looks for peers that are gone without a word. What was written to them is in the kernel, which sends it again for
 * fifteen minutes; no write tells, and TCP keepalive does not ask while data is on its way.
 */
export class VanishedSweep {
  readonly #clock: Clock
  readonly #intervalMs: number
  readonly #connections: Sweepables
  readonly #table: SocketTable
  #suspicions = new Map<Sweepable, Suspicion>()
  #timer: Timer | null = null
  #isStopped = false

  constructor(connections: Sweepables, clock: Clock, intervalMs: number, table: SocketTable) {
    this.#connections = connections
    this.#table = table
    this.#clock = clock
    this.#intervalMs = intervalMs
    this.#isStopped = intervalMs === Number.POSITIVE_INFINITY
  }

  /** Begins, unless it runs or has been stopped for good. Called when a connection comes. */
  start(): void {
    if (this.#isStopped || this.#timer !== null) return
    this.#timer = this.#clock.setTimeout(() => void this.#sweep(), this.#intervalMs)
  }

  stop(): void {
    this.#isStopped = true
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer)
    this.#suspicions.clear()
  }

  async #sweep(): Promise<void> {
    try {
      const unanswered = await this.#table.read()
      if (unanswered === null) this.stop()
      if (!this.#isStopped) this.look(unanswered ?? [])
    } catch (error) {
      this.#table.failed(error)
    }
    this.#timer = null
    if (this.#isStopped) return
    if (this.#connections.size > 0) this.start()
  }

  /** Judges by what the kernel says now. */
  look(unanswered: readonly UnansweredPeer[]): void {
    const now = this.#clock.now()
    const byPort = groupedByPort(unanswered)
    const before = this.#suspicions
    this.#suspicions = new Map()
    if (byPort.size === 0) return
    for (const connection of this.#connections) {
      const { peer } = connection
      if (peer === null) continue
      const found = byPort.get(peer.port)?.find((other) => isSame(peer, other))
      if (found === undefined) continue
      const known = before.get(connection)
      const since = known !== undefined && isSilentSince(known.last, found) ? known.since : now
      if (now - since >= GONE_AFTER_MS) connection.vanished()
      else this.#suspicions.set(connection, { since, last: found })
    }
  }
}

function groupedByPort(peers: readonly UnansweredPeer[]): Map<number, UnansweredPeer[]> {
  const groups = new Map<number, UnansweredPeer[]>()
  for (const peer of peers) {
    const group = groups.get(peer.port)
    if (group === undefined) groups.set(peer.port, [peer])
    else group.push(peer)
  }
  return groups
}

function isSame(peer: Peer, other: Peer): boolean {
  return (
    peer.port === other.port &&
    peer.localPort === other.localPort &&
    withoutZone(peer.address) === other.address
  )
}

/**
 * Whether nothing was acknowledged between two looks: that sets the count to 0 and the timer anew. A client on a bad line is
 * found with the same count again and again, and with another moment each time.
 */
function isSilentSince(before: UnansweredPeer, now: UnansweredPeer): boolean {
  if (now.retransmits > before.retransmits) return true
  return now.retransmits === before.retransmits && Math.abs(now.nextAt - before.nextAt) < SAME_MOMENT_MS
}

/** Node names the interface of a link-local address behind it; the kernel's table does not. */
function withoutZone(address: string): string {
  return address.split('%', 1)[0] as string
}
