import assert from 'node:assert/strict'
import { type ClosedInfo, type Phase, SSEHandler, type SSEHandlerOptions } from 'sluice'
import { EventStreamReader, type ReceivedEvent } from './event-stream.js'
import type { HarnessClient, HarnessExchange, HarnessServer, TransportHarness } from './transport-harness.js'
import { until } from './until.js'
import { WatchedTransport } from './watched-transport.js'

/** One connection of a case, seen from both ends. */
export interface Played {
  sse: SSEHandler
  transport: WatchedTransport
  client: HarnessClient
  /** What the client has got, but for the event `connected`. */
  events(): ReceivedEvent[]
  /** Resolves once it has got so many events. */
  gets(count: number): Promise<void>
  /** Resolves with how the connection closed; rejects when it does not within 10 s. */
  closed(): Promise<ClosedInfo>
}

export interface PlayedRequest {
  method?: string
  headers?: Record<string, string>
  options?: SSEHandlerOptions
  /** Called on the server as soon as the connection is there, before the request is answered for good. */
  onOpen?: (sse: SSEHandler) => void
}

interface Opened {
  sse: SSEHandler
  transport: WatchedTransport
}

/** A server with the transport under test, for the time of one case. */
export class Stage {
  readonly #harness: TransportHarness
  readonly #server: HarnessServer
  readonly #expected: Map<string, PlayedRequest>
  readonly #opened: Map<string, Opened>
  #requests = 0

  static async set(harness: TransportHarness): Promise<Stage> {
    const expected = new Map<string, PlayedRequest>()
    const opened = new Map<string, Opened>()
    const answer = (exchange: HarnessExchange) => {
      const path = pathOf(exchange.request.url)
      const { options, onOpen } = expected.get(path) ?? {}
      const transport = new WatchedTransport(exchange.transport, exchange.listenedTo)
      const sse = new SSEHandler(transport, exchange.request, { heartbeat: { format: 'none' }, ...options })
      opened.set(path, { sse, transport })
      onOpen?.(sse)
    }
    return new Stage(harness, await harness.serve(answer), expected, opened)
  }

  private constructor(
    harness: TransportHarness,
    server: HarnessServer,
    expected: Map<string, PlayedRequest>,
    opened: Map<string, Opened>,
  ) {
    this.#harness = harness
    this.#server = server
    this.#expected = expected
    this.#opened = opened
  }

  async connect(request: PlayedRequest = {}): Promise<Played> {
    this.#requests += 1
    const path = `/${this.#requests}`
    this.#expected.set(path, request)
    const { method = 'GET', headers = {} } = request
    const client = await this.#server.request({
      method,
      path,
      headers: { accept: 'text/event-stream', ...headers },
    })
    const opened = this.#opened.get(path)
    assert.ok(opened, `the server has called answer for ${path}`)
    const { sse, transport } = opened
    let info: ClosedInfo | undefined
    void sse.closed.then((closed) => {
      info = closed
    })
    const reader = new EventStreamReader()
    let read = 0
    const events = () => {
      const { text } = client
      reader.feed(text.slice(read))
      read = text.length
      return reader.events.filter(({ event }) => event !== 'connected')
    }
    return {
      sse,
      transport,
      client,
      events,
      gets: (count) => until(() => events().length >= count, `the client has got ${count} events`),
      async closed() {
        await until(() => info !== undefined, 'the connection is closed')
        return info as ClosedInfo
      },
    }
  }

  /** The connection that is made for a client which has left already, as it is in that moment. */
  async connectLate(): Promise<{ sse: SSEHandler; phase: Phase }> {
    let made: { sse: SSEHandler; phase: Phase } | undefined
    await this.#harness.answerLate?.(({ transport, request, listenedTo }) => {
      const watched = new WatchedTransport(transport, listenedTo)
      const sse = new SSEHandler(watched, request, { heartbeat: { format: 'none' } })
      made = { sse, phase: sse.phase }
      this.#opened.set('late', { sse, transport: watched })
    })
    assert.ok(made, 'answerLate has called answer')
    return made
  }

  /** Fails when a transport has broken its duties. */
  assertDuties(): void {
    for (const { transport } of this.#opened.values()) assert.deepEqual(transport.violations, [])
  }

  async close(): Promise<void> {
    for (const { sse } of this.#opened.values()) sse.abort()
    await this.#server.close()
  }
}

function pathOf(url: string): string {
  return url.startsWith('/') ? url : new URL(url).pathname
}
