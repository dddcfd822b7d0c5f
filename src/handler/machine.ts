import { assign, setup } from 'xstate'
import type { CloseReason } from '../close-reason.js'

/**
 * Where a connection is in its life.
 * - `opening`: the request is being answered.
 * - `replaying`: the client gets what it missed. With a log of its own, its producers get permits when it has nearly
 *   caught up.
 * - `flowing`: live, and the client takes what it is sent.
 * - `blocked`: live, and the client has not taken the last write yet.
 * - `draining`: closing; what was accepted is written, for up to `drainMs`.
 * - `closed`: for good.
 */
export type Phase = 'opening' | 'replaying' | 'flowing' | 'blocked' | 'draining' | 'closed'

/** What happened to a connection. Events of the stream never pass through here. */
export type LifecycleEvent =
  | { type: 'opened' }
  | { type: 'resumed' }
  | { type: 'caughtUp' }
  | { type: 'blocked' }
  | { type: 'unblocked' }
  | { type: 'closeRequested'; reason: CloseReason }
  | { type: 'drained' }
  | { type: 'drainTimedOut' }
  /** The client or the network ended the connection. */
  | { type: 'lost'; reason: CloseReason }
  /** The connection is to end now. */
  | { type: 'evicted'; reason: CloseReason }
  /** The request got another answer than a stream. */
  | { type: 'refused'; reason: CloseReason }

/** What the machine does to a connection; see `effects.ts`. */
export interface Effects {
  enterPhase(phase: Phase): void
  tellBlocked(): void
  tellUnblocked(): void
  closeGate(reason: CloseReason): void
  startDraining(): void
  resetTransport(reason: CloseReason): void
  cleanUp(reason: CloseReason): void
}

export interface Context {
  effects: Effects
  /** Null until the connection begins to close; then the first cause. */
  reason: CloseReason | null
}

function unprovided(): never {
  throw new Error('An action of the connection machine was not provided.')
}

const end = {
  lost: { target: '#connection.closed', actions: 'keepReason' },
  evicted: { target: '#connection.closed', actions: ['keepReason', 'resetTransport'] },
} as const

const close = {
  ...end,
  closeRequested: { target: '#connection.draining', actions: 'keepReason' },
  refused: { target: '#connection.closed', actions: 'keepReason' },
} as const

export const connectionMachine = setup({
  types: {
    context: {} as Context,
    events: {} as LifecycleEvent,
    input: {} as Effects,
  },
  actions: {
    keepReason: assign({
      reason: ({ context, event }) => context.reason ?? ('reason' in event ? event.reason : null),
    }),
    enterPhase: (_, _params: { phase: Phase }) => unprovided(),
    tellBlocked: unprovided,
    tellUnblocked: unprovided,
    closeGate: unprovided,
    startDraining: unprovided,
    resetTransport: unprovided,
    cleanUp: unprovided,
  },
}).createMachine({
  id: 'connection',
  context: ({ input }) => ({ effects: input, reason: null }),
  initial: 'opening',
  states: {
    opening: {
      entry: { type: 'enterPhase', params: { phase: 'opening' } },
      on: {
        ...close,
        opened: 'live',
        resumed: 'replaying',
      },
    },
    replaying: {
      entry: { type: 'enterPhase', params: { phase: 'replaying' } },
      on: { ...close, caughtUp: 'live' },
    },
    live: {
      initial: 'flowing',
      on: close,
      states: {
        flowing: {
          entry: { type: 'enterPhase', params: { phase: 'flowing' } },
          on: { resumed: '#connection.replaying', blocked: { target: 'blocked', actions: 'tellBlocked' } },
        },
        blocked: {
          entry: { type: 'enterPhase', params: { phase: 'blocked' } },
          on: { unblocked: { target: 'flowing', actions: 'tellUnblocked' } },
        },
      },
    },
    draining: {
      entry: [{ type: 'enterPhase', params: { phase: 'draining' } }, 'closeGate', 'startDraining'],
      on: {
        ...end,
        drained: 'closed',
        drainTimedOut: { target: 'closed', actions: 'resetTransport' },
      },
    },
    closed: {
      type: 'final',
      entry: [{ type: 'enterPhase', params: { phase: 'closed' } }, 'closeGate', 'cleanUp'],
    },
  },
})
