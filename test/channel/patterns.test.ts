import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Patterns } from '../../src/channel/patterns.js'
import { hasCode, range } from '../support/channel.js'

const matches = (patterns: string | string[], name: string) => new Patterns('events', patterns).matches(name)

describe('a pattern', () => {
  it.each([
    ['order', 'order', true],
    ['order', 'orders', false],
    ['order', 'Order', false],
    ['order:*', 'order:', true],
    ['order:*', 'order:created', true],
    ['order:*', 'order:created:twice', true],
    ['order:*', 'order', false],
    ['order:*', 'an order:created', false],
    ['*:created', 'order:created', true],
    ['*:created', 'order:created:twice', false],
    ['*', '', true],
    ['*', 'anything\nat all', true],
    ['**', 'anything', true],
    ['a*c', 'abc', true],
    ['a*c', 'ac', true],
    ['a*a', 'a', false],
    ['ab*ba', 'aba', false],
    ['*a*b*', 'xaxbx', true],
    ['*a*b*', 'xbxax', false],
    ['a.c', 'abc', false],
    ['a?', 'ab', false],
    ['[ab]', 'a', false],
    ['\\*', '\\anything', true],
    ['naïve😀*', 'naïve😀!', true],
  ])('%j and the name %j: %s', (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected)
  })

  it('says what a regular expression says', () => {
    const unit = fc.constantFrom('a', 'b', ':', '*')
    const pattern = fc.string({ unit, minLength: 1, maxLength: 8 })
    const name = fc.string({ unit: fc.constantFrom('a', 'b', ':'), maxLength: 12 })
    const oracle = (one: string) =>
      new RegExp(
        `^${one
          .split('*')
          .map((part) => part.replaceAll(/[^\w]/g, '\\$&'))
          .join('[^]*')}$`,
      )
    const property = fc.property(
      fc.array(pattern, { minLength: 1, maxLength: 4 }),
      fc.array(name),
      (list, names) => {
        const patterns = new Patterns('events', list)
        // Twice: an answer is remembered.
        for (const one of [...names, ...names]) {
          expect([one, patterns.matches(one)]).toEqual([one, list.some((each) => oracle(each).test(one))])
        }
      },
    )
    fc.assert(property, { numRuns: 2000 })
  })

  it('takes no exponential time, whoever writes it', () => {
    const patterns = new Patterns('events', `${'a*'.repeat(127)}b`)
    for (const n of range(1, 50)) expect(patterns.matches('a'.repeat(5000 + n))).toBe(false)
  })
})

describe('a list of patterns', () => {
  it('is 1 to 100 of 1 to 256 characters', () => {
    expect(matches(range(1, 100).map(String), '100')).toBe(true)
    expect(matches('x'.repeat(256), 'x'.repeat(256))).toBe(true)
    const bad = [[], range(1, 101).map(String), '', ['a', ''], 'x'.repeat(257), ['a', 'x'.repeat(257)]]
    const worse = [5, null, {}, ['a', 5], [['a']]] as unknown as string[]
    for (const list of [...bad, ...worse]) {
      expect(() => new Patterns('topics', list)).toThrow(hasCode('ERR_SSE_INVALID_OPTION'))
      expect(() => new Patterns('topics', list)).toThrow(/^Option topics is /)
    }
  })

  it('has a key that is the same for the same patterns, in any order, and for no others', () => {
    const key = (list: string | string[]) => new Patterns('events', list).key
    expect(key(['b', 'a', 'b'])).toBe(key(['a', 'b']))
    expect(key('a')).toBe(key(['a']))
    const others = [['a,b'], ['a', 'b'], ['a"', 'b'], ['a', '"b'], ['a","b'], ['a"|"b'], ['a|b'], ['ab']]
    expect(new Set(others.map(key)).size).toBe(others.length)
  })

  it('answers for more names than it remembers', () => {
    const patterns = new Patterns('events', '*7')
    for (const _ of [1, 2]) {
      const wrong = range(1, 3500).filter((n) => patterns.matches(String(n)) !== (n % 10 === 7))
      expect(wrong).toEqual([])
    }
  })

  it('may be changed by its owner afterwards: nothing changes', () => {
    const list = ['a']
    const patterns = new Patterns('events', list)
    list.push('b')
    expect([patterns.matches('a'), patterns.matches('b')]).toEqual([true, false])
  })
})
