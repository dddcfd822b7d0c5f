import { createChannel, createSluice } from 'sluice'

export const sluice = createSluice()
export const ticks = createChannel()

let n = 0
const ticking = setInterval(() => {
  n += 1
  ticks.publish({ event: 'tick', data: { n } })
}, 500)
// `next build` reads this module, too.
ticking.unref()

// Next.js stops listening at SIGTERM, too, and waits for the streams.
process.once('SIGTERM', async () => {
  clearInterval(ticking)
  await sluice.shutdown()
})
