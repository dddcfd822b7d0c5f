// What the programs here have in common. Each answers GET /events with a stream and GET /text with a long text, by its own
// framework; the test that has started it says what is to happen on the stream, and is told what did.
import { createChannel, createMemoryLog } from 'sluice'

/** What the test wants the program to have: `compression`, `slow-session`. */
const wanted = new Set(process.argv.slice(2))
const channel = createChannel({ log: createMemoryLog({ maxEvents: 100 }) })
const PAYLOAD = 'x'.repeat(16 * 1024)

/** Of the process, not of this module: what Next.js has bundled is another copy of it. */
globalThis.stage ??= { current: null, channel, letPass() {} }
const { stage } = globalThis

export const TEXT = 'A text that is worth being compressed. '.repeat(1000)

export function wants(feature) {
  return wanted.has(feature)
}

/** What happens on each stream, whatever the server. */
export function play(sse) {
  stage.current = sse
  stage.channel = channel
  tell({ opened: true })
  sse.on('phase', (phase) => tell({ phase }))
  sse.closed.then(({ reason }) => tell({ closed: reason }))
  channel.subscribe(sse)
  return sse
}

/** Stands for a session that is looked up: it passes when the test says so. */
export function lookUpSession() {
  if (!wants('slow-session')) return Promise.resolve()
  tell({ waiting: true })
  return new Promise((resolve) => {
    stage.letPass = resolve
  })
}

const commands = {
  publish: ({ data }) => stage.channel.publish({ event: 'news', data }),
  async flood() {
    for await (const permit of stage.current.demand()) {
      permit.send({ event: 'flood', data: PAYLOAD })
      tell({ flooded: PAYLOAD.length })
    }
  },
  measure: () => tell({ memory: process.memoryUsage() }),
  pass: () => stage.letPass(),
}

/** The server listens: from here on the test may ask. It closes as the framework has it. */
export function ready(server, close = () => server.close()) {
  process.on('message', (message) => commands[message.command]?.(message))
  // Nothing is left behind when the tests are stopped half-way.
  process.once('disconnect', () => process.exit())
  // But the test does not keep the program running when it has nothing more to do.
  process.channel.unref()
  tell({ port: server.address().port })
  server.on('connection', (socket) => socket.once('close', () => tell({ disconnected: true })))
  process.on('message', async ({ command }) => {
    if (command !== 'shutdown') return
    const closing = close()
    await stage.current?.close({ reason: 'shutdown' })
    server.closeIdleConnections?.()
    await closing
  })
}

function tell(message) {
  if (process.connected) process.send(message)
}
