import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse, ServerHttp2Stream } from 'node:http2'
import { SSEError } from '../errors.js'
import type { SSEHandlerOptions } from '../handler/options.js'
import { SSEHandler } from '../handler/sse-handler.js'
import type { Exchange } from '../handler/transport.js'
import type { EventMap } from '../wire/event.js'
import type { StreamRequest } from '../wire/request.js'
import { assertUnanswered } from './connections.js'
import { Http1Transport } from './http1.js'
import { type Compat, Http2Transport } from './http2.js'

/**
 * Answers a request of a Node server with an event stream: of `node:http`, `node:https`, or `node:http2`, whose
 * server gives objects of HTTP/1 to clients of that version (`allowHTTP1`). For the event `stream` of `node:http2`
 * there is {@link createHttp2SSEHandler}.
 *
 * Synchronous: the listeners are on before it returns, so that a client which leaves during the caller's next
 * await is seen. Headers set before with `res.setHeader` are kept, but the status is 200 and `Content-Length`,
 * `Content-Encoding` and `ETag` are removed. A request body that nobody has read is thrown away from here on:
 * read it before.
 *
 * A client that has left already, a HEAD request and an Accept header that refuses event streams are no errors:
 * the returned handler is closed, with the reason `client-closed` or `refused`, and the response is sent (HEAD:
 * 200 and the head; Accept: 406).
 *
 * @throws SSEError ERR_SSE_HEADERS_SENT when the response has started, ERR_SSE_INVALID_OPTION,
 * ERR_SSE_INVALID_EVENT for a `firstEvent` that cannot be sent. Nothing is sent then.
 */
export function createSSEHandler<Events extends object = EventMap>(
  req: IncomingMessage | Http2ServerRequest,
  res: ServerResponse | Http2ServerResponse,
  options?: SSEHandlerOptions<Events>,
): SSEHandler<Events> {
  const { transport, request } = exchangeOf(req, res)
  return new SSEHandler<Events>(transport, request, options)
}

/**
 * As {@link createSSEHandler}, for the event `stream` of a server of `node:http2`, which gives a stream and the
 * headers of its request. `additionalHeaders` are left alone; headers of the answer go into `options.headers`.
 *
 * @throws SSEError as `createSSEHandler` does.
 */
export function createHttp2SSEHandler<Events extends object = EventMap>(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders & { ':method'?: string; ':path'?: string },
  options?: SSEHandlerOptions<Events>,
): SSEHandler<Events> {
  assertUnanswered(stream)
  const request = requestOf(headers[':method'], headers[':path'], headers)
  return new SSEHandler<Events>(new Http2Transport(stream), request, options)
}

/** A request of a Node server and what carries the answer. Throws ERR_SSE_HEADERS_SENT when that has started. */
export function exchangeOf(
  req: IncomingMessage | Http2ServerRequest,
  res: ServerResponse | Http2ServerResponse,
): Exchange {
  if (typeof (res as Partial<ServerResponse> | undefined)?.writeHead !== 'function') {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'This is no request and response of a Node server; for a stream of node:http2 call createHttp2SSEHandler, for a Request createSSEResponse.',
    )
  }
  assertUnanswered(res)
  const transport =
    req.httpVersionMajor === 2
      ? new Http2Transport((res as Http2ServerResponse).stream, { req, res } as Compat)
      : new Http1Transport(req as IncomingMessage, res as ServerResponse)
  return { transport, request: requestOf(req.method, req.url, req.headers) }
}

function requestOf(method = 'GET', url = '/', headers: IncomingHttpHeaders): StreamRequest {
  return {
    method,
    url,
    header(name) {
      const value = headers[name]
      return Array.isArray(value) ? value.join(', ') : value
    },
  }
}
