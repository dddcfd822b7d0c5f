import { SSEError, shown } from '../errors.js'
import type { EventInput } from './event.js'

/**
 * A longer id would come back in a request header; Node refuses all headers above 16 KiB with 431, and a
 * client that cannot reconnect any more has no way to learn why.
 */
export const MAX_ID_BYTES = 1024

const LINE_BREAK = /\r\n|\r|\n/
const ANY_LINE_BREAK = /\r\n|\r|\n/g
const FORBIDDEN_IN_FIELD = /[\r\n\0]/

/**
 * Encodes one event as SSE text. The only encoder in the tree.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 *
 * Every block has a data field: browsers drop a block without one, and the npm `eventsource` client (4.x)
 * then loses its id too.
 *
 * @throws SSEError ERR_SSE_INVALID_EVENT when a field cannot be written or the data cannot be serialised.
 */
export function encodeEvent(input: EventInput): string {
  if (input === null || typeof input !== 'object') {
    throw invalid(`An event is ${shown(input)}`, 'expected an object such as { event, data }')
  }
  const { event, data, id, retry } = input
  const lead = event === undefined ? 'data: ' : leadOf(event)
  const text = textOf(data, event)
  if (id === undefined && retry === undefined) return `${lead}${text}\n\n`
  return `${id === undefined ? '' : idField(id)}${retry === undefined ? '' : retryField(retry)}${lead}${text}\n\n`
}

/** Encodes a comment block; each line of the text becomes a comment line, which clients ignore. */
export function encodeComment(text: string): string {
  if (typeof text !== 'string') throw invalid(`A comment is ${shown(text)}`, 'expected a string')
  return LINE_BREAK.test(text) ? `: ${text.replace(ANY_LINE_BREAK, '\n: ')}\n\n` : `: ${text}\n\n`
}

/**
 * Encodes a block that sets the client's reconnection delay, and its position when there is one, and that no
 * listener sees. Browsers take an id without data; the npm `eventsource` client (4.x) does not.
 */
export function encodeSettings(retryMs: number, id?: string): string {
  return `${retryField(retryMs)}${id === undefined ? '' : idField(id)}\n`
}

/** Puts an id in front of a block that has none. The id must be one that {@link encodeEvent} would take. */
export function withId(id: string, block: string): string {
  return `id: ${id}\n${block}`
}

/** Streams repeat a few names: the last one checked need not be checked again. */
let lastEvent: string | undefined
let lastLead = ''

/** What stands before the text of the data. */
function leadOf(event: string): string {
  if (event === lastEvent) return lastLead
  if (typeof event !== 'string' || event === '' || FORBIDDEN_IN_FIELD.test(event)) {
    throw invalid(
      `The event name ${shown(event)} cannot be sent`,
      'expected a string that is not empty and has no CR, LF or NUL',
    )
  }
  lastEvent = event
  lastLead = `event: ${event}\ndata: `
  return lastLead
}

function idField(id: string): string {
  const fits =
    typeof id === 'string' && (id.length < MAX_ID_BYTES / 3 || Buffer.byteLength(id) <= MAX_ID_BYTES)
  if (fits && !FORBIDDEN_IN_FIELD.test(id)) return `id: ${id}\n`
  throw invalid(
    `The id ${shown(id)} cannot be sent`,
    `expected a string of up to ${MAX_ID_BYTES} bytes without CR, LF or NUL`,
  )
}

function retryField(retryMs: number): string {
  if (Number.isSafeInteger(retryMs) && retryMs >= 0) return `retry: ${retryMs}\n`
  throw invalid(`A retry of ${shown(retryMs)} cannot be sent`, 'expected whole milliseconds, 0 or more')
}

function textOf(data: unknown, event: string | undefined): string {
  if (typeof data === 'string') {
    return LINE_BREAK.test(data) ? data.replace(ANY_LINE_BREAK, '\ndata: ') : data
  }
  if (data === undefined) return ''
  let json: string | undefined
  let cause: unknown
  try {
    json = JSON.stringify(data)
  } catch (error) {
    cause = error
  }
  // JSON text has no raw CR or LF (RFC 8259, section 7), so it needs no scan.
  if (json !== undefined) return json
  const why = cause instanceof Error ? `: ${String(cause.message).split('\n', 1)[0]}` : ''
  throw invalid(
    `The data of event ${shown(event ?? 'message')} cannot be serialised${why}`,
    'expected a string or a value that JSON.stringify takes',
    cause,
  )
}

function invalid(what: string, remedy: string, cause?: unknown): SSEError {
  return new SSEError('ERR_SSE_INVALID_EVENT', `${what}; ${remedy}.`, cause === undefined ? {} : { cause })
}
