import { open } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'

const READ_BYTES = 64 * 1024
const LOOK_EVERY_MS = 50
/** What is behind is left out: an event may not be of any length. */
const MAX_LINE_CHARACTERS = 10_000

/** The complete lines of a file that only grows: those it has now, and then those that come until the signal aborts. */
export function linesOf(path, signal) {
  const buffer = Buffer.alloc(READ_BYTES)
  let file = null
  let unfinished = Buffer.alloc(0)

  /** The lines completed by the next piece of the file; null at its end. */
  async function readPiece() {
    file ??= await open(path)
    const { bytesRead } = await file.read(buffer)
    if (bytesRead === 0) return null
    const bytes = Buffer.concat([unfinished, buffer.subarray(0, bytesRead)])
    const end = bytes.lastIndexOf('\n') + 1
    unfinished = bytes.subarray(end)
    if (end === 0) return []
    const lines = bytes.toString('utf8', 0, end - 1).split('\n')
    return lines.map((line) => line.replace(/\r$/, '').slice(0, MAX_LINE_CHARACTERS))
  }

  return {
    async existing() {
      const lines = []
      for (let piece = await readPiece(); piece !== null; piece = await readPiece()) lines.push(...piece)
      return lines
    },
    async *following() {
      while (!signal.aborted) {
        const piece = await readPiece()
        if (piece === null) await wait(LOOK_EVERY_MS)
        else yield* piece
      }
      await file?.close()
    },
  }
}
