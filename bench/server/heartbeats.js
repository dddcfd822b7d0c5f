// Connections on which nothing happens but heartbeats, all due at the same moment: an event to all at once has seen to that.
import { monitorEventLoopDelay } from 'node:perf_hooks'

const STREAM_HEADERS = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache, no-transform' }

const PEERS = {
  async sluice({ intervalMs }) {
    const { createSluice } = await import('sluice')
    const sluice = createSluice({ heartbeat: { intervalMs } })
    const kept = new Set()
    let beats = 0
    return {
      keep(req, res) {
        const sse = sluice.open(req, res)
        kept.add(sse)
        sse.on('heartbeat', () => {
          beats += 1
        })
      },
      sendToAll() {
        for (const sse of kept) sse.trySend({ data: 'x' })
      },
      count: () => kept.size,
      beats: () => beats,
    }
  },

  'one timer, res.write to all'({ intervalMs }) {
    const kept = new Set()
    let beats = 0
    return {
      keep(_req, res) {
        res.writeHead(200, STREAM_HEADERS)
        res.write('retry: 2000\n\n')
        kept.add(res)
      },
      sendToAll() {
        for (const res of kept) res.write('data: x\n\n')
        setInterval(() => {
          for (const res of kept) res.write(': \n\n')
          beats += kept.size
        }, intervalMs)
      },
      count: () => kept.size,
      beats: () => beats,
    }
  },
}

export async function createPeer(name, size) {
  const { keep, sendToAll, count, beats } = await PEERS[name](size)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  return {
    handle: keep,
    state: () => ({ kept: count(), beats: beats() }),
    answers: {
      sendToAll,
      watchLoop() {
        delay.enable()
        delay.reset()
      },
      longestBlockMs: () => delay.max / 1e6,
    },
  }
}
