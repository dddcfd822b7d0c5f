// Runs before a snippet, in its process: has its server listen on a free port of this machine, and tells the
// parent process which, and which of its responses have closed.
import { subscribe } from 'node:diagnostics_channel'
import { Server } from 'node:net'

const { listen } = Server.prototype

Server.prototype.listen = function listenOnFreePort(...args) {
  this.once('listening', () => tell({ port: this.address().port }))
  return listen.call(
    this,
    0,
    '127.0.0.1',
    args.find((argument) => typeof argument === 'function'),
  )
}

subscribe('http.server.request.start', ({ response }) => {
  response.once('close', () => tell({ closed: true }))
})

function tell(message) {
  if (process.connected) process.send(message)
}

// Nothing is left behind when the tests are stopped half-way; but this does not keep a snippet from ending.
process.once('disconnect', () => process.exit())
process.channel.unref()
