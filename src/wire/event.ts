/** Event names and the type of their data. `createSSEHandler<{ tick: number }>()` checks both. */
export type EventMap = Record<string, unknown>

/** An event's fields besides its name and data. */
export interface EventFields {
  /**
   * The client's new position, which it sends back as Last-Event-ID. Up to 1,024 bytes, no CR, LF or NUL;
   * `''` clears the client's position. With a log the log gives the id, and passing one is an error.
   */
  id?: string | undefined
  /** Milliseconds the client waits before it reconnects, from now on. A whole number of 0 or more. */
  retry?: number | undefined
  /**
   * What readers of a channel select by, besides the name; it is not sent. A string that is not empty. Only for events
   * of a channel: with another it is an error.
   */
  topic?: string | undefined
}

/** One event of an {@link EventMap}, before it is encoded. */
export type EventInput<Events extends object = EventMap> = string extends keyof Events
  ? EventFields & {
      /** The name listeners subscribe to. No CR, LF or NUL. Default: none, which clients read as `message`. */
      event?: string | undefined
      /** A string is sent as it is, line by line; anything else as JSON; undefined as an empty string. */
      data?: unknown
    }
  : {
      [Name in keyof Events & string]: EventFields & { event: Name } & (undefined extends Events[Name]
          ? { data?: Events[Name] }
          : { data: Events[Name] })
    }[keyof Events & string]
