export const EVENT_NAME = 'tick'

export function frameOf(data) {
  return `event: ${EVENT_NAME}\ndata: ${JSON.stringify(data)}\n\n`
}

/** Text that makes an event so many bytes long, as sluice encodes it, at sequence numbers of six digits. */
export function textFor(eventBytes) {
  return 'x'.repeat(eventBytes - frameOf({ seq: 100_000, text: '' }).length)
}

export const SMALL_TEXT = textFor(150)
