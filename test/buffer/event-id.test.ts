import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatEventId, parseEventId } from '../../src/buffer/event-id.js'

/** What an epoch may be: 1 to 64 of these. */
const epochs = fc
  .array(fc.constantFrom(...'abcxyzABCXYZ0123456789._-'), { minLength: 1, maxLength: 64 })
  .map((characters) => characters.join(''))
const sequences = fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, 1, 9, 10, Number.MAX_SAFE_INTEGER))

describe('an event id', () => {
  it('is the epoch, a dash and the sequence', () => {
    expect(formatEventId('3f2a', 17)).toBe('3f2a-17')
    expect(parseEventId('3f2a-17')).toEqual({ epoch: '3f2a', sequence: 17 })
  })

  it('is read back as what was written', () => {
    fc.assert(
      fc.property(epochs, sequences, (epoch, sequence) => {
        expect(parseEventId(formatEventId(epoch, sequence))).toEqual({ epoch, sequence })
      }),
      { numRuns: 1000 },
    )
  })

  it('is ASCII without spaces, so that it survives a header and a query', () => {
    fc.assert(
      fc.property(epochs, sequences, (epoch, sequence) => {
        expect(formatEventId(epoch, sequence)).toMatch(/^[\x21-\x7e]+$/)
      }),
    )
  })

  it.each([
    ['nothing', ''],
    ['a dash', '-'],
    ['an epoch alone', 'abc'],
    ['an epoch and a dash', 'abc-'],
    ['a sequence alone', '17'],
    ['a dash and a sequence, or a negative number', '-17'],
    ['a sequence with a sign', 'abc-+17'],
    ['a sequence with a leading zero', 'abc-017'],
    ['two zeros', 'abc-00'],
    ['a fraction', 'abc-1.5'],
    ['an exponent', 'abc-1e3'],
    ['a hexadecimal sequence', 'abc-0x11'],
    ['a sequence with a separator', 'abc-1_000'],
    ['Infinity', 'abc-Infinity'],
    ['NaN', 'abc-NaN'],
    ['Arabic digits', 'abc-\u0661\u0667'],
    ['fullwidth digits', 'abc-\uff11\uff17'],
    ['superscript digits', 'abc-\u00b9\u2077'],
    ['another dash', 'abc\u201317'],
    ['a space in front of the sequence', 'abc- 17'],
    ['a space behind', 'abc-17 '],
    ['a line break behind', 'abc-17\n'],
    ['a NUL behind', 'abc-17\0'],
    ['2 ** 53', `abc-${2 ** 53}`],
    ['17 digits', 'abc-12345678901234567'],
    ['a sequence of 10 kB', `abc-${'1'.repeat(10_000)}`],
    ['an epoch of 10 kB', `${'a'.repeat(10_000)}-1`],
    ['10 kB of dashes', '-'.repeat(10_000)],
  ])('is not %s', (_, id) => {
    expect(parseEventId(id)).toBeNull()
  })

  it('takes the last safe sequence', () => {
    expect(parseEventId(`abc-${Number.MAX_SAFE_INTEGER}`)).toEqual({
      epoch: 'abc',
      sequence: Number.MAX_SAFE_INTEGER,
    })
  })

  it('never has a negative sequence: a second dash belongs to the epoch', () => {
    expect(parseEventId('abc--17')).toEqual({ epoch: 'abc-', sequence: 17 })
  })

  it('is nothing that would be written in another way', () => {
    const parts = fc.constantFrom(
      'a',
      '-',
      '0',
      '1',
      '9',
      '.',
      '+',
      'e',
      ' ',
      '\n',
      '\u0661',
      '9007199254740992',
    )
    const almost = fc.array(parts, { maxLength: 12 }).map((all) => all.join(''))
    fc.assert(
      fc.property(fc.oneof(almost, fc.string({ unit: 'binary' })), (text) => {
        const id = parseEventId(text)
        if (id === null) return
        expect(formatEventId(id.epoch, id.sequence)).toBe(text)
        expect(Number.isSafeInteger(id.sequence) && id.sequence >= 0).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })
})
