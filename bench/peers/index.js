// One event to many readers: how each peer is written by somebody who knows it. Each module makes
// - `handle(req, res)`: answers a request and has it follow, from its Last-Event-ID where the peer keeps a history;
// - `publish(turn)`: gives every reader the events of one turn of the event loop, each the data of one event; what it
//   returns, if anything, is awaited;
// - `readers()`: how many follow.
// What does not run in this process listens for itself, and says what it takes from the machine.
// No peer sends heartbeats. All give their events ids, by which a reader could come back.
const PEERS = {
  sluice: async (size) => (await import('./sluice.js')).createPeer(size),
  'sluice, flushIntervalMs: 0': async (size) =>
    (await import('./sluice.js')).createPeer({ ...size, flushIntervalMs: 0 }),
  floor: async (size) => (await import('./floor.js')).createPeer(size),
  'res.write loop': async (size) => (await import('./response-write.js')).createPeer(size),
  'better-sse': async (size) => (await import('./better-sse.js')).createPeer(size),
  '@fastify/sse': async (size) => (await import('./fastify-sse.js')).createPeer(size),
  hono: async (size) => (await import('./hono.js')).createPeer(size),
  'sse-channel': async (size) => (await import('./sse-channel.js')).createPeer(size),
  nchan: async (size) => (await import('./nchan.js')).createPeer(size),
}

/**
 * With `size.history`, readers can come back to so many events. `size.slowConsumer` is sluice's policy for readers that
 * are too slow; its publisher then waits as that says.
 */
export function createFanOut(name, size) {
  return PEERS[name](size)
}
