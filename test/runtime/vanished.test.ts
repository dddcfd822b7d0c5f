import { describe, expect, it } from 'vitest'
import { type Sweepable, VanishedSweep } from '../../src/runtime/vanished.js'
import type { Peer } from '../../src/transport/exchange.js'
import type { UnansweredPeer } from '../../src/transport/linux.js'
import { ManualClock } from '../support/clock.js'
import { until } from '../support/until.js'

const peer = (port: number, address = '10.0.0.7', localPort = 8080): Peer => ({ address, port, localPort })
const silent = (of: Peer, retransmits = 1, nextAt = 0): UnansweredPeer => ({ ...of, retransmits, nextAt })

const NO_TABLE = { read: async () => [], failed() {} }

class Stream implements Sweepable {
  isVanished = false
  readonly peer: Peer | null
  readonly #others: Set<Stream>

  constructor(of: Peer | null, others: Set<Stream>) {
    this.peer = of
    this.#others = others
    others.add(this)
  }

  vanished(): void {
    this.isVanished = true
    this.#others.delete(this)
  }
}

function sweepOf(...peers: (Peer | null)[]) {
  const clock = new ManualClock()
  const open = new Set<Stream>()
  const streams = peers.map((of) => new Stream(of, open))
  const sweep = new VanishedSweep(open, clock, 5000, NO_TABLE)
  /** One look every five seconds, at a table that is the same each time. */
  const looks = (count: number, table: (look: number) => UnansweredPeer[]) => {
    for (let i = 0; i < count; i += 1) {
      sweep.look(table(i))
      clock.advance(5000)
    }
  }
  const gone = () => streams.map(({ isVanished }) => isVanished)
  return { clock, sweep, looks, gone, open }
}

describe('a client whose kernel does not answer', () => {
  it('is gone after 20 seconds of it, and not before', () => {
    const { looks, gone } = sweepOf(peer(1))
    looks(4, (look) => [silent(peer(1), look + 1)])
    expect(gone()).toEqual([false])
    looks(1, () => [silent(peer(1), 5)])
    expect(gone()).toEqual([true])
  })

  it('begins anew when it has answered in between: fewer retransmits, or none', () => {
    const { looks, gone } = sweepOf(peer(1), peer(2))
    looks(3, () => [silent(peer(1), 5), silent(peer(2), 5)])
    looks(1, () => [silent(peer(1), 2)])
    looks(3, () => [silent(peer(1), 5), silent(peer(2), 5)])
    expect(gone()).toEqual([false, false])
    looks(2, () => [silent(peer(1), 5), silent(peer(2), 5)])
    expect(gone()).toEqual([true, true])
  })

  it('is not one on a bad line, found with the same count again and again, and another moment each time', () => {
    const { looks, gone } = sweepOf(peer(1), peer(2))
    looks(10, (look) => [silent(peer(1), 1, look * 5000), silent(peer(2), 1, 60_000 + (look % 2) * 100)])
    expect(gone()).toEqual([false, true])
  })

  it('is told from others at the same address, at the same port, and at another port of this machine', () => {
    const others = [peer(2), peer(1, '10.0.0.8'), peer(1, '10.0.0.7', 9090), null]
    const { looks, gone } = sweepOf(peer(1), ...others)
    looks(6, () => [silent(peer(1))])
    expect(gone()).toEqual([true, false, false, false, false])
  })

  it('costs the others nothing: all those of a network that failed are found in one look', () => {
    const peers = Array.from({ length: 2000 }, (_, i) => peer(10_000 + (i % 500), `10.0.${i % 200}.1`, i))
    const { looks, gone, open } = sweepOf(...peers, peer(1))
    looks(5, () => peers.map((of) => silent(of)))
    expect(gone().filter(Boolean)).toHaveLength(2000)
    expect(open.size).toBe(1)
  })
})

describe('the sweep', () => {
  it('is at rest until a stream comes, and when it is off', () => {
    const clock = new ManualClock()
    const sweep = new VanishedSweep(new Set(), clock, 5000, NO_TABLE)
    expect(clock.pending).toBe(0)
    sweep.start()
    sweep.start()
    expect(clock.pending).toBe(1)
    sweep.stop()
    expect(clock.pending).toBe(0)
    sweep.start()
    expect(clock.pending).toBe(0)
    const off = new VanishedSweep(new Set(), clock, Number.POSITIVE_INFINITY, NO_TABLE)
    off.start()
    expect(clock.pending).toBe(0)
  })
})

describe('a socket table that cannot be read', () => {
  it('this time, is told, and read again the next time', async () => {
    const clock = new ManualClock()
    const errors: unknown[] = []
    let reads = 0
    const stream = new Stream(peer(1), new Set())
    const sweep = new VanishedSweep(new Set([stream]), clock, 5000, {
      read: async () => {
        reads += 1
        if (reads === 1) throw new Error('EMFILE')
        return []
      },
      failed: (error) => void errors.push(String(error)),
    })
    sweep.start()
    for (const expected of [1, 2, 3]) {
      clock.advance(5000)
      await until(() => reads === expected && clock.pending === 1)
    }
    expect(errors).toEqual(['Error: EMFILE'])
    sweep.stop()
  })

  it('because there is none, is not asked for again', async () => {
    const clock = new ManualClock()
    let reads = 0
    const read = async () => {
      reads += 1
      return null
    }
    const sweep = new VanishedSweep(new Set([new Stream(peer(1), new Set())]), clock, 5000, {
      read,
      failed() {},
    })
    sweep.start()
    clock.advance(5000)
    await until(() => reads === 1)
    sweep.start()
    expect(clock.pending).toBe(0)
  })
})
