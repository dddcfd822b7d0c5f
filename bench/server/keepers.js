// An open connection and nothing else, kept in a set until it closes.
const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

const KEEPERS = {
  async sluice(kept) {
    const { createSSEHandler } = await import('sluice')
    return (req, res) => {
      const sse = createSSEHandler(req, res)
      kept.add(sse)
      sse.on('closed', () => kept.delete(sse))
      return sse
    }
  },

  'bare ServerResponse'(kept) {
    return (_req, res) => {
      res.writeHead(200, STREAM_HEADERS)
      res.write('retry: 2000\n\n')
      kept.add(res)
      res.on('close', () => kept.delete(res))
    }
  },

  async 'better-sse session'(kept) {
    const { createSession } = await import('better-sse')
    return async (req, res) => {
      const session = await createSession(req, res)
      kept.add(session)
      session.on('disconnected', () => kept.delete(session))
    }
  },
}

export function keeperOf(name, kept) {
  return KEEPERS[name](kept)
}
