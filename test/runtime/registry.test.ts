import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Registered, Registry } from '../../src/runtime/registry.js'

const entry = (sessionId: string, key = 'k'): Registered => ({ sessionId, key })

describe('the registry', () => {
  it('removes one entry and never another one of its session', () => {
    const registry = new Registry()
    const [old, replacement] = [entry('s'), entry('s')]
    registry.add(old)
    registry.add(replacement)
    registry.remove(old)
    registry.remove(old)
    expect(registry.ofSession('s')).toEqual([replacement])
    expect(registry.ofSession('s')[0]).toBe(replacement)
    expect(registry.size).toBe(1)
  })

  it('gives copies: what is done to them changes nothing', () => {
    const registry = new Registry()
    registry.add(entry('s'))
    ;(registry.ofSession('s') as Registered[]).pop()
    ;(registry.ofKey('k') as Registered[]).pop()
    expect([registry.ofSession('s').length, registry.ofKey('k').length]).toEqual([1, 1])
  })

  it.each(['__proto__', 'constructor', 'hasOwnProperty', ''])('knows names that objects have: %j', (name) => {
    const registry = new Registry()
    expect(registry.ofSession(name)).toEqual([])
    registry.add(entry(name, name))
    expect([registry.ofSession(name).length, registry.ofKey(name).length]).toEqual([1, 1])
  })

  it('is a list, searched by session and by key, whatever is added and removed', () => {
    const name = fc.constantFrom('a', 'b', 'c')
    const step = fc.oneof(
      fc.record({ kind: fc.constant('add' as const), session: name, key: name }),
      fc.record({ kind: fc.constant('remove' as const), nth: fc.nat({ max: 30 }) }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const registry = new Registry()
        const added: Registered[] = []
        let model: Registered[] = []
        for (const it of steps) {
          if (it.kind === 'add') {
            const one = entry(it.session, it.key)
            added.push(one)
            model.push(one)
            registry.add(one)
          } else {
            const one = added[it.nth]
            if (one === undefined) continue
            model = model.filter((other) => other !== one)
            registry.remove(one)
          }
          expect(registry.size).toBe(model.length)
          expect([...registry].every((other, i) => other === model[i])).toBe(true)
          for (const value of ['a', 'b', 'c']) {
            const ofSession = model.filter(({ sessionId }) => sessionId === value)
            const ofKey = model.filter(({ key }) => key === value)
            expect(registry.ofSession(value).every((other, i) => other === ofSession[i])).toBe(true)
            expect(registry.ofSession(value)).toHaveLength(ofSession.length)
            expect(registry.ofKey(value).every((other, i) => other === ofKey[i])).toBe(true)
            expect(registry.ofKey(value)).toHaveLength(ofKey.length)
          }
        }
      }),
    )
  })
})
