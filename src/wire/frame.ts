/**
 * One encoded block. A short one stays a string, which is the cheapest to make and to join; a long one is bytes
 * outside the heap, where a full queue neither fills the young generation nor leaves garbage in the old.
 */
export type Frame = string | Uint8Array

const LONG = 2048

export function toFrame(block: string): Frame {
  return block.length < LONG ? block : Buffer.from(block)
}

/** Writes text as UTF-8 at a place that has room for it. Returns how many bytes. */
export function writeText(target: Buffer, text: string, at: number): number {
  return target.write(text, at)
}

/** In bytes. */
export function frameSize(frame: Frame): number {
  return typeof frame === 'string' ? Buffer.byteLength(frame) : frame.length
}
