import { EVENT_NAME } from '../lib/events.js'
import { keeperOf } from './keepers.js'

export async function createPeer(name) {
  const kept = new Set()
  const keep = await keeperOf(name, kept)
  const used = { producersEnded: 0, signalsAborted: 0 }

  /** Uses what is made on first use and leaves a permit unused, so that there is something to be left behind. */
  async function use(sse) {
    sse.signal.addEventListener('abort', () => {
      used.signalsAborted += 1
    })
    const permit = await sse.requestSend()
    permit.send({ event: EVENT_NAME, data: {} })
    await sse.requestSend()
    await sse.closed
    used.producersEnded += 1
  }

  return {
    async handle(req, res) {
      const opened = keep(req, res)
      if (name === 'sluice') await use(opened)
    },
    state: () => ({ kept: kept.size, ...used }),
  }
}
