// A route handler of Next.js. Run it: npx next build examples/next && npx next start examples/next
import { sluice, ticks } from '../../ticks.js'

export const dynamic = 'force-dynamic'

export function GET(request) {
  const answer = sluice.respond(request)
  if (answer.sse !== null) {
    ticks.subscribe(answer.sse)
    answer.sse.on('closed', ({ reason }) => console.log(`A client is gone: ${reason}`))
  }
  return answer.response
}
