import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createActor, initialTransition, transition } from 'xstate'
import { getShortestPaths } from 'xstate/graph'
import { liveConnectionMachine, type Reporting } from '../../src/handler/effects.js'
import { connectionMachine, type Effects, type LifecycleEvent } from '../../src/handler/machine.js'
import type { CloseReason, Phase } from '../../src/index.js'

type EventName = LifecycleEvent['type']
type Snapshot = ReturnType<typeof initialTransition<typeof connectionMachine>>[0]

const NO_EFFECTS = {} as Effects
const REASON: CloseReason = 'completed'
const EVENTS: Record<EventName, LifecycleEvent> = {
  opened: { type: 'opened' },
  resumed: { type: 'resumed' },
  caughtUp: { type: 'caughtUp' },
  blocked: { type: 'blocked' },
  unblocked: { type: 'unblocked' },
  closeRequested: { type: 'closeRequested', reason: REASON },
  drained: { type: 'drained' },
  drainTimedOut: { type: 'drainTimedOut' },
  lost: { type: 'lost', reason: 'client-closed' },
  evicted: { type: 'evicted', reason: REASON },
  refused: { type: 'refused', reason: 'refused' },
}

const enter = (phase: Phase) => `enter ${phase}`
const CLOSE = [enter('closed'), 'closeGate', 'cleanUp']
const RESET = ['resetTransport', ...CLOSE]
const DRAIN = [enter('draining'), 'closeGate', 'startDraining']

interface Answer {
  to: Phase
  does: string[]
  /** The reason kept, from an open connection. */
  reason?: CloseReason
}
const TO_FLOWING: Answer = { to: 'flowing', does: [enter('flowing')] }
const TO_DRAINING: Answer = { to: 'draining', does: DRAIN, reason: REASON }
const TO_CLOSED: Answer = { to: 'closed', does: CLOSE, reason: 'client-closed' }
const TO_REFUSED: Answer = { to: 'closed', does: CLOSE, reason: 'refused' }
const TO_RESET: Answer = { to: 'closed', does: RESET, reason: REASON }

/** Every event that a phase answers; each other one changes nothing and does nothing. */
const TABLE: Record<Phase, Partial<Record<EventName, Answer>>> = {
  opening: {
    opened: TO_FLOWING,
    resumed: { to: 'replaying', does: [enter('replaying')] },
    refused: TO_REFUSED,
    closeRequested: TO_DRAINING,
    lost: TO_CLOSED,
    evicted: TO_RESET,
  },
  replaying: {
    caughtUp: TO_FLOWING,
    refused: TO_REFUSED,
    closeRequested: TO_DRAINING,
    lost: TO_CLOSED,
    evicted: TO_RESET,
  },
  flowing: {
    resumed: { to: 'replaying', does: [enter('replaying')] },
    refused: TO_REFUSED,
    blocked: { to: 'blocked', does: ['tellBlocked', enter('blocked')] },
    closeRequested: TO_DRAINING,
    lost: TO_CLOSED,
    evicted: TO_RESET,
  },
  blocked: {
    refused: TO_REFUSED,
    unblocked: { to: 'flowing', does: ['tellUnblocked', enter('flowing')] },
    closeRequested: TO_DRAINING,
    lost: TO_CLOSED,
    evicted: TO_RESET,
  },
  draining: {
    drained: { to: 'closed', does: CLOSE },
    drainTimedOut: { to: 'closed', does: RESET },
    lost: { to: 'closed', does: CLOSE },
    evicted: { to: 'closed', does: RESET },
  },
  closed: {},
}

function phaseOf(snapshot: Snapshot): Phase {
  const { value } = snapshot
  return typeof value === 'string' ? value : value.live
}

function named(actions: readonly { type: string; params: unknown }[]): string[] {
  return actions.map(({ type, params }) =>
    type === 'enterPhase' ? enter((params as { phase: Phase }).phase) : type,
  )
}

const paths = getShortestPaths(connectionMachine, {
  input: NO_EFFECTS,
  events: Object.values(EVENTS),
  serializeState: (snapshot) => JSON.stringify([snapshot.value, snapshot.context.reason]),
})

function after(events: readonly LifecycleEvent[]): Snapshot {
  let [snapshot] = initialTransition(connectionMachine, NO_EFFECTS)
  for (const event of events) [snapshot] = transition(connectionMachine, snapshot, event)
  return snapshot
}

describe('the connection machine', () => {
  it('begins by entering its first phase, without a reason', () => {
    const [snapshot, actions] = initialTransition(connectionMachine, NO_EFFECTS)
    expect([phaseOf(snapshot), snapshot.context.reason]).toEqual(['opening', null])
    expect(named(actions)).toEqual([enter('opening')])
  })

  it('reaches every phase of the table, and no other', () => {
    const reached = new Set(paths.map(({ state }) => phaseOf(state)))
    expect([...reached].sort()).toEqual(Object.keys(TABLE).sort())
  })

  it.each(
    paths.map((path) => {
      const events = path.steps.map(({ event }) => event).filter(({ type }) => type in EVENTS)
      return { way: events.map(({ type }) => type).join(', ') || 'nothing', events }
    }),
  )('after $way answers every event as in the table', ({ events }) => {
    const before = after(events)
    for (const [name, event] of Object.entries(EVENTS) as [EventName, LifecycleEvent][]) {
      const [next, actions] = transition(connectionMachine, before, event)
      const answer = TABLE[phaseOf(before)][name] ?? { to: phaseOf(before), does: [] }
      expect([name, phaseOf(next), named(actions)]).toEqual([name, answer.to, answer.does])
      expect([name, next.context.reason]).toEqual([name, before.context.reason ?? answer.reason ?? null])
      expect([name, next.status]).toEqual([name, answer.to === 'closed' ? 'done' : 'active'])
    }
  })

  it('has a reason in draining and closed, and in no other phase', () => {
    for (const { state } of paths) {
      const isEnding = ['draining', 'closed'].includes(phaseOf(state))
      expect([phaseOf(state), state.context.reason !== null]).toEqual([phaseOf(state), isEnding])
    }
  })

  it('keeps exactly one reason, the first, whatever follows', () => {
    const reasons = fc.constantFrom<CloseReason>('shutdown', 'replaced', 'error', 'aborted', 'write-stalled')
    const withReason = fc.record({ type: fc.constantFrom('closeRequested', 'evicted'), reason: reasons })
    const lifecycle = fc.oneof(
      fc.constantFrom(...Object.values(EVENTS)),
      withReason,
    ) as fc.Arbitrary<LifecycleEvent>
    fc.assert(
      fc.property(fc.array(lifecycle, { minLength: 1, maxLength: 12 }), (events) => {
        let [snapshot] = initialTransition(connectionMachine, NO_EFFECTS)
        let first: CloseReason | null = null
        let closings = 0
        for (const event of events) {
          const from = phaseOf(snapshot)
          const [next, actions] = transition(connectionMachine, snapshot, event)
          if (from !== 'closed' && first === null) {
            const isTooLate = event.type === 'refused' && from === 'draining'
            if ('reason' in event && !isTooLate) first = event.reason
          }
          closings += named(actions).filter((name) => name === 'cleanUp').length
          snapshot = next
          expect(snapshot.context.reason).toBe(first)
        }
        expect(closings).toBe(phaseOf(snapshot) === 'closed' ? 1 : 0)
      }),
    )
  })
})

const ACTIONS = [
  'enterPhase',
  'tellBlocked',
  'tellUnblocked',
  'closeGate',
  'startDraining',
  'resetTransport',
  'cleanUp',
]

describe('the actions of the machine', () => {
  it('are the effects of the table, and no others', () => {
    const named = Object.values(TABLE).flatMap((answers) =>
      Object.values(answers).flatMap(({ does }) => does),
    )
    const used = new Set(named.map((name) => (name.startsWith('enter ') ? 'enterPhase' : name)))
    expect([...used].sort()).toEqual([...ACTIONS].sort())
    const provided = Object.keys(liveConnectionMachine.implementations.actions)
    expect(provided.filter((name) => name !== 'keepReason').sort()).toEqual([...ACTIONS].sort())
  })

  it.each(ACTIONS)('%s throws when it is not provided', (name) => {
    const implementation = connectionMachine.implementations.actions[name as 'cleanUp'] as () => void
    expect(implementation).toThrow('An action of the connection machine was not provided.')
  })

  it('stop an actor of the machine as it is, at its first one', () => {
    const actor = createActor(connectionMachine, { input: NO_EFFECTS })
    const errors: unknown[] = []
    actor.subscribe({ error: (error) => errors.push(error) })
    actor.start()
    expect(errors).toEqual([
      expect.objectContaining({ message: expect.stringContaining('was not provided') }),
    ])
    expect(actor.getSnapshot().status).toBe('error')
  })

  it('carry out the effects of the connection, in order, with the reason', () => {
    const { effects, calls } = recorder()
    const actor = createActor(liveConnectionMachine, { input: effects })
    actor.start()
    for (const name of [
      'opened',
      'blocked',
      'unblocked',
      'blocked',
      'closeRequested',
      'drainTimedOut',
    ] as const) {
      actor.send(EVENTS[name])
    }
    expect(calls).toEqual([
      ['enterPhase', 'opening'],
      ['enterPhase', 'flowing'],
      ['tellBlocked'],
      ['enterPhase', 'blocked'],
      ['tellUnblocked'],
      ['enterPhase', 'flowing'],
      ['tellBlocked'],
      ['enterPhase', 'blocked'],
      ['enterPhase', 'draining'],
      ['closeGate', REASON],
      ['startDraining'],
      ['resetTransport', REASON],
      ['enterPhase', 'closed'],
      ['closeGate', REASON],
      ['cleanUp', REASON],
    ])
  })

  it.each(ACTIONS)('that throw are reported and stop nothing: %s', (name) => {
    const { effects, calls, reports } = recorder(name)
    const actor = createActor(liveConnectionMachine, { input: effects })
    actor.start()
    for (const event of ['opened', 'blocked', 'unblocked', 'closeRequested', 'evicted'] as const) {
      actor.send(EVENTS[event])
    }
    expect(actor.getSnapshot().status).toBe('done')
    expect(calls.at(-1)).toEqual(['cleanUp', REASON])
    expect(reports).toHaveLength(calls.filter(([called]) => called === name).length)
    expect(reports.every(({ error }) => error === name)).toBe(true)
    const phases = ['opening', 'flowing', 'blocked', 'flowing', 'draining', 'closed']
    expect(reports.map(({ during }) => during)).toEqual(
      name === 'enterPhase' ? phases : reports.map(() => name.replace('tellB', 'b').replace('tellU', 'u')),
    )
  })
})

/** Effects that note each call, one of which throws its own name. */
function recorder(throwing?: string) {
  const calls: unknown[][] = []
  const reports: { error: unknown; during: string }[] = []
  const effects = Object.fromEntries(
    ACTIONS.map((name) => [
      name,
      (...args: unknown[]) => {
        calls.push([name, ...args])
        if (name === throwing) throw name
      },
    ]),
  ) as unknown as Effects & Reporting
  effects.report = (error, during) => void reports.push({ error, during })
  return { effects, calls, reports }
}
