import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { LinkedAbort, onAbort } from '../../src/producers/abort.js'

function listenersOf(...controllers: AbortController[]): number[] {
  return controllers.map(({ signal }) => getEventListeners(signal, 'abort').length)
}

describe('a linked abort', () => {
  it('aborts when the first of its signals does, with that reason', () => {
    const [one, other] = [new AbortController(), new AbortController()]
    const { signal } = new LinkedAbort(one.signal, other.signal)
    expect(signal.aborted).toBe(false)
    other.abort('the other')
    one.abort('the one')
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toBe('the other')
  })

  it('tells its listeners once', () => {
    const [one, other] = [new AbortController(), new AbortController()]
    const { signal } = new LinkedAbort(one.signal, other.signal)
    let told = 0
    signal.addEventListener('abort', () => {
      told += 1
    })
    one.abort()
    other.abort()
    expect(told).toBe(1)
  })

  it('is aborted from the start when a signal is, with the reason of the first such', () => {
    const { signal } = new LinkedAbort(
      new AbortController().signal,
      AbortSignal.abort('second'),
      AbortSignal.abort('third'),
    )
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toBe('second')
  })

  it('takes undefined for no signal', () => {
    const one = new AbortController()
    const { signal } = new LinkedAbort(undefined, one.signal)
    one.abort('reason')
    expect(signal.reason).toBe('reason')
    expect(new LinkedAbort(undefined).signal.aborted).toBe(false)
  })

  it('listens to each signal once, and to none after it aborted', () => {
    const [one, other] = [new AbortController(), new AbortController()]
    new LinkedAbort(one.signal, other.signal)
    expect(listenersOf(one, other)).toEqual([1, 1])
    one.abort()
    expect(listenersOf(one, other)).toEqual([0, 0])
  })

  it('listens to none when one is aborted from the start', () => {
    const one = new AbortController()
    new LinkedAbort(one.signal, AbortSignal.abort())
    expect(listenersOf(one)).toEqual([0])
    new LinkedAbort(AbortSignal.abort(), one.signal)
    expect(listenersOf(one)).toEqual([0])
  })

  it('is deaf after it was unlinked, however often', () => {
    const [one, other] = [new AbortController(), new AbortController()]
    const abort = new LinkedAbort(one.signal, other.signal)
    abort.unlink()
    abort.unlink()
    expect(listenersOf(one, other)).toEqual([0, 0])
    one.abort()
    expect(abort.signal.aborted).toBe(false)
  })

  it('leaves no trace in a signal that outlives thousands of them', () => {
    const long = new AbortController()
    const kept = Object.getOwnPropertySymbols(long.signal).length
    for (let i = 0; i < 10_000; i += 1) new LinkedAbort(long.signal, new AbortController().signal).unlink()
    expect(listenersOf(long)).toEqual([0])
    // AbortSignal.any would have put a set of its dependants there.
    expect(Object.getOwnPropertySymbols(long.signal)).toHaveLength(kept)
  })
})

describe('listening to a signal', () => {
  it('takes one listener of the signal, however many listen, and tells each once, in order', () => {
    const long = new AbortController()
    const told: number[] = []
    for (let i = 0; i < 100; i += 1) onAbort(long.signal, () => told.push(i))
    expect(listenersOf(long)).toEqual([1])
    long.abort()
    expect(told).toEqual([...Array(100).keys()])
    expect(listenersOf(long)).toEqual([0])
  })

  it('takes the same function twice', () => {
    const long = new AbortController()
    let told = 0
    const listener = () => {
      told += 1
    }
    const stop = onAbort(long.signal, listener)
    onAbort(long.signal, listener)
    stop()
    stop()
    long.abort()
    expect(told).toBe(1)
  })

  it('ends with the last that stops, and can begin anew', () => {
    const long = new AbortController()
    const stops = [1, 2, 3].map(() => onAbort(long.signal, () => {}))
    stops[0]?.()
    stops[2]?.()
    expect(listenersOf(long)).toEqual([1])
    stops[1]?.()
    expect(listenersOf(long)).toEqual([0])
    let told = 0
    onAbort(long.signal, () => {
      told += 1
    })
    expect(listenersOf(long)).toEqual([1])
    long.abort()
    expect(told).toBe(1)
  })

  it('tells nobody who has stopped meanwhile, such as from another listener', () => {
    const long = new AbortController()
    const told: string[] = []
    const stops: (() => void)[] = []
    onAbort(long.signal, () => {
      told.push('first')
      for (const stop of stops) stop()
    })
    stops.push(onAbort(long.signal, () => told.push('second')))
    long.abort()
    expect(told).toEqual(['first'])
  })

  it('calls none for a signal that has aborted already', () => {
    const stop = onAbort(AbortSignal.abort(), () => expect.unreachable())
    stop()
  })
})
