import type { Socket } from 'node:net'
import { SSEError } from '../errors.js'
import type { LostReason } from '../handler/transport.js'
import type { Peer } from './exchange.js'

/**
 * After so long without a packet the operating system asks the client whether it is there, once a second and up to ten
 * times (libuv, uv__tcp_keepalive). It asks only while all it has sent is acknowledged, so that has to be over before
 * the next heartbeat.
 */
export const KEEPALIVE_DELAY_MS = 4000

/** Responses whose head may not have left yet, though they are streams. */
const answered = new WeakSet<object>()

/** Throws for a response that has started, or that is a stream already. */
export function assertUnanswered(response: { readonly headersSent: boolean }): void {
  if (!response.headersSent && !answered.has(response)) return
  throw new SSEError(
    'ERR_SSE_HEADERS_SENT',
    'The response has started already, so it cannot become an event stream; call createSSEHandler before anything is written.',
  )
}

export function markAnswered(response: object): void {
  answered.add(response)
}

/** What the errors mean that the operating system gives when it got no answer, to keepalive probes too. */
export function lostBy(error: (Error & { code?: string }) | undefined): LostReason {
  return error?.code === 'ETIMEDOUT' || error?.code === 'EHOSTUNREACH' ? 'vanished' : 'client-closed'
}

/** Without a listener, an error of a response would end the process. The close that follows tells of it. */
export function ignoreError(): void {}

export function peerOf({ remoteAddress, remotePort, localPort }: Socket): Peer | null {
  if (remoteAddress === undefined || remotePort === undefined || localPort === undefined) return null
  return { address: remoteAddress, port: remotePort, localPort }
}

export function isEncrypted(socket: Socket): boolean {
  return (socket as { encrypted?: boolean }).encrypted === true
}

/**
 * Has the kernel forget a connection, which is then to be destroyed: `end` never returns for a stalled peer, and
 * `destroy` alone leaves what was sent in the kernel for minutes.
 */
export function resetSocket(socket: Socket): void {
  resetOf(socket)()
}

/** As `resetSocket`, for later: a session of HTTP/2 that is over does not give its socket any more. */
function resetOf(socket: Socket): () => void {
  // A TLS socket cannot be reset itself, but the one below can.
  const target = (socket as { _parent?: Socket | null })._parent ?? socket
  const { resetAndDestroy } = target
  return () => {
    try {
      resetAndDestroy.call(target)
    } catch {
      // Only TCP sockets can be reset: not Unix domain sockets.
    }
  }
}

interface Handle {
  writeQueueSize?: number
  _parent?: Handle
}

/**
 * Bytes that the operating system has not taken; undefined for a socket that does not say. Node itself reads this when it
 * decides whether a socket timed out (lib/net.js, _onTimeout): writableLength falls only when a whole chunk has been taken,
 * this with every byte. Over TLS the handle is around that of TCP, and its own figure does not fall before all is taken.
 */
export function untakenBytes(socket: Socket): number | undefined {
  const handle = (socket as { _handle?: Handle | null })._handle
  return (handle?._parent ?? handle)?.writeQueueSize
}

type Headers = Readonly<Record<string, string>>

/** What the answer varies by is all that anybody says: that of the program, set before, is kept (RFC 9110, section 12.5.5). */
export function withVaryOf(
  response: { getHeader(name: string): number | string | string[] | undefined },
  headers: Headers,
): Headers {
  const before = response.getHeader('vary')
  const name =
    before === undefined ? undefined : Object.keys(headers).find((known) => known.toLowerCase() === 'vary')
  return name === undefined ? headers : { ...headers, [name]: `${before}, ${headers[name]}` }
}

/** What is used of a session of HTTP/2. */
export interface EndableSession {
  readonly destroyed: boolean
  /** The connection below. */
  readonly socket: Socket
  /** Ends the session when its streams have ended. */
  close(): void
  /** Ends the session, whatever its streams do. */
  destroy(): void
  /** Calls the listener when the session is over. */
  once(event: 'close', listener: () => void): unknown
}

/** Sessions whose end has been begun. */
const ending = new WeakSet<EndableSession>()

/**
 * GOAWAY, and the end when all streams have ended, or after so many milliseconds: a client need not end its requests, nor read
 * what it gets. The session may be closing already: since Node 24 the close of a server begins that.
 */
export function endSession(session: EndableSession, withinMs: number): void {
  // Each of its streams asks for it.
  if (session.destroyed || ending.has(session)) return
  ending.add(session)
  const reset = resetOf(session.socket)
  const giveUp = () => {
    session.destroy()
    // A session that was closing already only half-closes its connection when it is destroyed.
    reset()
  }
  const timer = setTimeout(giveUp, withinMs).unref()
  session.once('close', () => clearTimeout(timer))
  session.close()
}
