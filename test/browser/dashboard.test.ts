import { spawn } from 'node:child_process'
import { appendFile, readdir, rename, truncate, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { describe, expect, inject, it, onTestFinished } from 'vitest'
import { openPage } from '../support/chromium.js'
import { connect, type TestClient } from '../support/client.js'
import { makeFolder, type RunningExample, startExample } from '../support/example.js'
import { serve } from '../support/server.js'
import { until } from '../support/until.js'

const CUTS = 5
const TABS = 4

/** Keeps every text that the status has shown, however shortly. */
const RECORD_STATUSES = `addEventListener('DOMContentLoaded', () => {
  globalThis.statuses = []
  new MutationObserver((records) => {
    for (const { addedNodes } of records) for (const node of addedNodes) statuses.push(node.textContent)
  }).observe(document.getElementById('status'), { childList: true })
})`

describe('the dashboard example', { timeout: 60_000 }, () => {
  it('shows moving figures, new log lines and the state of its connection', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, 'a line from before\n')
    const { url } = await startDashboard(['--log', logPath])
    const page = await openPage()
    const errors: unknown[] = []
    page.on('pageerror', (error) => errors.push(error))
    await page.goto(url)

    await logLine(page, 'a line from before').waitFor()
    await appendFile(logPath, 'a marker <img src=x onerror="alert(1)">\n')
    await logLine(page, 'a marker <img src=x onerror="alert(1)">').waitFor()

    const first = await shownEventNumber(page)
    await eventually(() => shownEventNumber(page)).toBeGreaterThan(first)
    for (const figure of ['cpu', 'memory', 'disk']) {
      expect(await text(page, figure)).toMatch(/^\d+\.\d %$/)
    }
    expect(await page.locator('#plot').getAttribute('aria-label')).toMatch(/^CPU \d+ %, memory \d+ % now$/)
    expect(await plottedPixels(page)).toBeGreaterThan(0)
    if (process.platform === 'linux') expect(await page.locator('#processes tbody tr').count()).toBe(8)

    expect(await text(page, 'status')).toBe('connected')
    expect(await text(page, 'phase')).toBe('flowing')
    expect(await text(page, 'queue')).toMatch(/^\d+ events, \d+/)
    expect(await text(page, 'dropped')).toBe('0')
    expect(await text(page, 'last-id')).toMatch(/^[\w.-]+-\d+$/)
    expect(errors).toEqual([])
  })

  it('loses and doubles nothing when the connection is cut and resumes', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, '')
    const { url } = await startDashboard(['--log', logPath])
    const page = await openPage()
    await page.addInitScript(RECORD_STATUSES)
    await page.goto(url)
    for (let cuts = 1; cuts <= CUTS; cuts += 1) {
      await eventually(() => text(page, 'phase')).toBe('flowing')
      await page.locator('#cut').click()
      await eventually(() => page.evaluate('statuses.length')).toBeGreaterThanOrEqual(2 * cuts)
      await appendFile(logPath, `line ${cuts}, written while the page is away\n`)
      await logLine(page, `line ${cuts}, written while the page is away`).waitFor()
      await eventually(() => text(page, 'reconnects')).toBe(String(cuts))
      // The event that was accepted when the connection was cut, at least.
      await eventually(() => text(page, 'replayed')).toMatch(/^[1-9]\d*$/)
    }

    const received = await receivedBy(page)
    expect(received.length).toBeGreaterThan(3 * CUTS)
    expect(received).toEqual(Array.from(received, (_, index) => (received[0] as number) + index))
    expect(await text(page, 'reconnects')).toBe(String(CUTS))
    expect([await text(page, 'missed'), await text(page, 'repeated'), await text(page, 'gaps')]).toEqual([
      '0',
      '0',
      '0',
    ])
    expect(await page.evaluate('statuses')).toEqual([
      'connected',
      ...Array.from({ length: CUTS }, () => ['reconnecting', 'connected']).flat(),
    ])
    expect(await page.locator('#log li').allTextContents()).toEqual(
      Array.from({ length: CUTS }, (_, index) => `line ${index + 1}, written while the page is away`),
    )
  })

  it('shows several tabs the same, each event once, whichever of them is cut', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, 'a line from before\n')
    const { url } = await startDashboard(['--log', logPath])
    const tabs = await openTabs(TABS)
    for (const tab of tabs) {
      await tab.addInitScript(RECORD_STATUSES)
      await tab.goto(url)
    }
    const [steady, ...unlucky] = tabs as [Page, ...Page[]]
    for (const tab of tabs) await eventually(() => text(tab, 'readers')).toBe(String(TABS))

    for (let cuts = 1; cuts <= CUTS; cuts += 1) {
      // One after another, and all at once at the end.
      const cutNow = cuts === CUTS ? unlucky : [unlucky[cuts % unlucky.length] as Page]
      const before = await Promise.all(tabs.map((tab) => text(tab, 'reconnects')))
      for (const tab of cutNow) await eventually(() => text(tab, 'phase')).toBe('flowing')
      await Promise.all(cutNow.map((tab) => tab.locator('#cut').click()))
      await appendFile(logPath, `line ${cuts}\n`)
      for (const tab of tabs) {
        await logLine(tab, `line ${cuts}`).waitFor()
        const reconnects = Number(before[tabs.indexOf(tab)]) + (cutNow.includes(tab) ? 1 : 0)
        await eventually(() => text(tab, 'reconnects')).toBe(String(reconnects))
      }
    }

    const wholeLog = [
      'a line from before',
      ...Array.from({ length: CUTS }, (_, index) => `line ${index + 1}`),
    ]
    for (const tab of tabs) {
      expect(await tab.locator('#log li').allTextContents()).toEqual(wholeLog)
      const received = await receivedBy(tab)
      expect(received.length).toBeGreaterThan(2 * CUTS)
      expect(received).toEqual(Array.from(received, (_, index) => (received[0] as number) + index))
      expect([await text(tab, 'missed'), await text(tab, 'repeated'), await text(tab, 'gaps')]).toEqual([
        '0',
        '0',
        '0',
      ])
    }
    expect(await steady.evaluate('statuses')).toEqual(['connected'])
    expect(await text(steady, 'replayed')).toBe('0')
  })

  it('begins in a tab that is opened late with what the others show', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, '')
    const { url } = await startDashboard(['--log', logPath])
    const [early, late] = (await openTabs(2)) as [Page, Page]
    await early.goto(url)
    await eventually(() => text(early, 'phase')).toBe('flowing')
    await appendFile(logPath, Array.from({ length: 150 }, (_, index) => `line ${index + 1}\n`).join(''))
    await logLine(early, 'line 150').waitFor()
    await late.goto(url)
    await logLine(late, 'line 150').waitFor()
    await appendFile(logPath, 'line 151\n')
    for (const tab of [early, late]) {
      await logLine(tab, 'line 151').waitFor()
      expect(await tab.locator('#log li').allTextContents()).toEqual(
        Array.from({ length: 100 }, (_, index) => `line ${index + 52}`),
      )
    }
    expect([await text(late, 'missed'), await text(late, 'repeated'), await text(late, 'gaps')]).toEqual([
      '0',
      '0',
      '0',
    ])
    await eventually(() => plottedPixels(late)).toBeGreaterThan(0)
  })

  it('tells a page whose server was restarted that its history is gone', async () => {
    const { example, url } = await startDashboard()
    const page = await openPage()
    await page.goto(url)
    await eventually(() => text(page, 'phase')).toBe('flowing')
    await end(example, 'SIGTERM')
    await eventually(() => text(page, 'status')).toBe('reconnecting')
    await startDashboard(['--port', new URL(url).port])
    await eventually(() => text(page, 'gaps')).toBe('1')
    await eventually(() => text(page, 'phase')).toBe('flowing')
    expect(await text(page, 'notice')).toContain('other-epoch')
    expect([await text(page, 'missed'), await text(page, 'repeated')]).toEqual(['0', '0'])
  })

  it('keeps the last 100 log lines', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, '')
    const { url } = await startDashboard(['--log', logPath])
    const page = await openPage()
    await page.goto(url)
    await eventually(() => text(page, 'phase')).toBe('flowing')
    await appendFile(logPath, Array.from({ length: 250 }, (_, index) => `line ${index + 1}\n`).join(''))
    await logLine(page, 'line 250').waitFor()
    expect(await page.locator('#log li').allTextContents()).toEqual(
      Array.from({ length: 100 }, (_, index) => `line ${index + 151}`),
    )
    expect([await text(page, 'missed'), await text(page, 'repeated')]).toEqual(['0', '0'])
  })

  it.each(['light', 'dark'] as const)('fits a narrow window, %s', async (colorScheme) => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, `${'x'.repeat(1500)}\n`)
    const { url } = await startDashboard(['--log', logPath])
    const page = await openPage({ viewport: { width: 320, height: 640 }, colorScheme })
    await page.goto(url)
    await logLine(page, 'xxx').waitFor()
    await eventually(() => text(page, 'phase')).toBe('flowing')
    const tooWide = await page.evaluate(`[...document.body.querySelectorAll('*')]
      .filter((element) => {
        const { left, right } = element.getBoundingClientRect()
        const scrolls = getComputedStyle(element).overflowX === 'auto'
        return left < 0 || right > innerWidth || (scrolls && element.scrollWidth > element.clientWidth)
      })
      .map((element) => element.outerHTML.slice(0, 100))`)
    expect(tooWide).toEqual([])
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(320)
  })

  it('prints a curl command that shows the stream, and follows its own access log', async () => {
    const { example } = await startDashboard()
    const words = /curl (-N \S+)/.exec(example.output)?.[1]?.split(' ') ?? []
    const curl = spawn(inject('curlPath'), ['--silent', ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
    const curlEnded = new Promise((resolve) => curl.once('close', resolve))
    onTestFinished(async () => {
      curl.kill('SIGKILL')
      await curlEnded
    })
    let seen = ''
    curl.stdout.setEncoding('utf8').on('data', (part: string) => {
      seen += part
    })
    await until(() => /event: figures\n.*\n\n/.test(seen) && / opened"\}\n\n/.test(seen))
    expect(seen).toMatch(/^retry: 1000\nevent: connected\ndata: \{"sessionId":"[0-9a-f-]{36}"\}\n\n/)
    expect(seen).toMatch(/\n\nevent: snapshot\ndata: \{"lastNumber":\d.*\n\nid: \S+-\d\nevent: position\n/)
    expect(seen).toMatch(/\n\nevent: connection\ndata: \{"sessionId":.*"phase":"\w+".*"readers":1\}\n\n/)
    expect(seen).toMatch(/\n\nid: \S+-\d\nevent: figures\ndata: \{"n":\d,"at":\d+,.*"cpuPercent":\d/)
    expect(seen).toMatch(
      /\n\nid: \S+-\d\nevent: line\ndata: \{"n":\d,"text":"\S+ stream [0-9a-f]{8} opened"\}/,
    )
  })

  it('goes on with a log file that is missing at first, is cut short, or is replaced', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    const { url } = await startDashboard(['--log', logPath])
    const client = await connect(`${url}events`)
    await client.until(() => lines(client).length === 0 && client.events.length > 1)
    await writeFile(logPath, 'one\ntwo, with an ä\npart of thr')
    await until(() => lines(client).length === 2)
    await appendFile(logPath, 'ee\n')
    await until(() => lines(client).length === 3)
    await truncate(logPath)
    await appendFile(logPath, 'four\n')
    await until(() => lines(client).length === 4)
    await rename(logPath, `${logPath}.1`)
    await writeFile(logPath, 'five, in a file that is longer than the one before was when it was replaced\n')
    await until(() => lines(client).length === 5)
    await appendFile(logPath, 'six\n')
    await until(() => lines(client).length === 6)
    expect(lines(client).map((line) => line.split(',')[0])).toEqual([
      'one',
      'two',
      'part of three',
      'four',
      'five',
      'six',
    ])
    expect(lines(client)[1]).toBe('two, with an ä')
  })

  it('starts with the end of a long log file, at a whole line', async () => {
    const logPath = join(await makeFolder(), 'app.log')
    await writeFile(logPath, Array.from({ length: 100_000 }, (_, index) => `line ${index + 1}\n`).join(''))
    const { url } = await startDashboard(['--log', logPath])
    const client = await connect(`${url}events`)
    await until(() => lines(client).at(-1) === 'line 100000')
    const all = lines(client)
    expect(all.length).toBeLessThan(1000)
    expect(all).toEqual(Array.from(all, (_, index) => `line ${100_000 - all.length + 1 + index}`))
  })

  it('has room for 100 sessions, and for another one when one of them has left', async () => {
    const { url } = await startDashboard()
    const streamOf = (session: string) => `${url}events?session=${session}`
    const [first, ...others] = Array.from({ length: 100 }, () => crypto.randomUUID()) as [string, ...string[]]
    const leaver = await connect(streamOf(first))
    for (const session of others) await connect(streamOf(session))
    expect(await statusOf(streamOf(crypto.randomUUID()))).toBe(503)
    leaver.leave()
    await eventually(() => statusOf(streamOf(crypto.randomUUID()))).toBe(200)
  })

  it.each(['SIGTERM', 'SIGINT'] as const)('ends on %s, and leaves no file behind', async (signal) => {
    const { example, url } = await startDashboard()
    const client = await connect(`${url}events`)
    await client.until((events) => events.some(({ event }) => event === 'figures'))
    expect(await readdir(example.temporaryFolder)).toHaveLength(1)
    await end(example, signal)
    expect(example.exit).toBe(0)
    expect(await readdir(example.temporaryFolder)).toEqual([])
    await until(() => client.closed)
    expect(client.ended).toBe(true)
  })

  it('says so and ends when the port it is told to use is taken', async () => {
    const { port } = await serve(() => {})
    const example = await startExample('dashboard/server.js', ['--port', String(port)])
    await until(() => example.exit !== null)
    expect(example.exit).toBe(1)
    expect(example.output).toMatch(`Port ${port} cannot be had: listen EADDRINUSE`)
    expect(await readdir(example.temporaryFolder)).toEqual([])
  })

  it.each([
    [['--port', 'http'], "The port is 'http'"],
    [['--port', '65536'], "The port is '65536'"],
    [['--log', '.'], 'is no file'],
    [['--colour'], "Unknown option '--colour'"],
  ])('refuses the arguments %j and says why', async (args, why) => {
    const example = await startExample('dashboard/server.js', args)
    await until(() => example.exit !== null)
    expect(example.exit).toBe(1)
    expect(example.output).toContain(why)
    expect(example.output).not.toContain('at ')
  })

  it('answers to no other name than localhost, so that no web site can read the figures', async () => {
    const { url } = await startDashboard()
    expect(await statusOf(url, { headers: { host: 'rebound.example' } })).toBe(403)
    expect(await statusOf(`${url}events`, { headers: { host: 'rebound.example' } })).toBe(403)
    expect(await statusOf(`${url}events?session=mine`)).toBe(400)
    expect(await statusOf(`${url}cut?session=${crypto.randomUUID()}`, { method: 'POST' })).toBe(404)
    expect(await statusOf(`${url}..%2Fserver.js`)).toBe(404)
  })
})

async function startDashboard(args: string[] = []): Promise<{ example: RunningExample; url: string }> {
  const example = await startExample('dashboard/server.js', args)
  await until(() => example.output.includes('Ctrl-C') || example.exit !== null, 'the example has started')
  const url = /page +(http:\S+)/.exec(example.output)?.[1]
  if (url === undefined) throw new Error(`The example did not start:\n${example.output}`)
  return { example, url }
}

async function end(example: RunningExample, signal: NodeJS.Signals): Promise<void> {
  example.child.kill(signal)
  await until(() => example.exit !== null, `the example has ended after ${signal}`)
}

/** An expectation that is tried until it holds. */
function eventually<T>(value: () => Promise<T>) {
  return expect.poll(value, { timeout: 20_000 })
}

async function text(page: Page, id: string): Promise<string | null> {
  return page.locator(`#${id}`).textContent()
}

function logLine(page: Page, line: string) {
  return page.locator('#log li', { hasText: line })
}

async function shownEventNumber(page: Page): Promise<number> {
  await page.locator('#plot-event', { hasText: /^event \d/ }).waitFor()
  return Number(/^event (\d+)/.exec((await text(page, 'plot-event')) ?? '')?.[1])
}

/** How many pixels of the plot have the colour of the CPU's line. */
async function plottedPixels(page: Page): Promise<number> {
  return (await page.evaluate(`(() => {
    const canvas = document.getElementById('plot')
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    const wanted = getComputedStyle(document.querySelector('.key.cpu')).backgroundColor.match(/\\d+/g).map(Number)
    let found = 0
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] === 255 && wanted.every((value, index) => data[at + index] === value)) found += 1
    }
    return found
  })()`)) as number
}

/** The lines of the log, those of the snapshot included. */
function lines(client: TestClient): string[] {
  return client.events
    .filter(({ event }) => event === 'line' || event === 'earlier-line')
    .map(({ data }) => JSON.parse(data).text)
}

/** The numbers of the events that a page has got since its snapshot. */
async function receivedBy(page: Page): Promise<number[]> {
  return (await page.evaluate('window.received')) as number[]
}

/** Tabs of one browser, which share its connections. */
async function openTabs(count: number): Promise<Page[]> {
  const browser = (await openPage()).context().browser() as Browser
  const context = await browser.newContext()
  context.setDefaultTimeout(20_000)
  return Promise.all(Array.from({ length: count }, () => context.newPage()))
}

async function statusOf(
  url: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request(url, { agent: false, ...options }, (response) => {
      response.destroy()
      resolve(response.statusCode)
    })
      .once('error', reject)
      .end()
  })
}
