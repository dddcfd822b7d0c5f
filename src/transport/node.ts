import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type {
  IncomingHttpHeaders as Http2Headers,
  Http2ServerRequest,
  Http2ServerResponse,
  ServerHttp2Stream,
} from 'node:http2'
import { SSEError } from '../errors.js'
import type { SSEHandlerOptions } from '../handler/options.js'
import { SSEHandler } from '../handler/sse-handler.js'
import type { EventMap } from '../wire/event.js'
import type { StreamRequest } from '../wire/request.js'
import type { Exchange } from './exchange.js'
import { http1Exchange } from './http1.js'
import { type Compat, http2Exchange } from './http2.js'
import { assertUnanswered } from './responses.js'

/** A request of `node:http`, `node:https` or `node:http2`. */
export type NodeRequest = IncomingMessage | Http2ServerRequest

/** The response that goes with a {@link NodeRequest}. */
export type NodeResponse = ServerResponse | Http2ServerResponse

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
  req: NodeRequest,
  res: NodeResponse,
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
  headers: Http2Headers,
  options?: SSEHandlerOptions<Events>,
): SSEHandler<Events> {
  const { transport, request } = http2ExchangeOf(stream, headers)
  return new SSEHandler<Events>(transport, request, options)
}

/**
 * A request of a Node server and what carries the answer. Throws ERR_SSE_HEADERS_SENT when that has started, and
 * ERR_SSE_INVALID_OPTION for what is no request and response.
 */
export function exchangeOf(req: NodeRequest, res: NodeResponse): Exchange {
  const isAnswer = typeof (res as Partial<ServerResponse> | undefined)?.writeHead === 'function'
  if (!isAnswer || !isObject(req?.headers) || !isObject(req.socket)) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'This is no request and response of a Node server; for a stream of node:http2 call createHttp2SSEHandler, for a Request createSSEResponse.',
    )
  }
  assertUnanswered(res)
  const request = requestOf(req.method, req.url, req.headers)
  return req.httpVersionMajor === 2
    ? http2Exchange(request, (res as Http2ServerResponse).stream, { req, res } as Compat)
    : http1Exchange(request, req as IncomingMessage, res as ServerResponse)
}

/** As `exchangeOf`, for the event `stream` of a server of `node:http2`. */
export function http2ExchangeOf(stream: ServerHttp2Stream, headers: Http2Headers): Exchange {
  if (typeof stream?.respond !== 'function' || !isObject(headers)) {
    throw new SSEError(
      'ERR_SSE_INVALID_OPTION',
      'This is no stream and headers of node:http2; for a request and its response call createSSEHandler.',
    )
  }
  assertUnanswered(stream)
  return http2Exchange(requestOf(headers[':method'], headers[':path'], headers), stream)
}

function requestOf(method = 'GET', url = '/', headers: IncomingHttpHeaders): StreamRequest {
  return {
    method,
    url,
    header(name) {
      // HTTP/2 says it in another way (RFC 9113, section 8.3.1).
      const value = name === 'host' ? (headers.host ?? headers[':authority']) : headers[name]
      return Array.isArray(value) ? value.join(', ') : value
    },
  }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}
