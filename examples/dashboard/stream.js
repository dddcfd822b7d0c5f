import { setTimeout as wait } from 'node:timers/promises'
import { createSSEHandler, SSEError } from 'sluice'
import { follow } from './follow.js'
import { measureMachine } from './machine.js'

const FIGURES_EVERY_MS = 1000
const MAX_LINE_CHARACTERS = 2000

/**
 * Opens the session's stream and starts its two producers, which end with the connection. What was accepted and
 * did not get to the client is in the session's log, and is the first thing the next connection sends.
 */
export function openStream(req, res, session, logPath, accessLog) {
  const sse = createSSEHandler(req, res, {
    sessionId: session.id,
    log: session.log,
    retryMs: 1000,
    drainMs: 2000,
  })
  // A HEAD request, for one.
  if (sse.phase === 'closed') return sse
  // A browser may be back before the server has noticed that it was gone.
  session.sse?.abort('replaced')
  session.sse = sse
  const name = `stream ${session.id.slice(0, 8)}`
  accessLog.write(`${name} opened${sse.lastEventId === null ? '' : `, resumes after ${sse.lastEventId}`}`)
  void sse.closed.then((info) => {
    if (session.sse === sse) session.sse = null
    const seconds = (info.durationMs / 1000).toFixed(1)
    accessLog.write(`${name} closed (${info.reason}) after ${seconds} s, ${info.eventsSent} events`)
  })
  run(sse, produceFigures(sse, session))
  run(sse, produceLines(sse, session, logPath))
  return sse
}

/**
 * Cuts the session's connection as a failing network would, at the worst moment: an event has been accepted and
 * not a byte of it is written. The browser comes back by itself and gets it then.
 */
export function cutStream(session) {
  const { sse } = session
  if (sse === null) return false
  sendNumbered(session, sse.tryRequestSend(), 'cut', { at: Date.now() })
  sse.abort()
  return true
}

/** Permission first, then the measuring: a client that is slow gets fewer figures, and never old ones. */
async function produceFigures(sse, session) {
  for (;;) {
    const permit = await sse.requestSend()
    const figures = await measureMachine()
    sendNumbered(session, permit, 'figures', { ...figures, connection: sse.stats() })
    await wait(FIGURES_EVERY_MS, undefined, { signal: sse.signal })
  }
}

/**
 * The line first, then permission: the next line may be hours away, and a permit is not to be sat on. Nothing
 * is read from the file while the client has no room; the file itself holds what is to come.
 */
async function produceLines(sse, session, logPath) {
  for await (const line of follow(logPath, session.filePosition, sse.signal)) {
    const permit = await sse.requestSend()
    const text = line.text.slice(0, MAX_LINE_CHARACTERS)
    if (sendNumbered(session, permit, 'line', { text })) session.filePosition = line.position
  }
}

/**
 * Sends an event with the session's next number, by which the page sees that none is missing and none comes
 * twice. Only an event that was accepted uses up its number.
 */
function sendNumbered(session, permit, event, data) {
  const n = session.lastNumber + 1
  if (permit?.send({ event, data: { n, ...data } }) !== 'queued') return false
  session.lastNumber = n
  return true
}

/** A producer ends because its connection has closed; anything else that ends it is a fault, and ends the stream. */
function run(sse, producer) {
  producer.catch((error) => {
    if (sse.signal.aborted || (error instanceof SSEError && error.code === 'ERR_SSE_CLOSED')) return
    console.error(error)
    void sse.sendError(error)
  })
}
