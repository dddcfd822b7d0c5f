import { randomUUID } from 'node:crypto'
import { createSSEHandler } from 'sluice'

/** The most streams open at a time. */
const MAX_STREAMS = 100
const TELL_EVERY_MS = 1000

export function isSessionId(id) {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
}

/** The open streams, one for each session. All follow the feed; what is said of a connection itself only its page gets. */
export function createStreams(feed, accessLog) {
  /** By session. */
  const streams = new Map()
  let isClosing = false

  const timer = setInterval(() => {
    for (const sse of streams.values()) tellState(sse)
  }, TELL_EVERY_MS)

  /** A private event: it goes to this connection alone, has no id and is not replayed. */
  function tellState(sse) {
    sse.trySend({ event: 'connection', data: { ...sse.stats(), readers: feed.readers } })
  }

  return {
    /** False when there are too many streams, or the server stops: nothing has been answered then. */
    open(req, res, session = randomUUID()) {
      const before = streams.get(session)
      if (isClosing || (before === undefined && streams.size >= MAX_STREAMS)) return false
      const sse = createSSEHandler(req, res, { sessionId: session, retryMs: 1000, drainMs: 2000 })
      // A HEAD request, for one.
      if (sse.phase === 'closed') return true
      feed.follow(sse)
      // A browser may be back before the server has noticed that it was gone.
      before?.abort('replaced')
      streams.set(session, sse)
      tellState(sse)
      const name = `stream ${nameOf(session)}`
      accessLog.write(`${name} opened${sse.lastEventId === null ? '' : `, resumes after ${sse.lastEventId}`}`)
      void sse.closed.then((info) => {
        if (streams.get(session) === sse) streams.delete(session)
        const seconds = (info.durationMs / 1000).toFixed(1)
        accessLog.write(`${name} closed (${info.reason}) after ${seconds} s, ${info.eventsSent} events`)
      })
      return true
    },
    /**
     * Cuts the session's connection as a failing network would, at the worst moment: an event has been published and
     * not a byte of it is written. The browser comes back by itself and gets it then; the others notice nothing.
     */
    cut(session) {
      const sse = streams.get(session)
      if (sse === undefined) return false
      feed.publishCut(nameOf(session))
      sse.abort()
      return true
    },
    /** Tells every page something in words. */
    notify(text) {
      for (const sse of streams.values()) sse.trySend({ event: 'notice', data: text })
    },
    async closeAll(reason) {
      isClosing = true
      clearInterval(timer)
      await Promise.all([...streams.values()].map((sse) => sse.close({ reason })))
    },
  }
}

/** Enough to tell sessions apart; the whole id is their own. */
function nameOf(session) {
  return session.slice(0, 8)
}
