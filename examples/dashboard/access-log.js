import { createWriteStream, truncate } from 'node:fs'

const MAX_FILE_BYTES = 1024 * 1024

/** Appends lines to a file, which begins anew when it is large. Lines that a slow disk has no room for are left out. */
export function createAccessLog(path) {
  const stream = createWriteStream(path, { flags: 'a' })
  let fileBytes = 0
  stream.on('error', (error) => console.error('The access log cannot be written:', error.message))
  return {
    write(text) {
      if (!stream.writable || stream.writableNeedDrain) return
      const line = `${new Date().toISOString()} ${text}\n`
      fileBytes += Buffer.byteLength(line)
      if (fileBytes > MAX_FILE_BYTES) {
        fileBytes = 0
        truncate(path, (error) => error && console.error('The access log cannot be emptied:', error.message))
      }
      stream.write(line)
    },
    close() {
      stream.end()
    },
  }
}

/** For when the page follows another file. */
export const noAccessLog = { write() {}, close() {} }
