import { appendFile, writeFile } from 'node:fs/promises'
import { type ClientRequest, get, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { createParser } from 'eventsource-parser'
import { expect, it, onTestFinished } from 'vitest'
import { makeFolder, startExample } from '../support/example.js'
import { until } from '../support/until.js'

const CLIENTS = 500
const RECONNECT_WITHIN_MS = 5000

/** Reconnects as a browser's EventSource does: after the delay it was told, with the id it got last. */
class ReconnectingClient {
  readonly lines: number[] = []
  /** When it came back after the end of a stream, in milliseconds since that end. */
  readonly cameBackAfterMs: number[] = []
  connections = 0
  gaps = 0
  #lastEventId = ''
  #retryMs = 2000
  #request: ClientRequest | null = null
  #timer: NodeJS.Timeout | null = null
  #endedAt: number | null = null

  constructor(readonly url: string) {
    this.#connect()
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#request?.destroy()
    this.#request = null
  }

  #connect(): void {
    const headers = this.#lastEventId === '' ? {} : { 'last-event-id': this.#lastEventId }
    const request = get(this.url, { agent: false, headers }, (response) => this.#read(response))
    this.#request = request
    let isOver = false
    const over = () => {
      if (isOver || this.#request !== request) return
      isOver = true
      this.#endedAt ??= performance.now()
      this.#timer = setTimeout(() => this.#connect(), this.#retryMs)
    }
    request.on('error', over).on('close', over)
  }

  #read(response: IncomingMessage): void {
    this.connections += 1
    if (this.#endedAt !== null) this.cameBackAfterMs.push(performance.now() - this.#endedAt)
    this.#endedAt = null
    const parser = createParser({
      onRetry: (retryMs) => {
        this.#retryMs = retryMs
      },
      onEvent: ({ id, event, data }) => {
        if (id !== undefined) this.#lastEventId = id
        if (event === 'gap') this.gaps += 1
        if (event === 'line') this.lines.push(Number(data))
      },
    })
    response.setEncoding('utf8').on('data', (part: string) => parser.feed(part))
    response.on('error', () => {})
  }
}

it('a second instance takes 500 clients over from one that is stopped: they come back spread out, and no line is lost or doubled', async () => {
  const file = join(await makeFolder(), 'job.log')
  await writeFile(file, '')
  let written = 0
  let appending = Promise.resolve()
  const writer = setInterval(() => {
    written += 1
    const line = `${written}\n`
    appending = appending.then(() => appendFile(file, line))
  }, 20)
  onTestFinished(async () => {
    clearInterval(writer)
    await appending
  })

  const first = await startExample('job-log/server.js', [file])
  await until(() => first.output.includes('http://'), 'the first instance listens')
  const url = /http:\S+/.exec(first.output)?.[0] as string
  const clients = Array.from({ length: CLIENTS }, () => new ReconnectingClient(url))
  onTestFinished(() => {
    for (const client of clients) client.close()
  })
  await until(() => clients.every(({ lines }) => lines.length > 0), 'every client gets lines')

  first.child.kill('SIGTERM')
  await until(() => first.exit !== null, 'the first instance has ended')
  const [ended] = first.output.match(/Ended 500 streams in \d+ ms, 0 of them by force/) ?? []
  expect(ended, first.output).toBeDefined()
  expect(first.exit).toBe(0)
  const second = await startExample('job-log/server.js', [file], { env: { PORT: new URL(url).port } })
  await until(() => second.output.includes('http://'), 'the second instance listens')
  await until(() => clients.every(({ connections }) => connections === 2), 'every client is back')

  clearInterval(writer)
  await appending
  const last = written
  await until(() => clients.every(({ lines }) => lines.at(-1) === last), 'every client has the last line')
  for (const { lines, gaps } of clients) {
    const first = lines[0] as number
    expect(lines).toEqual(Array.from({ length: last - first + 1 }, (_, i) => first + i))
    expect(gaps).toBe(0)
  }
  const waits = clients.map(({ cameBackAfterMs }) => cameBackAfterMs[0] as number)
  const histogram = Array.from(
    { length: 10 },
    (_, i) => waits.filter((ms) => Math.floor(ms / (RECONNECT_WITHIN_MS / 10)) === i).length,
  )
  // 50 to each tenth of the window, were it not for chance: a herd would be all in one.
  console.log(
    `${ended}. Arrivals by ${RECONNECT_WITHIN_MS / 10} ms after the end of the stream: ${histogram.join(', ')}`,
  )
  expect(Math.max(...histogram)).toBeLessThan(CLIENTS / 4)
  expect(histogram.slice(1, 9).every((count) => count > 0)).toBe(true)
}, 60_000)
