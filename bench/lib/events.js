export const EVENT_NAME = 'tick'

export function frameOf(data) {
  return `event: ${EVENT_NAME}\ndata: ${JSON.stringify(data)}\n\n`
}

/** An event by which a reader can come back. */
export function frameWithId(data) {
  return `id: ${data.seq + 1}\n${frameOf(data)}`
}

/** Text that makes an event so many bytes long, as sluice encodes it, at sequence numbers of six digits. */
export function textFor(eventBytes) {
  return 'x'.repeat(eventBytes - frameOf({ seq: 100_000, text: '' }).length)
}

export const SMALL_TEXT = textFor(150)

/** Text that makes an event with an id so many bytes long. */
export function sharedText(eventBytes = 150) {
  return 'x'.repeat(eventBytes - frameWithId({ seq: 100_000, text: '' }).length)
}

/** Makes an event with an id and a time of eleven digits 150 bytes long. */
export const TIMED_TEXT = 'x'.repeat(150 - frameWithId({ seq: 100_000, at: 1e10, text: '' }).length)

/** Microseconds of a clock that all processes of this machine share. */
export function nowMicros() {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1e6 + Math.round(nanoseconds / 1000)
}
