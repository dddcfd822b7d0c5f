import SSEChannel from 'sse-channel'
import { EVENT_NAME } from '../lib/events.js'

/** The longest that a timer takes: it has no way to send none. */
const NEVER_MS = 2 ** 31 - 1

export function createPeer({ history }) {
  const channel = new SSEChannel({ jsonEncode: true, pingInterval: NEVER_MS, historySize: history })
  return {
    handle: (req, res) => channel.addClient(req, res),
    publish(turn) {
      for (const data of turn) channel.send({ id: data.seq + 1, event: EVENT_NAME, data })
    },
    readers: () => channel.getConnectionCount(),
  }
}
