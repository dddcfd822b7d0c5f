import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { type Chunk, SSEHandler, type SSEHandlerOptions, type StreamRequest } from 'sluice'
import { expect } from 'vitest'
import { ManualClock } from './clock.js'
import { FakeTransport, turns } from './fake-transport.js'

/** A fake transport that keeps the chunks it was written. */
class ReaderTransport extends FakeTransport {
  readonly written: Chunk[] = []

  override write(chunk: Chunk): boolean {
    this.written.push(chunk)
    return super.write(chunk)
  }
}

/** A client of a channel over a fake transport. */
export interface Reader {
  readonly sse: SSEHandler
  readonly transport: ReaderTransport
  readonly clock: ManualClock
  /** All that was written to it, read as a client does, but for the event `connected`. */
  readonly events: EventSourceMessage[]
  /** The data of those. */
  readonly data: string[]
  /** What it would send as Last-Event-ID. */
  readonly lastEventId: string
}

export interface ReaderOptions extends SSEHandlerOptions {
  lastEventId?: string | undefined
  clock?: ManualClock | undefined
  /** Whether its transport takes nothing until it is told to. */
  isSlow?: boolean
}

/** Connects a client that follows nothing yet. It has no heartbeat unless it is given one. */
export function connectReader(options: ReaderOptions = {}): Reader {
  const { lastEventId, clock = new ManualClock(), isSlow = false, ...rest } = options
  const transport = new ReaderTransport()
  transport.takesAtOnce = !isSlow
  const request: StreamRequest = {
    method: 'GET',
    url: '/',
    header: (name) => (name === 'last-event-id' ? lastEventId : undefined),
  }
  const sse = new SSEHandler(transport, request, { clock, heartbeat: { format: 'none' }, ...rest })
  return {
    sse,
    transport,
    clock,
    get events() {
      return parsed(transport.text).filter(({ event }) => event !== 'connected')
    },
    get data() {
      return this.events.map(({ data }) => data)
    },
    get lastEventId() {
      return parsed(transport.text).reduce((last, { id }) => id ?? last, lastEventId ?? '')
    },
  }
}

/** Reads a stream as a client does: what has not ended yet is no event. */
export function parsed(text: string): EventSourceMessage[] {
  const events: EventSourceMessage[] = []
  createParser({ onEvent: (event) => void events.push(event) }).feed(text)
  return events
}

/** Lets what is due be written, that which waits for the end of a flush interval included. */
export async function settle(...clocks: ManualClock[]): Promise<void> {
  await turns(3)
  for (const clock of clocks) clock.advance(2)
  await turns(3)
}

/** The whole numbers from one to another, both included. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)
}

export const texts = (numbers: readonly number[]): string[] => numbers.map(String)

export const hasCode = (code: string) => expect.objectContaining({ name: 'SSEError', code })
