export { type FastifySSEOptions, fastifySSE, type StreamOpener } from './plugin.js'
