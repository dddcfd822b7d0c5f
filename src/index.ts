export { createMemoryLog } from './buffer/memory-log.js'
export { SSEError } from './errors.js'
export { createSSEHandler } from './transport/node.js'
