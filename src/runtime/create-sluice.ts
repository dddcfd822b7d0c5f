import type { NodeRequest } from '../transport/node.js'
import type { SluiceOptions } from './options.js'
import { Sluice } from './sluice.js'

/**
 * Makes the supervisor of all streams of a process: limits, admission, idle and lifetime, clients that are gone without a
 * word, shutdown, and what is to be seen of all that. One is enough for a process; several know nothing of each other.
 *
 * @throws SSEError ERR_SSE_INVALID_OPTION
 */
export function createSluice<Request = NodeRequest>(
  options: SluiceOptions<Request> & { authorize: NonNullable<SluiceOptions<Request>['authorize']> },
): Sluice<Request, true>
export function createSluice<Request = NodeRequest>(
  options?: SluiceOptions<Request> & { authorize?: undefined },
): Sluice<Request>
export function createSluice<Request = NodeRequest>(options: SluiceOptions<Request>): Sluice<Request, boolean>
export function createSluice<Request>(options: SluiceOptions<Request> = {}): Sluice<Request, boolean> {
  return new Sluice(options)
}
