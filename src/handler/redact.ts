import { SSEError, shown, textOf } from '../errors.js'
import type { EventInput } from '../wire/event.js'

/** Gets an event of the program's and returns what is sent in its place: another one, or the same. */
export type Redact = (event: EventInput) => EventInput

/** What the hook makes of an event; throws ERR_SSE_INVALID_EVENT when it fails, so that nothing leaves unredacted. */
export function redacted(event: EventInput, redact: Redact): EventInput {
  try {
    return redact(event)
  } catch (cause) {
    throw new SSEError(
      'ERR_SSE_INVALID_EVENT',
      `The redact hook threw, so the event was not sent: ${textOf(cause)}; see the cause.`,
      { cause },
    )
  }
}

export function checkedRedact(redact: Redact | undefined): Redact | null {
  if (redact === undefined || typeof redact === 'function') return redact ?? null
  throw new SSEError(
    'ERR_SSE_INVALID_OPTION',
    `Option redact is ${shown(redact)}; expected a function from an event to the event that is sent.`,
  )
}
