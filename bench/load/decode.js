import { EVENT_NAME } from '../lib/events.js'

/** The body of an HTTP/1.1 response, without its chunk framing. */
export function bodyOf(response) {
  const headEnd = response.indexOf('\r\n\r\n')
  const head = response.toString('latin1', 0, headEnd)
  const body = response.subarray(headEnd + 4)
  return /^transfer-encoding: *chunked/im.test(head) ? withoutChunks(body) : body
}

function withoutChunks(body) {
  const parts = []
  for (let at = 0; ; ) {
    const sizeEnd = body.indexOf('\r\n', at)
    const size = Number.parseInt(body.toString('latin1', at, sizeEnd), 16)
    if (size === 0) return Buffer.concat(parts)
    parts.push(body.subarray(sizeEnd + 2, sizeEnd + 2 + size))
    at = sizeEnd + 2 + size + 2
  }
}

/**
 * Checks a delivery: each event of the benchmark once, in order, whole. Other events, comments and settings are
 * passed over. Returns what is wrong, or null.
 */
export function wrongWith(body, { events, text }) {
  let next = 0
  for (const block of body.toString().split('\n\n')) {
    const fields = fieldsOf(block)
    if (fields.get('event') !== EVENT_NAME) continue
    const data = JSON.parse(fields.get('data'))
    if (data.seq !== next) return `event ${next} was expected, event ${data.seq} came`
    if (data.text !== text) return `the text of event ${next} was changed`
    next += 1
  }
  return next === events ? null : `${next} of ${events} events came`
}

function fieldsOf(block) {
  const fields = new Map()
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':')
    fields.set(line.slice(0, colon), line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1)))
  }
  return fields
}
