export { createMetricsHandler, type MetricsHandlerOptions } from './handler.js'
export { type MetricsOptions, type MetricsRegistry, registerMetrics } from './register.js'
