import { formatEventId } from '../buffer/event-id.js'
import type { EventLabel, EventLog } from '../buffer/event-log.js'
import { SSEError } from '../errors.js'
import { decodeData } from '../wire/decode.js'
import type { Frame } from '../wire/frame.js'
import { Patterns } from './patterns.js'

/** An event of a channel as a filter sees it. */
export interface ChannelEvent {
  /** Its id: its position in the channel. */
  readonly id: string
  /** Its name; `message` when it has none. */
  readonly event: string
  /** Its topic; undefined when it has none. */
  readonly topic: string | undefined
  /** Its data as a client gets it: text, JSON unless it was published as a string. Decoded when it is looked at. */
  readonly data: string
}

/** Which events of a channel a connection gets: those that pass each option given. Default: all. */
export interface SelectOptions {
  /**
   * Names to get, in which `*` stands for any characters: `order:*`. Several are alternatives. At most 100, each of 1 to
   * 256 characters. An event without a name is `message`.
   */
  events?: string | readonly string[] | undefined
  /** Topics to get, written like `events`. An event without a topic is not among them. */
  topics?: string | readonly string[] | undefined
  /**
   * Whether this connection may see a topic. Asked for each event that has one, each time, so that an answer that
   * changes counts from the next event on. Any answer but `true` withholds the event; so does one that throws.
   */
  authorize?: ((topic: string) => boolean) | undefined
  /** Whether this connection gets an event. Asked for each, replayed ones included. One that throws withholds it. */
  filter?: ((event: ChannelEvent) => boolean) | undefined
}

const UNLABELLED: EventLabel = { event: 'message', topic: undefined }

/** Decides which events of a log somebody gets. */
export class Selection {
  /** The same for selections that select the same; null when that cannot be known. */
  readonly key: string | null
  readonly #events: Patterns | null
  readonly #topics: Patterns | null
  readonly #authorize: SelectOptions['authorize']
  readonly #filter: SelectOptions['filter']
  readonly #onError: (error: unknown) => void

  /** @param onError Told what `authorize` or `filter` threw; must not throw. */
  constructor(options: SelectOptions, onError: (error: unknown) => void) {
    this.#events = options.events === undefined ? null : new Patterns('events', options.events)
    this.#topics = options.topics === undefined ? null : new Patterns('topics', options.topics)
    this.#authorize = options.authorize
    this.#filter = options.filter
    this.#onError = onError
    const isOwn = this.#authorize !== undefined || this.#filter !== undefined
    this.key = isOwn ? null : `${this.#events?.key ?? ''}|${this.#topics?.key ?? ''}`
  }

  selects(log: EventLog, sequence: number, frame: Frame): boolean {
    const { event, topic } = log.labelAt(sequence) ?? UNLABELLED
    if (this.#events?.matches(event) === false) return false
    if (this.#topics !== null && (topic === undefined || !this.#topics.matches(topic))) return false
    try {
      // Whatever is not true, such as a promise, is no permission.
      if (topic !== undefined && this.#authorize !== undefined && this.#authorize(topic) !== true)
        return false
      if (this.#filter === undefined) return true
      return checkedAnswer(this.#filter(new LazyEvent(log.epoch, sequence, event, topic, frame)))
    } catch (error) {
      this.#onError(error)
      return false
    }
  }
}

/** What a filter answers, which cannot be waited for. */
function checkedAnswer(answer: unknown): boolean {
  if (answer === null || typeof answer !== 'object' || !('then' in answer)) return Boolean(answer)
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    'The filter returned a promise, which nobody waits for; expected true or false.',
  )
}

class LazyEvent implements ChannelEvent {
  readonly #epoch: string
  readonly #sequence: number
  readonly #frame: Frame

  constructor(
    epoch: string,
    sequence: number,
    readonly event: string,
    readonly topic: string | undefined,
    frame: Frame,
  ) {
    this.#epoch = epoch
    this.#sequence = sequence
    this.#frame = frame
  }

  get id(): string {
    return formatEventId(this.#epoch, this.#sequence)
  }

  get data(): string {
    return decodeData(this.#frame)
  }
}
