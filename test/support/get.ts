import { type IncomingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'

/** A whole answer to one request, as it came. */
export async function get(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ status: number | undefined; headers: IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    request(url, { agent: false, headers }, (response) => {
      text(response).then((text) => {
        resolve({ status: response.statusCode, headers: response.headers, text })
      }, reject)
    })
      .once('error', reject)
      .end()
  })
}
