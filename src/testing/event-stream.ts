/** An event as a client got it. */
export interface ReceivedEvent {
  /** Undefined when it has no name of its own; `EventSource` calls that one `message`. */
  event: string | undefined
  data: string
  /** The id in this event's own block. */
  id: string | undefined
}

/**
 * Reads an event stream piece by piece, as browsers do.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
export class EventStreamReader {
  readonly events: ReceivedEvent[] = []
  readonly comments: string[] = []
  /** What a browser would send as Last-Event-ID. */
  lastEventId: string
  /** The last delay that the stream told, in milliseconds. Null when it told none. */
  retryMs: number | null = null
  #rest = ''
  /** Whether a CR has come that may be half of a line break. */
  #isCut = false
  #isFirst = true
  #event = ''
  #data: string[] = []
  #id: string | undefined

  /** A client that reconnects begins with the id it had. */
  constructor(lastEventId = '') {
    this.lastEventId = lastEventId
  }

  feed(text: string): void {
    if (text === '') return
    const piece = this.#isFirst ? text.replace(/^\uFEFF/, '') : text
    this.#isFirst = false
    // A long line that comes in many pieces is not looked at again for each.
    if (!this.#isCut && !/[\r\n]/.test(piece)) {
      this.#rest += piece
      return
    }
    const all = `${this.#rest}${this.#isCut ? '\r' : ''}${piece}`
    this.#isCut = all.endsWith('\r')
    const lines = (this.#isCut ? all.slice(0, -1) : all).split(/\r\n|\r|\n/)
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#readLine(line)
  }

  #readLine(line: string): void {
    if (line === '') {
      this.#dispatch()
      return
    }
    const colon = line.indexOf(':')
    const name = colon === -1 ? line : line.slice(0, colon)
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (name === '') this.comments.push(value)
    else this.#readField(name, value)
  }

  #readField(name: string, value: string): void {
    if (name === 'event') this.#event = value
    else if (name === 'data') this.#data.push(value)
    else if (name === 'id' && !value.includes('\0')) this.#id = value
    else if (name === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value)
  }

  #dispatch(): void {
    const id = this.#id
    if (id !== undefined) this.lastEventId = id
    if (this.#data.length > 0) {
      this.events.push({
        event: this.#event === '' ? undefined : this.#event,
        data: this.#data.join('\n'),
        id,
      })
    }
    this.#event = ''
    this.#data = []
    this.#id = undefined
  }
}
