import compress from '@fastify/compress'
import Fastify from 'fastify'
import { fastifySSE } from 'sluice/fastify'
import { lookUpSession, play, ready, TEXT, wants } from './stage.js'

const app = Fastify()
if (wants('compression')) await app.register(compress)
app.register(fastifySSE)
app.addHook('onRequest', lookUpSession)
app.get('/text', () => TEXT)
app.get('/events', (_, reply) => void play(reply.sse()))

await app.listen({ port: 0, host: '127.0.0.1' })
ready(app.server, () => app.close())
