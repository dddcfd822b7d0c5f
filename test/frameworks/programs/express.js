import compression from 'compression'
import express from 'express'
import session from 'express-session'
import { createSSEHandler } from 'sluice'
import { lookUpSession, play, ready, TEXT, wants } from './stage.js'

class SlowStore extends session.MemoryStore {
  get(id, callback) {
    lookUpSession().then(() => super.get(id, callback))
  }
}

const app = express()
if (wants('compression')) app.use(compression())
app.use(session({ secret: 'test', resave: false, saveUninitialized: true, store: new SlowStore() }))
app.get('/text', (_, res) => void res.type('text').send(TEXT))
app.get('/events', (req, res) => {
  req.session.visits = (req.session.visits ?? 0) + 1
  play(createSSEHandler(req, res))
})

const server = app.listen(0, '127.0.0.1', () => ready(server))
