import { Socket } from 'node:net'
import type { Chunk, Transport, TransportSink } from 'sluice'
import { type HarnessExchange, type TransportHarness, transportConformance } from 'sluice/testing'
import { describe, expect, it } from 'vitest'
import { harnesses } from '../support/harnesses.js'

/** A transport of sluice with something changed. */
function broken(name: string, change: Change): TransportHarness {
  const harness = harnesses[name] as Required<TransportHarness>
  const changed = (answer: (exchange: HarnessExchange) => void) => (exchange: HarnessExchange) => {
    change(exchange.transport, exchange)
    answer(exchange)
  }
  return {
    serve: (answer) => harness.serve(changed(answer)),
    answerLate: (answer) => harness.answerLate(changed(answer)),
  }
}

type Change = (transport: Transport, exchange: HarnessExchange) => void

function withSink(change: (sink: TransportSink) => Partial<TransportSink>) {
  return (transport: Transport) => {
    const { attach } = transport
    transport.attach = (sink) =>
      attach.call(transport, {
        roomMade: () => sink.roomMade(),
        ended: () => sink.ended(),
        lost: (reason, error) => sink.lost(reason, error),
        ...change(sink),
      })
  }
}

/** With the transport's own end as the second argument. */
function withEnd(change: (transport: Transport, end: () => void) => void): Change {
  return (transport) => {
    const { end } = transport
    transport.end = () => change(transport, () => end.call(transport))
  }
}

const IN_MEMORY = 'Fetch, the response itself'

/** Each is one of the transport for Fetch, unless it says another. */
const faults: Record<string, { fails: string; of?: string; change: Change }> = {
  'tells of room twice': {
    fails: 'delivers what is sent, byte for byte and in order',
    change: withSink((sink) => ({
      roomMade() {
        sink.roomMade()
        sink.roomMade()
      },
    })),
  },
  'tells nothing of a client that left': {
    fails: 'tells that the client has left while nothing is sent',
    change: withSink(() => ({ lost() {} })),
  },
  'ends in order when it is to be reset': {
    fails: 'shows an abort to the client as one, and to no other one',
    change(transport) {
      transport.reset = () => transport.end()
    },
  },
  'changes a byte': {
    fails: 'delivers what is sent, byte for byte and in order',
    change(transport) {
      const { write } = transport
      transport.write = (chunk) => {
        const bytes = chunk.bytes.map((byte) => (byte === 'x'.charCodeAt(0) ? byte + 1 : byte))
        return write.call(transport, { bytes, http1: chunk.http1, byteLength: chunk.byteLength } as Chunk)
      }
    },
  },
  'says that it is too late for another answer': {
    fails: 'answers 204 in place of a stream whose head has not left',
    change(transport) {
      const { open } = transport
      let isOpen = false
      transport.open = (answer) => {
        const isFirst = !isOpen
        isOpen = true
        return isFirst && open.call(transport, answer)
      }
    },
  },
  'resets the connection behind the end': {
    fails: 'gives a client that reads late all that was accepted, and the end in order',
    of: 'node:http',
    change: withEnd((transport, end) => {
      end()
      transport.reset()
    }),
  },
  'destroys the response instead of an end': {
    fails: 'ends the response after what was accepted',
    of: 'node:http',
    change: withEnd((transport) => transport.reset()),
  },
  'tells of the end before what was written has left': {
    fails: 'gives a client that reads late all that was accepted, and the end in order',
    change(transport) {
      let sink: TransportSink | undefined
      const { attach, end, write } = transport
      const kept: Chunk[] = []
      let isWaiting = false
      let isEnding = false
      const giveMore = () => {
        isWaiting = false
        for (;;) {
          const chunk = kept.shift()
          if (chunk === undefined) break
          isWaiting = !write.call(transport, chunk)
          if (isWaiting) return
        }
        if (isEnding) end.call(transport)
      }
      transport.attach = (given) => {
        sink = given
        const told = { roomMade: giveMore, ended() {}, lost: given.lost.bind(given) }
        attach.call(transport, told)
      }
      transport.write = (chunk) => {
        kept.push(chunk)
        if (!isWaiting) giveMore()
        return true
      }
      transport.end = () => {
        isEnding = true
        if (!isWaiting) giveMore()
        sink?.ended()
      }
      transport.detach = () => {}
    },
  },
  'never tells of the end': {
    fails: 'ends the response after what was accepted',
    change: withSink(() => ({ ended() {} })),
  },
  'never tells of the end, but that the response has closed': {
    fails: 'ends the response after what was accepted',
    of: 'node:http',
    change: withSink(() => ({ ended() {} })),
  },
  'does not look whether the client has left before': {
    fails: 'tells at once of a client that has left before',
    change(transport) {
      const { attach } = transport
      transport.attach = (sink) => {
        let isAttaching = true
        attach.call(transport, {
          roomMade: () => sink.roomMade(),
          ended: () => sink.ended(),
          lost: (...of) => isAttaching || sink.lost(...of),
        })
        isAttaching = false
      }
    },
  },
  'leaves a listener on the socket': {
    fails: 'ends the response after what was accepted',
    of: 'node:http',
    change(transport, { listenedTo = [] }) {
      const { attach } = transport
      transport.attach = (sink) => {
        for (const target of listenedTo) if (target instanceof Socket) target.on('close', () => {})
        attach.call(transport, sink)
      }
    },
  },
  'leaves a listener on the signal of the request': {
    fails: 'ends the response after what was accepted',
    change(transport, { listenedTo = [] }) {
      const { attach } = transport
      transport.attach = (sink) => {
        for (const target of listenedTo) {
          if (target instanceof AbortSignal) target.addEventListener('abort', () => {})
        }
        attach.call(transport, sink)
      }
    },
  },
}

describe('the conformance suite fails a transport that', () => {
  it.each(Object.entries(faults))(
    '%s',
    async (_, { fails, of = IN_MEMORY, change }) => {
      const found = transportConformance(broken(of, change)).find(({ name }) => name === fails)
      await expect(found?.run()).rejects.toThrow()
    },
    30_000,
  )
})
