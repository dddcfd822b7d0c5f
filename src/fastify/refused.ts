import type { IncomingMessage } from 'node:http'
import { type EventMap, SSEHandler, type Transport } from 'sluice'

/** The response has been sent by whoever refused. */
const ANSWERED: Transport = {
  pendingBytes: 0,
  attach() {},
  open: () => true,
  write: () => true,
  end() {},
  reset() {},
  detach() {},
}

/** A handler that is closed, with the reason `refused`, as that of a HEAD request is. */
export function refusedHandler<Events extends object = EventMap>(req: IncomingMessage): SSEHandler<Events> {
  return new SSEHandler<Events>(ANSWERED, {
    method: 'HEAD',
    url: req.url ?? '/',
    header: () => undefined,
  })
}
