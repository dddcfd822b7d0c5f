import type { Chunk, Transport, TransportSink } from 'sluice'
import { type HarnessExchange, type TransportHarness, transportConformance } from 'sluice/testing'
import { describe, expect, it } from 'vitest'
import { harnesses } from '../support/harnesses.js'

/** The transport for Fetch with something changed. */
function broken(change: (transport: Transport) => void): TransportHarness {
  const harness = harnesses['Fetch, the response itself'] as TransportHarness
  return {
    serve: (answer) =>
      harness.serve((exchange: HarnessExchange) => {
        change(exchange.transport)
        answer(exchange)
      }),
  }
}

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

const faults: Record<string, { fails: string; change: (transport: Transport) => void }> = {
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
}

describe('the conformance suite fails a transport that', () => {
  it.each(Object.entries(faults))(
    '%s',
    async (_, { fails, change }) => {
      const found = transportConformance(broken(change)).find(({ name }) => name === fails)
      await expect(found?.run()).rejects.toThrow()
    },
    30_000,
  )
})
