import { createChannel } from 'sluice'
export const dynamic = 'force-dynamic'
const c = createChannel()
export function GET(request) {
  return new Response('hi ' + request.url + c.stats().readers)
}
