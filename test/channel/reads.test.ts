import { createMemoryLog } from 'sluice'
import { describe, expect, it } from 'vitest'
import { ReadsBySelection } from '../../src/channel/reads.js'
import { Selection, type SelectOptions } from '../../src/channel/selection.js'
import { parsed, range } from '../support/channel.js'

const MAX_BYTES = 64 * 1024

function readsOf(events = 0) {
  const log = createMemoryLog({ epoch: 'e', maxEvents: 100_000 })
  const append = (count: number) => {
    for (let i = 0; i < count; i += 1) {
      const n = log.next
      log.append(`event: n\ndata: ${n}\n\n`, { event: 'n', topic: n % 2 === 0 ? 'even' : 'odd' })
    }
  }
  append(events)
  const selecting = (options: SelectOptions) => new Selection(options, () => {})
  return { log, append, reads: new ReadsBySelection(log), selecting }
}

/** The reads of two readers: what only one reads is not kept. */
function sharedBy(reads: ReadsBySelection, selection: Selection | null = null) {
  reads.for(selection)
  return reads.for(selection)
}

const textOf = (read: { chunk: { bytes: Uint8Array } | null }) =>
  read.chunk === null ? '' : Buffer.from(read.chunk.bytes).toString()
const idsOf = (read: { chunk: { bytes: Uint8Array } | null }) =>
  parsed(textOf(read)).map(({ id }) => Number(id?.slice(2)))

describe('a read', () => {
  it('is shared by those at the same place, until more is there to be read', () => {
    const { reads, append } = readsOf(10)
    const all = reads.for(null)
    expect(reads.for(null)).toBe(all)
    const first = all.read(3, MAX_BYTES)
    expect(idsOf(first)).toEqual(range(3, 10))
    expect(first).toMatchObject({ events: 8, told: 11, next: 11 })
    expect(all.read(3, MAX_BYTES)).toBe(first)
    expect(all.read(4, MAX_BYTES)).not.toBe(first)
    append(1)
    const second = all.read(3, MAX_BYTES)
    expect(idsOf(second)).toEqual(range(3, 11))
    expect(all.read(3, MAX_BYTES)).toBe(second)
  })

  it('that does not reach the end says the same for ever', () => {
    const { reads, append } = readsOf(2000)
    const all = sharedBy(reads)
    const first = all.read(1, MAX_BYTES)
    expect(first.next).toBeLessThan(2001)
    append(10)
    expect(all.read(1, MAX_BYTES)).toBe(first)
  })

  it('of one that is far behind ends where others begin, wherever it began', () => {
    const { reads } = readsOf(5000)
    const all = sharedBy(reads)
    for (const from of [1, 17, 500, 511, 512]) {
      const first = all.read(from, MAX_BYTES)
      const second = all.read(first.next, MAX_BYTES)
      expect(all.read(first.next, MAX_BYTES)).toBe(second)
      expect([from, idsOf(first)]).toEqual([from, range(from, first.next - 1)])
      expect(first.next % 512).toBe(0)
    }
  })

  it('goes by a bounded number of events that are for nobody', () => {
    const { reads, selecting, log } = readsOf(5000)
    const none = reads.for(selecting({ topics: 'none' }))
    let [from, looks] = [1, 0]
    while (from < log.next) {
      const read = none.read(from, MAX_BYTES)
      expect([read.chunk, read.events, read.told]).toEqual([null, 0, from])
      expect(read.next - from).toBeLessThanOrEqual(1024)
      from = read.next
      looks += 1
    }
    expect(looks).toBeGreaterThan(4)
  })

  it('tells up to which event its reader knows where it is', () => {
    const { reads, selecting } = readsOf(10)
    expect(reads.for(selecting({ topics: 'odd' })).read(1, MAX_BYTES)).toMatchObject({
      events: 5,
      told: 10,
      next: 11,
    })
    expect(reads.for(selecting({ topics: 'even' })).read(1, MAX_BYTES)).toMatchObject({
      events: 5,
      told: 11,
      next: 11,
    })
  })

  it('is kept no longer than nobody is behind, and not without bound', () => {
    const { reads } = readsOf(500)
    const all = sharedBy(reads)
    const first = all.read(1, MAX_BYTES)
    for (const from of range(2, 64)) all.read(from, MAX_BYTES)
    expect(all.read(1, MAX_BYTES)).toBe(first)
    for (const from of range(65, 200)) all.read(from, MAX_BYTES)
    const again = all.read(1, MAX_BYTES)
    expect(again).not.toBe(first)
    reads.forget()
    expect(all.read(1, MAX_BYTES)).not.toBe(again)
  })
})

describe('readers that select', () => {
  it('the same by name and topic share their reads, however it is written', () => {
    const { reads, selecting } = readsOf(10)
    const odd = reads.for(selecting({ topics: 'odd', events: ['n', 'm'] }))
    expect(reads.for(selecting({ topics: ['odd', 'odd'], events: ['m', 'n'] }))).toBe(odd)
    expect(idsOf(odd.read(1, MAX_BYTES))).toEqual([1, 3, 5, 7, 9])
    for (const other of [
      { topics: 'odd' },
      { events: ['n', 'm'] },
      { topics: ['n', 'm'], events: 'odd' },
      {},
    ]) {
      expect(reads.for(selecting(other))).not.toBe(odd)
    }
  })

  it('by functions of their own share nothing, though the functions are the same', () => {
    const { reads, selecting } = readsOf(10)
    let asked = 0
    const filter = () => {
      asked += 1
      return true
    }
    const [one, two] = [reads.for(selecting({ filter })), reads.for(selecting({ filter }))]
    expect(one).not.toBe(two)
    one.read(1, MAX_BYTES)
    one.read(1, MAX_BYTES)
    expect(asked).toBe(20)
    const authorize = () => true
    expect(reads.for(selecting({ authorize }))).not.toBe(reads.for(selecting({ authorize })))
  })

  it('are forgotten with the last of them', () => {
    const { reads, selecting } = readsOf(10)
    const odd = reads.for(selecting({ topics: 'odd' }))
    reads.for(selecting({ topics: 'odd' }))
    reads.letGo(odd)
    expect(reads.for(selecting({ topics: 'odd' }))).toBe(odd)
    reads.letGo(odd)
    reads.letGo(odd)
    const anew = reads.for(selecting({ topics: 'odd' }))
    expect(anew).not.toBe(odd)
    reads.letGo(odd)
    expect(idsOf(anew.read(1, MAX_BYTES))).toEqual([1, 3, 5, 7, 9])
  })

  it('and those that do not each get their own', () => {
    const { reads, selecting } = readsOf(4)
    const kinds = [null, selecting({ topics: 'odd' }), selecting({ filter: ({ data }) => data > '2' })]
    expect(kinds.map((selection) => idsOf(reads.for(selection).read(1, MAX_BYTES)))).toEqual([
      [1, 2, 3, 4],
      [1, 3],
      [3, 4],
    ])
  })
})
