import { createSSEResponse } from 'sluice'
import { lookUpSession, play } from '../../../stage.js'

export async function GET(request) {
  await lookUpSession()
  const exchange = createSSEResponse(request)
  play(exchange.sse)
  return exchange.response
}
