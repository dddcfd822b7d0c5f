import { register } from 'prom-client'
import type { HttpRequest, HttpResponse } from 'sluice'
import type { MetricsRegistry } from './register.js'

/** Options of `createMetricsHandler`. */
export interface MetricsHandlerOptions {
  /** What is shown, all of it. Default: the default registry of prom-client, `register`. */
  registry?: MetricsRegistry | undefined
}

/**
 * Makes a handler that answers a scrape with all metrics of a registry, in the format of the registry. It shows them to
 * whoever asks: put it on a port of its own, or behind what decides who may.
 */
export function createMetricsHandler(
  options: MetricsHandlerOptions = {},
): (req: HttpRequest, res: HttpResponse) => Promise<void> {
  const registry = options.registry ?? register
  return async (_req, res) => {
    try {
      const text = await registry.metrics()
      res.writeHead(200, { 'Content-Type': registry.contentType, 'Cache-Control': 'no-store' })
      res.end(text)
    } catch (error) {
      // A metric of somebody else's may throw. The scraper is told that it failed, and the operator why.
      process.emitWarning(String(error), { type: 'SSEWarning', detail: 'while metrics were collected' })
      res.writeHead(500, { 'Content-Type': 'text/plain; charset=utf-8' })
      res.end('The metrics could not be collected.\n')
    }
  }
}
