import { type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { inject, onTestFinished } from 'vitest'

const ARGUMENTS = [
  // Containers often let a browser make no sandbox; what it opens here is our own.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** An empty page in a headless Chromium of its own; gone when the test ends. */
export async function openPage(options: BrowserContextOptions = {}): Promise<Page> {
  const browser = await chromium.launch({ executablePath: inject('chromiumPath'), args: ARGUMENTS })
  onTestFinished(() => browser.close())
  const page = await browser.newPage(options)
  page.setDefaultTimeout(20_000)
  return page
}
