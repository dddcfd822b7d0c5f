import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { createHealthHandler, createSluice, type Logger } from 'sluice'
import { observeMetrics } from 'sluice/opentelemetry'
import { createMetricsHandler, registerMetrics } from 'sluice/prometheus'
import { expectTypeOf, it } from 'vitest'

it('handlers take what the servers of Node give', () => {
  const sluice = createSluice()
  for (const handler of [createHealthHandler(sluice), createMetricsHandler()]) {
    expectTypeOf(handler).toBeCallableWith({} as IncomingMessage, {} as ServerResponse)
    expectTypeOf(handler).toBeCallableWith({} as Http2ServerRequest, {} as Http2ServerResponse)
  }
})

it('metrics are of any Sluice, whatever its requests are', () => {
  const waiting = createSluice<Request>({ authorize: () => true })
  expectTypeOf(registerMetrics(waiting, { registry: new Registry() })).toEqualTypeOf<() => void>()
  expectTypeOf(observeMetrics(waiting)).toEqualTypeOf<() => void>()
  createHealthHandler(waiting)
})

it('loggers that are in use are loggers', () => {
  expectTypeOf(pino()).toExtend<Logger>()
  expectTypeOf(console).toExtend<Logger>()
})
