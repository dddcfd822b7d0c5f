import { watch } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'

/** The most bytes read at a time, and so the longest line; a longer one comes in pieces. */
const READ_BYTES = 64 * 1024
/** How much of what is in the file already a new reader gets. */
const TAIL_BYTES = 8 * 1024
/** How much a reader that was away catches up on; beyond that it gets the tail. */
const MAX_CATCH_UP_BYTES = 1024 * 1024
/** Some file systems, network ones among them, tell nothing of changes. */
const POLL_MS = 1000

const LINE_FEED = 0x0a

/**
 * The lines of a file, those to come included, like `tail -F`: a file that is cut short or replaced is read from
 * its start, one that does not exist is waited for. Ends when the signal aborts.
 *
 * Each line comes with the position behind it: pass that as `from` to go on there.
 */
export async function* follow(path, from, signal) {
  const changes = watchForChanges(path, signal)
  /** The file as it is being read. `offset` is where `unread`, the bytes of no complete line yet, begins. */
  let file = null
  try {
    while (!signal.aborted) {
      file ??= await openFile(path, from)
      if (file === null) {
        await changes.next()
        continue
      }
      if (file.skippedBytes > 0) {
        yield { text: `… ${file.skippedBytes} bytes left out …`, position: positionOf(file) }
        file.skippedBytes = 0
      }
      yield* takeLines(file)
      // Before the reading: what is written to a file before it is replaced is not missed then.
      const now = await statOf(path)
      if (await readMore(file)) continue
      if (now !== null && now.ino !== file.inode) {
        if (file.unread.length > 0) yield takeLine(file, file.unread.length, 0)
        await file.handle.close()
        file = null
        from = { inode: now.ino, offset: 0 }
      } else if (now !== null && now.size < file.offset + file.unread.length) {
        file.offset = 0
        file.unread = Buffer.alloc(0)
      } else {
        await changes.next()
      }
    }
  } finally {
    changes.stop()
    await file?.handle.close()
  }
}

async function openFile(path, from) {
  const handle = await orNullIfMissing(open(path))
  if (handle === null) return null
  const { ino, size } = await handle.stat()
  const file = { handle, inode: ino, offset: 0, unread: Buffer.alloc(0), skippedBytes: 0 }
  if (from !== null) file.offset = from.inode === ino && from.offset <= size ? from.offset : 0
  const mostBytes = from === null ? TAIL_BYTES : MAX_CATCH_UP_BYTES
  if (size - file.offset <= mostBytes) return file
  const wasAt = file.offset
  file.offset = size - TAIL_BYTES
  // Not in the middle of a line.
  await readMore(file)
  dropBytes(file, file.unread.indexOf(LINE_FEED) + 1)
  if (from !== null) file.skippedBytes = file.offset - wasAt
  return file
}

async function readMore(file) {
  const length = READ_BYTES - file.unread.length
  const { bytesRead, buffer } = await file.handle.read(
    Buffer.allocUnsafe(length),
    0,
    length,
    file.offset + file.unread.length,
  )
  file.unread = Buffer.concat([file.unread, buffer.subarray(0, bytesRead)])
  return bytesRead > 0
}

function* takeLines(file) {
  for (;;) {
    const end = file.unread.indexOf(LINE_FEED)
    if (end === -1) break
    yield takeLine(file, end, 1)
  }
  if (file.unread.length === READ_BYTES) yield takeLine(file, READ_BYTES, 0)
}

function takeLine(file, length, breakLength) {
  const text = file.unread.toString('utf8', 0, length).replace(/\r$/, '')
  dropBytes(file, length + breakLength)
  return { text, position: positionOf(file) }
}

function dropBytes(file, length) {
  file.unread = file.unread.subarray(length)
  file.offset += length
}

function positionOf(file) {
  return { inode: file.inode, offset: file.offset }
}

function statOf(path) {
  return orNullIfMissing(stat(path))
}

async function orNullIfMissing(promise) {
  try {
    return await promise
  } catch (error) {
    if (error.code === 'ENOENT') return null
    throw error
  }
}

/** `next()` resolves when the file may have changed since the last time, at the latest after POLL_MS. */
function watchForChanges(path, signal) {
  let hasChanged = false
  let wake = null
  const tell = () => {
    hasChanged = true
    wake?.()
  }
  const poll = setInterval(tell, POLL_MS)
  const watcher = watchFolder(path, tell)
  signal.addEventListener('abort', tell)
  return {
    async next() {
      if (!hasChanged) {
        await new Promise((resolve) => {
          wake = resolve
        })
      }
      hasChanged = false
      wake = null
    },
    stop() {
      clearInterval(poll)
      watcher?.close()
      signal.removeEventListener('abort', tell)
    },
  }
}

/** Watches the folder: a file that is replaced is another file, of which its own watcher would see nothing. */
function watchFolder(path, tell) {
  try {
    const watcher = watch(dirname(path), (_, name) => {
      if (name === null || name === basename(path)) tell()
    })
    // The poll goes on without it.
    watcher.on('error', () => watcher.close())
    return watcher
  } catch (error) {
    console.error(`No word of changes of ${path}, so it is looked at every ${POLL_MS} ms: ${error.message}`)
    return null
  }
}
