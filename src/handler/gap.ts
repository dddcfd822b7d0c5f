import type { LogPosition } from '../buffer/event-log.js'

/** A range of events that a client asked for and cannot get. */
export interface Gap {
  /** The position asked for, cut to 128 characters. */
  asked: string
  /** The oldest id held; null when the log is empty. */
  oldest: string | null
  /** `unknown`: no id of this log. `other-epoch`: another history. `evicted`: too old. `future`: not given out yet. */
  cause: (LogPosition & { known: false })['cause']
  /** What follows. `snapshot`: the events of the hook `onGap`, then what comes. */
  continues: 'oldest' | 'newest' | 'close' | 'snapshot'
}
