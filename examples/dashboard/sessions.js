import { randomUUID } from 'node:crypto'
import { createMemoryLog } from 'sluice'

/** Sessions kept, and so the most streams open at a time. Their logs hold 50 MiB at the very most. */
const MAX_SESSIONS = 100
const LOG_LIMITS = { maxEvents: 1000, maxBytes: 512 * 1024 }

export function isSessionId(id) {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
}

/**
 * The sessions of this server. A session outlives its connections: it holds what a client that comes back needs.
 * When there are too many, the one that nobody is connected to for the longest time is forgotten; a client that
 * comes back to it all the same is told by a gap event.
 */
export function createSessions() {
  /** By id, the longest unused first. */
  const sessions = new Map()
  let isClosing = false

  function makeRoom() {
    if (sessions.size < MAX_SESSIONS) return true
    for (const session of sessions.values()) {
      if (session.sse === null) return sessions.delete(session.id)
    }
    return false
  }

  return {
    /** The session of this id, or a new one; null when there is no room for it, or the server stops. */
    enter(id) {
      if (isClosing) return null
      const known = sessions.get(id)
      if (known === undefined && !makeRoom()) return null
      const session = known ?? createSession(id ?? randomUUID())
      sessions.delete(session.id)
      sessions.set(session.id, session)
      return session
    },
    get(id) {
      return sessions.get(id) ?? null
    },
    forget(session) {
      sessions.delete(session.id)
    },
    async closeAll(reason) {
      isClosing = true
      await Promise.all([...sessions.values()].map((session) => session.sse?.close({ reason })))
    },
  }
}

function createSession(id) {
  return {
    id,
    log: createMemoryLog(LOG_LIMITS),
    /** Number of the last event that was accepted. */
    lastNumber: 0,
    /** How far the log file has been read; null before the first line. */
    filePosition: null,
    /** The open connection, if there is one. */
    sse: null,
  }
}
