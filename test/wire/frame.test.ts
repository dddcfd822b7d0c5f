import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { frameSize, toFrame } from '../../src/wire/frame.js'

const blocks = fc
  .tuple(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }), fc.constantFrom(1, 100, 300, 1000))
  .map(([text, times]) => `${text.repeat(times)}\ud83d\n`)

describe('a frame', () => {
  it('is the block in UTF-8, in whichever form it is kept', () => {
    fc.assert(
      fc.property(blocks, (block) => {
        const frame = toFrame(block)
        expect(Buffer.compare(Buffer.from(frame), Buffer.from(block))).toBe(0)
        expect(frameSize(frame)).toBe(Buffer.byteLength(block))
      }),
      { numRuns: 300 },
    )
  })

  it('stays text while it is short, and becomes bytes when it is long', () => {
    expect(toFrame('x'.repeat(2047))).toBe('x'.repeat(2047))
    expect(toFrame('x'.repeat(2048))).toBeInstanceOf(Uint8Array)
  })

  it('has its size in bytes, not in characters', () => {
    expect(['x', 'é', '€', '😀', '\ud83d', ''].map(frameSize)).toEqual([1, 2, 3, 4, 3, 0])
    expect(frameSize(Buffer.from('€'))).toBe(3)
  })
})
