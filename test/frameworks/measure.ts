import { performance } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { type AnyClient, ask, open } from '../support/any-client.js'
import { until } from '../support/until.js'
import { type Feature, type FrameworkProgram, startProgram } from './program.js'
import type { ServerUnderTest } from './servers.js'

/** What one run has shown of a server. */
export interface Measurements {
  /** From the publishing of an event to its arrival, while nothing follows it. */
  pushMs: number
  /** What a producer was allowed to send to a client that reads nothing. */
  heldBackAfterBytes: number
  /** How much the server's memory grew meanwhile. */
  grownBytes: number
  /** From the leaving of a client to the handler's close. */
  disconnectSeenMs: number
  /** The data of the events that a client that came back got. */
  resumed: string[]
  /** From the order to stop to the end of the process, with a stream open. */
  shutdownMs: number
  /** How the stream was encoded, to a client that takes gzip. */
  encoding: string
}

/** Passes a server through all that it has to do. The same for each server. */
export async function measure(
  server: ServerUnderTest,
  features: readonly Feature[] = [],
): Promise<Measurements> {
  const program = await startProgram(server.program, features)
  const headers = { 'accept-encoding': 'gzip' }
  const connect = async (more: Record<string, string> = {}) => {
    const { opened } = program
    const client = await open(server.protocol, program.port, { ...headers, ...more })
    await program.until(() => program.opened > opened, 'the stream is open')
    return client
  }
  const first = await connect()
  const encoding = first.headers['content-encoding'] ?? 'none'
  const pushMs = await measurePush(program, first)
  const disconnectSeenMs = await measureDisconnect(program, first)
  const resumed = await measureResume(program, first, connect)
  const { heldBackAfterBytes, grownBytes } = await measureBackpressure(program, await connect())
  const shutdownMs = await measureShutdown(program, await connect())
  return { pushMs, heldBackAfterBytes, grownBytes, disconnectSeenMs, resumed, shutdownMs, encoding }
}

/** Each event is there before the next is published. */
async function measurePush(program: FrameworkProgram, client: AnyClient): Promise<number> {
  const delays: number[] = []
  for (const data of ['one', 'two', 'three']) {
    const publishedAt = performance.now()
    program.tell('publish', data)
    await until(() => client.events.at(-1)?.data === data, `'${data}' has arrived and nothing follows it`)
    delays.push(performance.now() - publishedAt)
  }
  return Math.max(...delays)
}

async function measureDisconnect(program: FrameworkProgram, client: AnyClient): Promise<number> {
  const { length } = program.closed
  const leftAt = performance.now()
  client.leave()
  await program.until(() => program.closed.length > length, 'the client is seen to have left')
  if (program.closed.at(-1) !== 'client-closed') throw new Error(`The reason was ${program.closed.at(-1)}`)
  return performance.now() - leftAt
}

async function measureResume(
  program: FrameworkProgram,
  before: AnyClient,
  connect: (headers: Record<string, string>) => Promise<AnyClient>,
): Promise<string[]> {
  for (const data of ['four', 'five']) program.tell('publish', data)
  const client = await connect({ 'last-event-id': before.lastEventId })
  program.tell('publish', 'six')
  await until(() => client.events.at(-1)?.data === 'six', 'it is live again')
  await measureDisconnect(program, client)
  return client.events.filter(({ event }) => event === 'news').map(({ data }) => data)
}

async function measureBackpressure(
  program: FrameworkProgram,
  client: AnyClient,
): Promise<Pick<Measurements, 'heldBackAfterBytes' | 'grownBytes'>> {
  const before = await program.memory()
  client.pause()
  program.tell('flood')
  const floodedBytes = await heldBack(program)
  const after = await program.memory()
  client.resume()
  await program.until(() => program.floodedBytes > 2 * floodedBytes, 'it goes on when the client reads again')
  await measureDisconnect(program, client)
  return { heldBackAfterBytes: floodedBytes, grownBytes: after.rss - before.rss }
}

/** What a flood has sent when it is held back: two looks that find the same. */
async function heldBack(program: FrameworkProgram): Promise<number> {
  for (let before = -1; ; ) {
    await program.until(() => program.phase === 'blocked', 'the stream is blocked')
    if (program.floodedBytes > 0 && program.floodedBytes === before && program.phase === 'blocked')
      return before
    before = program.floodedBytes
    await wait(100)
  }
}

async function measureShutdown(program: FrameworkProgram, client: AnyClient): Promise<number> {
  const orderedAt = performance.now()
  program.tell('shutdown')
  await until(() => program.end !== null, 'the program ends')
  const shutdownMs = performance.now() - orderedAt
  if (program.end !== 0) throw new Error(`It ended with ${program.end} and printed: ${program.output}`)
  if (program.closed.at(-1) !== 'shutdown') throw new Error(`The reason was ${program.closed.at(-1)}`)
  await until(() => client.ended, 'the client has seen the end')
  return shutdownMs
}

/** A client that leaves while its session is being looked up: the reason that its stream closed with. */
export async function leaveDuringSession(server: ServerUnderTest): Promise<string> {
  const program = await startProgram(server.program, ['slow-session'])
  // A session is looked up for those who have one.
  const arriving = ask(server.protocol, program.port, '/text')
  arriving.answered.then(
    ({ body }) => body.resume(),
    () => {},
  )
  const passing = setInterval(() => program.tell('pass'), 5)
  const { headers } = await arriving.answered.finally(() => clearInterval(passing))
  const cookie = String(headers['set-cookie'] ?? '').split(';', 1)[0] ?? ''
  const { waiting, disconnected } = program
  const { leave } = ask(server.protocol, program.port, '/events', { accept: 'text/event-stream', cookie })
  await program.until(() => program.waiting > waiting, 'the session is being looked up')
  leave()
  await program.until(() => program.disconnected > disconnected, 'the connection is gone')
  program.tell('pass')
  await program.until(() => program.closed.length > 0, 'the stream is closed')
  program.tell('shutdown')
  await until(() => program.end !== null, 'the program ends: nothing is left of the stream')
  if (program.end !== 0) throw new Error(`It ended with ${program.end} and printed: ${program.output}`)
  return program.closed[0] ?? ''
}
