import { createSluice } from 'sluice'

/** The most streams open at a time. */
const MAX_STREAMS = 100
const TELL_EVERY_MS = 1000

export function isSessionId(id) {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
}

/** The open streams, one for each session. All follow the feed; what is said of a connection itself only its page gets. */
export function createStreams(feed, accessLog) {
  const sluice = createSluice({
    limits: { maxConnections: MAX_STREAMS },
    retryMs: 1000,
    drainMs: 2000,
    // A browser may be back before the server has noticed that it was gone.
    onOpenSession: 'replace',
  })
  const streams = new Set()

  const timer = setInterval(() => {
    for (const sse of streams) tellState(sse)
  }, TELL_EVERY_MS)

  /** A private event: it goes to this connection alone, has no id and is not replayed. */
  function tellState(sse) {
    sse.trySend({ event: 'connection', data: { ...sse.stats(), readers: feed.readers } })
  }

  return {
    open(req, res, session) {
      const sse = sluice.open(req, res, { sessionId: session })
      // Refused, as one stream too many is: that is answered.
      if (sse === null) return
      feed.follow(sse)
      streams.add(sse)
      tellState(sse)
      const name = `stream ${nameOf(sse.sessionId)}`
      accessLog.write(`${name} opened${sse.lastEventId === null ? '' : `, resumes after ${sse.lastEventId}`}`)
      sse.on('closed', (info) => {
        streams.delete(sse)
        const seconds = (info.durationMs / 1000).toFixed(1)
        accessLog.write(`${name} closed (${info.reason}) after ${seconds} s, ${info.eventsSent} events`)
      })
    },
    /**
     * Cuts the session's connection as a failing network would, at the worst moment: an event has been published and
     * not a byte of it is written. The browser comes back by itself and gets it then; the others notice nothing.
     */
    cut(session) {
      const sse = [...streams].find(({ sessionId }) => sessionId === session)
      if (sse === undefined) return false
      feed.publishCut(nameOf(session))
      sse.abort()
      return true
    },
    /** Tells every page something in words. */
    notify(text) {
      for (const sse of streams) sse.trySend({ event: 'notice', data: text })
    },
    async shutDown() {
      clearInterval(timer)
      await sluice.shutdown({ graceMs: 5000, reconnectWithinMs: 2000 })
    },
  }
}

/** Enough to tell sessions apart; the whole id is their own. */
function nameOf(session) {
  return session.slice(0, 8)
}
