import { openFilesLimit } from '../transport/linux.js'
import type { EndableSession } from '../transport/responses.js'
import type { Lifecycle } from './lifecycle.js'

/** What is used of a server: those of `node:net`, `node:http`, `node:https` and `node:http2` have it. */
export interface GuardedServer {
  maxConnections?: number | undefined
  /** Told of each connection that the server drops. */
  on(event: 'drop', listener: () => void): unknown
  /** Told by servers of HTTP/2. */
  on(event: 'session', listener: (session: EndableSession) => void): unknown
}

/** Files that a process needs besides the connections of its server. */
const OTHER_FILES = 100

/** Connections that are taken besides those of streams, so that a refusal can be answered rather than dropped. */
const OTHER_CONNECTIONS = 100

/** Sets `maxConnections`, where it is not set, below what the system would refuse without a word, and tells of drops. */
export async function attachServer(
  server: GuardedServer,
  maxStreams: number,
  lifecycle: Lifecycle,
  { dropped, cameSession }: { dropped: () => void; cameSession: (session: EndableSession) => void },
): Promise<void> {
  server.on('drop', () => {
    dropped()
    lifecycle.log('warn', { maxConnections: server.maxConnections }, 'sse server dropped a connection')
  })
  server.on('session', cameSession)
  const files = (await openFilesLimit()) ?? Number.POSITIVE_INFINITY
  const most = Math.max(1, files - OTHER_FILES)
  if (maxStreams > most) {
    const fields = { maxConnections: maxStreams, openFiles: files }
    lifecycle.log('warn', fields, 'sse limit is above the limit of open files; raise ulimit -n, or lower it')
  }
  // Node leaves it undefined, and takes what the system gives.
  if (server.maxConnections === undefined)
    server.maxConnections = Math.min(maxStreams + OTHER_CONNECTIONS, most)
}
