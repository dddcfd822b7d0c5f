import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyPluginCallback, FastifyReply, RouteHandlerMethod } from 'fastify'
import {
  createSSEHandler,
  type EventMap,
  type Sluice,
  SSEError,
  type SSEHandler,
  type SSEHandlerOptions,
} from 'sluice'
import { refusedHandler } from './refused.js'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Answers the request with an event stream, and takes the reply out of Fastify's hands as `reply.hijack()` does: the
     * hooks `preSerialization` and `onSend` do not run. When the route throws or rejects afterwards, the stream ends as with
     * `sse.sendError`. Headers set with `reply.header()` are kept. As with
     * `createSSEHandler`, a client that has left and a request that is refused are no errors: the handler is closed.
     *
     * @throws SSEError ERR_SSE_HEADERS_SENT when the reply is sent or hijacked; ERR_SSE_INVALID_OPTION and
     * ERR_SSE_INVALID_EVENT as `createSSEHandler`. Fastify can still reply then.
     */
    sse<Events extends object = EventMap>(options?: SSEHandlerOptions<Events>): SSEHandler<Events>
  }
}

/** What opens the streams and closes them all: a sluice made by `createSluice`, without `authorize`. */
export type StreamOpener = Pick<Sluice, 'open' | 'shutdown' | 'waits'>

/** Options of the plugin. */
export interface FastifySSEOptions {
  /**
   * Opens the streams, with its limits, and is shut down with the server. Without it there are no limits. One with
   * `authorize`, which waits, is refused with ERR_SSE_INVALID_OPTION when the plugin is registered: authorize in a hook of
   * Fastify.
   */
  sluice?: StreamOpener
  /** How long `app.close()` lets the streams of `sluice` drain. In ms; default: that of `sluice.shutdown`. */
  graceMs?: number
}

/**
 * A plugin for Fastify 5: `app.register(fastifySSE)`, then `reply.sse(options)` in any route. `app.close()` closes the streams
 * gracefully, with the reason `shutdown`, before the server waits for its connections.
 */
export const fastifySSE: FastifyPluginCallback<FastifySSEOptions> = (app, options, done) => {
  if (options.sluice?.waits) {
    done(waits())
    return
  }
  const { open, closeAll } = options.sluice === undefined ? ownStreams() : streamsOf(options.sluice, options)
  const opened: Opened = new WeakMap()
  app.decorateReply('sse', function openStream<
    Events extends object,
  >(this: FastifyReply, streamOptions?: SSEHandlerOptions<Events>) {
    const { raw } = this
    if (this.sent || raw.headersSent) throw alreadySent()
    // Fastify keeps the headers of a reply to itself until it sends it, and a hijacked one it never sends.
    for (const [name, value] of Object.entries(this.getHeaders())) {
      if (value !== undefined) raw.setHeader(name, value)
    }
    const handler = open<Events>(this.request.raw, raw, streamOptions)
    this.hijack()
    opened.set(this, handler)
    return handler
  })
  app.addHook('onRoute', (route) => {
    route.handler = endingItsStream(route.handler, opened)
  })
  app.addHook('preClose', closeAll)
  done()
}

// What the package fastify-plugin does: the decorator is for the routes around the plugin, not for those within it.
Object.assign(fastifySSE, {
  [Symbol.for('skip-override')]: true,
  [Symbol.for('fastify.display-name')]: 'sluice',
  [Symbol.for('plugin-meta')]: { name: 'sluice', fastify: '5.x' },
})

type Opened = WeakMap<FastifyReply, Pick<SSEHandler, 'sendError'>>

/** Fastify only logs what a route throws after it has hijacked its reply: its stream would be open for ever. */
function endingItsStream(handler: RouteHandlerMethod, opened: Opened): RouteHandlerMethod {
  return function (this: FastifyInstance, request, reply) {
    const fail = (error: unknown) => void opened.get(reply)?.sendError(error)
    try {
      const result: unknown = handler.call(this, request, reply)
      if (result instanceof Promise) result.catch(fail)
      return result
    } catch (error) {
      fail(error)
      throw error
    }
  }
}

interface Streams {
  open<Events extends object>(
    req: IncomingMessage,
    res: ServerResponse,
    options: SSEHandlerOptions<Events> | undefined,
  ): SSEHandler<Events>
  closeAll(this: FastifyInstance): Promise<void>
}

function streamsOf(sluice: StreamOpener, { graceMs }: FastifySSEOptions): Streams {
  return {
    open<Events extends object>(
      req: IncomingMessage,
      res: ServerResponse,
      options: SSEHandlerOptions<Events> | undefined,
    ) {
      return sluice.open<Events>(req, res, options) ?? refusedHandler<Events>(req)
    },
    closeAll: async () => void (await sluice.shutdown(graceMs === undefined ? {} : { graceMs })),
  }
}

function ownStreams(): Streams {
  const handlers = new Set<Pick<SSEHandler, 'close'>>()
  let isClosing = false
  return {
    open<Events extends object>(
      req: IncomingMessage,
      res: ServerResponse,
      options: SSEHandlerOptions<Events> | undefined,
    ) {
      const handler = createSSEHandler<Events>(req, res, options)
      if (handler.phase === 'closed') return handler
      handlers.add(handler)
      handler.on('closed', () => void handlers.delete(handler))
      // A hook of this request took its time, and the server waits for its connections by now.
      if (isClosing) void handler.close({ reason: 'shutdown' })
      return handler
    },
    closeAll: async () => {
      isClosing = true
      await Promise.all([...handlers].map((handler) => handler.close({ reason: 'shutdown' })))
    },
  }
}

function waits(): SSEError {
  return new SSEError(
    'ERR_SSE_INVALID_OPTION',
    'This sluice has the option authorize, so that its streams open later than reply.sse() returns; authorize in a hook of Fastify instead.',
  )
}

function alreadySent(): SSEError {
  return new SSEError(
    'ERR_SSE_HEADERS_SENT',
    'The reply is sent or hijacked already, so it cannot become an event stream; call reply.sse() once, before reply.send() and reply.hijack().',
  )
}
