import type { Frame } from './frame.js'

/** The data of an event that was encoded here, as a client gets it. */
export function decodeData(frame: Frame): string {
  const text = typeof frame === 'string' ? frame : Buffer.from(frame).toString()
  const at = text.startsWith('data: ') ? 0 : text.indexOf('\ndata: ') + 1
  return text.slice(at + 'data: '.length, -2).replaceAll('\ndata: ', '\n')
}
