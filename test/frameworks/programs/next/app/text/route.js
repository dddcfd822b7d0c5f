import { lookUpSession, TEXT } from '../../../stage.js'

export async function GET() {
  await lookUpSession()
  return new Response(TEXT, { headers: { 'content-type': 'text/plain' } })
}
