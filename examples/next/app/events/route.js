// A route handler of Next.js. Run it: npx next build examples/next && npx next start examples/next
import { createFetchHandler } from 'sluice'
import { streams, ticks } from '../../ticks.js'

export const dynamic = 'force-dynamic'

export const GET = createFetchHandler((sse) => {
  ticks.subscribe(sse)
  streams.add(sse)
  sse.on('closed', ({ reason }) => {
    streams.delete(sse)
    console.log(`A client is gone: ${reason}`)
  })
})
