import { EVENT_NAME } from '../lib/events.js'
import { keeperOf } from './keepers.js'

export async function createPeer(name) {
  const { keep, count } = await keeperOf(name)
  const used = { producersEnded: 0, signalsAborted: 0 }

  /** Uses what is made on first use and leaves a permit unused, so that there is something to be left behind. */
  async function use({ sse, channel }) {
    sse.signal.addEventListener('abort', () => {
      used.signalsAborted += 1
    })
    const producer = channel ?? sse
    const permit = await producer.requestSend()
    permit.send({ event: EVENT_NAME, data: {} })
    // A channel outlives its readers, and a permit for it would too.
    if (channel === undefined) await sse.requestSend()
    await sse.closed
    used.producersEnded += 1
  }

  return {
    async handle(req, res) {
      const opened = await keep(req, res)
      if (opened?.sse !== undefined) await use(opened)
    },
    state: () => ({ kept: count(), ...used }),
  }
}
