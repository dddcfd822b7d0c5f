import { setTimeout as wait } from 'node:timers/promises'
import { createChannel, createMemoryLog } from 'sluice'
import { follow } from './follow.js'
import { measureMachine } from './machine.js'

/** A quarter of an hour of figures, or as many lines: what a page can be away for without missing any. */
const LOG_LIMITS = { maxEvents: 1000, maxBytes: 4 * 1024 * 1024 }
const FIGURES_EVERY_MS = 1000
const TRY_AGAIN_MS = 5000
const MAX_LINE_CHARACTERS = 2000
/** What a page shows, and so what a new one begins with. */
const SHOWN_LINES = 100
const SHOWN_POINTS = 120

/**
 * What every page shows: one channel, and the two producers that publish to it as long as the server runs.
 *
 * Each event has a number besides its id, by which a page sees that none is missing and none comes twice.
 */
export function createFeed(logPath, onFault) {
  const channel = createChannel({ log: createMemoryLog(LOG_LIMITS) })
  const { signal } = channel
  /** The sum of all events published so far. */
  const state = { lastNumber: 0, figures: null, points: [], lines: [] }
  /** How far the log file has been read; null before the first line. */
  let filePosition = null

  /** Permission first, then the measuring: while nothing can be sent nothing is measured, and figures are never old. */
  async function produceFigures() {
    for (;;) {
      const permit = await channel.requestSend()
      const measured = await measureMachine()
      const figures = sendNumbered((event) => permit.send(event), 'figures', measured)
      const { at, cpuPercent, memory } = figures
      state.figures = figures
      keep(state.points, SHOWN_POINTS, { at, cpuPercent, memory })
      await wait(FIGURES_EVERY_MS, undefined, { signal })
    }
  }

  /** The line first, then permission: the next line may be hours away, and a permit is not to be sat on. */
  async function produceLines() {
    for await (const line of follow(logPath, filePosition, signal)) {
      const permit = await channel.requestSend()
      const text = line.text.slice(0, MAX_LINE_CHARACTERS)
      sendNumbered((event) => permit.send(event), 'line', { text })
      keep(state.lines, SHOWN_LINES, text)
      filePosition = line.position
    }
  }

  /** Only an event that was accepted uses up its number. */
  function sendNumbered(send, event, data) {
    const numbered = { n: state.lastNumber + 1, ...data }
    send({ event, data: numbered })
    state.lastNumber = numbered.n
    return numbered
  }

  /** A producer ends with the channel; anything else that ends it is a fault, and it begins anew. */
  async function keepGoing(produce) {
    while (!signal.aborted) {
      try {
        await produce()
      } catch (error) {
        if (signal.aborted) return
        onFault(error)
        // Rejects when the channel ends meanwhile, which ends the loop, too.
        await wait(TRY_AGAIN_MS, undefined, { signal }).catch(() => {})
      }
    }
  }

  keepGoing(produceFigures)
  keepGoing(produceLines)

  return {
    /**
     * Has a connection follow the channel. Its client begins with the state as it is, or goes on where it was; one
     * that was away for too long is told of the gap, and gets the state, too.
     */
    follow(sse) {
      channel.subscribe(sse, { onSubscribe: snapshot, onGap: snapshot })
    },
    /** Tells everybody that a session's connection is cut. Its own page gets that when it is back. */
    publishCut(session) {
      sendNumbered((event) => void channel.publish(event), 'cut', { session, at: Date.now() })
    },
    get readers() {
      return channel.readers
    },
    end() {
      channel.end()
    },
  }

  /** Taken at once, so it is of exactly the position that the reader goes on from. */
  function snapshot() {
    const { lastNumber, figures, points, lines } = state
    return {
      events: [
        { event: 'snapshot', data: { lastNumber, figures, points } },
        ...lines.map((text) => ({ event: 'earlier-line', data: { text } })),
      ],
    }
  }
}

/** Appends to a list that keeps its newest items only. */
function keep(list, most, item) {
  list.push(item)
  if (list.length > most) list.shift()
}
