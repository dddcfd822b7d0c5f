import { SSEError, shown } from '../errors.js'
import type { EventInput } from '../wire/event.js'

/** A block, if it is no larger than an event may be. */
export function checkedSize(block: string, maxEventBytes: number): string {
  // A UTF-16 unit is at most three bytes of UTF-8: most blocks need no counting.
  if (block.length * 3 > maxEventBytes && Buffer.byteLength(block) > maxEventBytes) {
    throw new SSEError(
      'ERR_SSE_EVENT_TOO_LARGE',
      `The event is ${Buffer.byteLength(block)} bytes encoded, more than the ${maxEventBytes} of maxEventBytes; send less, split it, or raise the limit.`,
    )
  }
  return block
}

/** Refuses an id of the program's own where a log gives the ids. */
export function assertNoId(event: EventInput | false | undefined): void {
  if (event === undefined || event === false || event.id === undefined) return
  throw new SSEError(
    'ERR_SSE_INVALID_EVENT',
    'The event has an id, but the ids are given by the log of the connection or of the channel; leave the id out.',
  )
}

export function checkedTopic(topic: unknown): string | undefined {
  if (topic === undefined || (typeof topic === 'string' && topic !== '')) return topic
  throw new SSEError(
    'ERR_SSE_INVALID_EVENT',
    `The topic is ${shown(topic)}; expected a string that is not empty.`,
  )
}

export function assertNoTopic(event: EventInput): void {
  if (event.topic === undefined) return
  throw new SSEError(
    'ERR_SSE_INVALID_EVENT',
    'The event has a topic, but it goes to one connection, which selects nothing; leave the topic out, or publish to a channel.',
  )
}

export function logFailed(cause: unknown): SSEError {
  return new SSEError(
    'ERR_SSE_LOG_FAILED',
    'The event log could not keep the event, so it was not sent; see the cause, and send again when the log works.',
    { cause },
  )
}
