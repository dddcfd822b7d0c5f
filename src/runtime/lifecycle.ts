import { channel } from 'node:diagnostics_channel'
import { textOf } from '../errors.js'

/** What a logger has to have; pino's and those like it fit. When it throws or rejects, the process is warned once. */
export interface Logger {
  /** What happens often, such as heartbeats. */
  debug(fields: object, message: string): void
  /** What opens and ends. */
  info(fields: object, message: string): void
  /** What somebody may want to look at, such as a connection that is reset. */
  warn(fields: object, message: string): void
  /** What failed in the program. */
  error(fields: object, message: string): void
}

/** The stages in the life of a connection, as they are logged, with level and message. */
const STAGES = {
  /** A request for a stream came in. */
  establishing: ['debug', 'sse stream is being established'],
  /** It got no stream. */
  refused: ['info', 'sse stream was refused'],
  /** The stream is open. */
  established: ['info', 'sse stream is established'],
  /** A heartbeat was written. */
  heartbeat: ['debug', 'sse heartbeat was written'],
  /** A heartbeat could not be written. */
  'heartbeat-missed': ['warn', 'sse heartbeat could not be written'],
  /** The client has not taken the last write. */
  blocked: ['debug', 'sse client is slow'],
  /** The client is told that it missed events which cannot be replayed. */
  gap: ['warn', 'sse client missed events'],
  /** The end has begun: the connection is lost, or is being closed. */
  closing: ['debug', 'sse stream is closing'],
  /** The connection is being reset. */
  forced: ['warn', 'sse connection is reset'],
  /** The connection is closed and cleaned up. */
  terminated: ['info', 'sse stream is terminated'],
} as const satisfies Record<string, readonly [keyof Logger, string]>

/** A stage in the life of a connection: the name of its log lines and of its diagnostics channel. */
export type LifecycleStage = keyof typeof STAGES

/** The `node:diagnostics_channel` channel of a stage. */
export function diagnosticsChannelName(stage: LifecycleStage): string {
  return `sluice:connection:${stage}`
}

const channels = Object.fromEntries(
  Object.keys(STAGES).map((stage) => [stage, channel(diagnosticsChannelName(stage as LifecycleStage))]),
) as Record<LifecycleStage, ReturnType<typeof channel>>

/** Tells logger and diagnostics channels what happens to connections. Costs next to nothing when nobody listens. */
export class Lifecycle {
  readonly #logger: Logger | null
  readonly #sluice: object
  /** Whether the logger has thrown since it last worked: it is told once, not for each line. */
  #isFailing = false

  /** `sluice`: whose life this is. Channels are of the process: what they are told says which Sluice it is from. */
  constructor(logger: Logger | null, sluice: object) {
    this.#logger = logger
    this.#sluice = sluice
  }

  /** Fields are made only when somebody listens. */
  tell(stage: LifecycleStage, fields: () => object): void {
    const { hasSubscribers } = channels[stage]
    if (this.#logger === null && !hasSubscribers) return
    const told = { stage, ...fields() }
    // What a subscriber throws, Node reports as uncaught: it is the subscriber's.
    if (hasSubscribers) channels[stage].publish({ ...told, sluice: this.#sluice })
    this.log(STAGES[stage][0], told, STAGES[stage][1])
  }

  log(level: keyof Logger, fields: object, message: string): void {
    const logger = this.#logger
    if (logger === null) return
    try {
      const result: unknown = logger[level](fields, message)
      if (result instanceof Promise) {
        result.then(this.#worked, (error) => this.#failed(error))
      } else this.#worked()
    } catch (error) {
      this.#failed(error)
    }
  }

  readonly #worked = (): void => {
    this.#isFailing = false
  }

  #failed(error: unknown): void {
    if (this.#isFailing) return
    this.#isFailing = true
    process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in the logger' })
  }
}
