// An open connection and nothing else, kept until it closes: in a set, or by a channel that it follows. Each makes
// - `keep(req, res)`: answers a request;
// - `count()`: how many are kept.
const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

const KEEPERS = {
  async sluice() {
    const { createSSEHandler } = await import('sluice')
    const kept = new Set()
    return {
      keep(req, res) {
        const sse = createSSEHandler(req, res)
        kept.add(sse)
        sse.on('closed', () => kept.delete(sse))
        return { sse }
      },
      count: () => kept.size,
    }
  },

  async 'sluice channel'() {
    const { createChannel, createSSEHandler } = await import('sluice')
    const channel = createChannel()
    return {
      keep(req, res) {
        const sse = createSSEHandler(req, res)
        channel.subscribe(sse)
        return { sse, channel }
      },
      count: () => channel.stats().readers,
    }
  },

  'bare ServerResponse'() {
    const kept = new Set()
    return {
      keep(_req, res) {
        res.writeHead(200, STREAM_HEADERS)
        res.write('retry: 2000\n\n')
        kept.add(res)
        res.on('close', () => kept.delete(res))
      },
      count: () => kept.size,
    }
  },

  async 'better-sse session'() {
    const { createSession } = await import('better-sse')
    const kept = new Set()
    return {
      async keep(req, res) {
        const session = await createSession(req, res)
        kept.add(session)
        session.on('disconnected', () => kept.delete(session))
      },
      count: () => kept.size,
    }
  },

  async 'better-sse channel'() {
    const { createChannel, createSession } = await import('better-sse')
    const channel = createChannel()
    return {
      async keep(req, res) {
        channel.register(await createSession(req, res))
      },
      count: () => channel.sessionCount,
    }
  },
}

export function keeperOf(name) {
  return KEEPERS[name]()
}
