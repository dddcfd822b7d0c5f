import { SSEError, shown, textOf } from '../errors.js'
import { resolveHandlerOptions, type SSEHandlerOptions } from '../handler/options.js'
import { SSEHandler } from '../handler/sse-handler.js'
import type { EventMap } from '../wire/event.js'
import type { Exchange } from './exchange.js'
import { isSignal, onAbort } from './on-abort.js'
import { ResponseTransport } from './response.js'

/** A connection and the response that carries it. */
export interface SSEResponse<Events extends object = EventMap> {
  readonly sse: SSEHandler<Events>
  /**
   * Made when it is read first, because a `Response` cannot change: until then `channel.subscribe` may find that a 204
   * is the answer. So read it last, when the stream follows its channel.
   */
  readonly response: Response
}

/**
 * Makes a handler of Fetch requests: for Hono, Next.js, SvelteKit, Remix, h3, Bun, Deno, and whatever else takes a
 * `Response` for a `Request`. What the server passes besides the request is passed on.
 *
 * `onStream` is called for each client that is to get a stream, before the response is made; not for one that has left,
 * for HEAD, nor for an Accept header that refuses event streams. When it returns, the stream goes on: close it with
 * `sse.close()`. When it throws or rejects, the stream ends as with `sse.sendError`, and the process is warned of the
 * error; of ERR_SSE_CLOSED after the client has left it is not.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION, at once. The handler throws it for what is no `Request`.
 */
export function createFetchHandler<Events extends object = EventMap, Context extends unknown[] = []>(
  onStream: (sse: SSEHandler<Events>, request: Request, ...context: Context) => unknown,
  options?: SSEHandlerOptions<Events>,
): (request: Request, ...context: Context) => Response {
  if (typeof onStream !== 'function') {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `createFetchHandler was given ${shown(onStream)}; expected a function that gets the connection and the request.`,
    )
  }
  resolveHandlerOptions(options)
  return (request, ...context) => {
    const exchange = createSSEResponse<Events>(request, options)
    const { sse } = exchange
    const run = async () => onStream(sse, request, ...context)
    if (sse.phase !== 'closed') run().catch((error: unknown) => failed(sse, error))
    return exchange.response
  }
}

/**
 * Answers one Fetch request with an event stream. A `Response` does not know its connection, so both are returned.
 *
 * Nothing is ever queued in the body: it hands a chunk over when it is read, and the connection waits until it is read
 * again. A body that is cancelled and a `request.signal` that aborts close the connection as `client-closed`. The body of
 * the request is left to the program.
 *
 * A request whose signal has aborted, a HEAD request and an Accept header that refuses event streams are no errors: the
 * handler is closed, with the reason `client-closed` or `refused`, and the response is the answer (status 499, which
 * nobody reads; the head; 406).
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION, for what is no `Request`, too; ERR_SSE_INVALID_EVENT for a `firstEvent` that
 * cannot be sent.
 */
export function createSSEResponse<Events extends object = EventMap>(
  request: Request,
  options?: SSEHandlerOptions<Events>,
): SSEResponse<Events> {
  const exchange = fetchExchangeOf(request)
  const { transport } = exchange
  const sse = new SSEHandler<Events>(transport, exchange.request, options)
  return {
    sse,
    get response() {
      return transport.response
    },
  }
}

/** A Fetch request and what carries the answer, whose `response` is read last. */
export function fetchExchangeOf(request: Request): Exchange & { readonly transport: ResponseTransport } {
  // Not `instanceof`: frameworks wrap requests, and a program may have more than one class of them.
  const isRequest = typeof request?.url === 'string' && typeof request.headers?.get === 'function'
  if (!isRequest || !isSignal(request.signal)) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      `This is ${shown(request)}; expected a Request. For the req and res of a Node server call createSSEHandler.`,
    )
  }
  const { method, url, headers } = request
  const asked = {
    method,
    url,
    header: (name: string) => headers.get(name) ?? (name === 'host' ? hostOf(url) : undefined),
  }
  const { signal } = request
  const transport = new ResponseTransport(signal, request)
  return {
    transport,
    request: asked,
    peer: null,
    // A Request knows nothing of its answer.
    assertUnanswered() {},
    isBehindAnother: () => false,
    onGone(listener) {
      return onAbort(signal, listener)
    },
    isSecure: url.startsWith('https:'),
    // The connection is the server's.
    lastAnswer() {},
    hangUp() {},
    cut() {},
    isStuck: () => false,
  }
}

/** Servers of Fetch requests put it into the address, and need not keep the header. */
function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined
}

function failed(sse: Pick<SSEHandler, 'phase' | 'sendError'>, error: unknown): void {
  const isOver = sse.phase === 'draining' || sse.phase === 'closed'
  if (isOver && error instanceof SSEError && error.code === 'ERR_SSE_CLOSED') return
  void sse.sendError(error)
  process.emitWarning(textOf(error), { type: 'SSEWarning', detail: 'in the function of createFetchHandler' })
}
