import type { CloseReason } from '../close-reason.js'
import { connectionMachine, type Effects } from './machine.js'

/** What an effect does with an error: an action that throws would stop the actor for good. */
export interface Reporting {
  report(error: unknown, during: string): void
}

type Act = (effects: Effects & Reporting, reason: CloseReason) => void

function effect(during: string, act: Act) {
  return ({ context }: { context: { effects: Effects; reason: CloseReason | null } }): void => {
    const effects = context.effects as Effects & Reporting
    try {
      act(effects, context.reason ?? 'aborted')
    } catch (error) {
      effects.report(error, during)
    }
  }
}

/** The machine of every connection, made once; each connection is its own root actor. */
export const liveConnectionMachine = connectionMachine.provide({
  actions: {
    enterPhase: ({ context }, { phase }) => effect(phase, (to) => to.enterPhase(phase))({ context }),
    tellBlocked: effect('blocked', (to) => to.tellBlocked()),
    tellUnblocked: effect('unblocked', (to) => to.tellUnblocked()),
    closeGate: effect('closeGate', (to, reason) => to.closeGate(reason)),
    startDraining: effect('startDraining', (to) => to.startDraining()),
    resetTransport: effect('resetTransport', (to, reason) => to.resetTransport(reason)),
    cleanUp: effect('cleanUp', (to, reason) => to.cleanUp(reason)),
  },
})
