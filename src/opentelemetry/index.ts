export { type ObserveOptions, observeMetrics } from './observe.js'
