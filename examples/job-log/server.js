// Streams the lines of a file that only grows, such as the log of a job, to any number of clients:
//   node examples/job-log/server.js job.log     (after npm run build; PORT says where)
//
// The id of an event is the number of its line, whoever sends it. So another instance can take over: stop this one with
// SIGTERM and start the next on the same port. Each client comes back at a moment of its own, and goes on where it was.
import { createServer } from 'node:http'
import { createChannel, createMemoryLog, createSluice } from 'sluice'
import { linesOf } from './lines.js'

const [path] = process.argv.slice(2)
if (path === undefined) {
  console.error('Which file? Expected: node server.js FILE')
  process.exit(1)
}

const sluice = createSluice({
  retryMs: 1000,
  logger: { debug() {}, info() {}, warn: console.warn, error: console.error },
})
const log = createChannel({ log: createMemoryLog({ epoch: 'job', maxEvents: 100_000 }) })

const server = createServer((req, res) => {
  const sse = sluice.open(req, res)
  if (sse !== null) log.subscribe(sse)
})
await sluice.attach(server)

const stopping = new AbortController()
const lines = linesOf(path, stopping.signal)
// What is there already is read before the first client is answered: it may know of it.
for (const line of await lines.existing()) await log.publish({ event: 'line', data: line })
publishTheRest().catch(stopFor)

server.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`http://localhost:${server.address().port}/`)
})

process.once('SIGTERM', stop)

async function stop() {
  server.close()
  stopping.abort()
  const { streams, reset, durationMs } = await sluice.shutdown({ graceMs: 5000, reconnectWithinMs: 5000 })
  console.log(`Ended ${streams} streams in ${durationMs} ms, ${reset} of them by force.`)
}

/** Without the file there is nothing to tell: another instance may have it. */
function stopFor(error) {
  console.error(error)
  process.exitCode = 1
  stop()
}

async function publishTheRest() {
  for await (const line of lines.following()) await log.publish({ event: 'line', data: line })
}
