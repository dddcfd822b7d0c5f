import { closeSync, existsSync, openSync, writeSync } from 'node:fs'
import { createSluice, type Logger } from 'sluice'
import { expect, it, onTestFinished } from 'vitest'
import { range } from '../support/channel.js'
import { connect } from '../support/client.js'
import { recordFault } from './faults.js'
import { CountedClock, SWEEP_MS, serveStreams } from './streams.js'

const CLIENTS = 100

/** What a logger does on each line. It counts them. */
function loggerThat(write: () => void): Logger & { lines: number } {
  const logger = {
    lines: 0,
    debug: () => line(),
    info: () => line(),
    warn: () => line(),
    error: () => line(),
  }
  function line(): void {
    logger.lines += 1
    write()
  }
  return logger
}

function throwNoSpace(): never {
  throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', errno: -28 })
}

/** A file on a disk that is full. */
function writeToFullDisk(): () => void {
  const file = openSync('/dev/full', 'w')
  onTestFinished(() => closeSync(file))
  return () => writeSync(file, 'a line\n')
}

async function useAllOf(logger: Logger): Promise<void> {
  const clock = new CountedClock()
  const sluice = createSluice({ clock, logger, heartbeat: { intervalMs: 20 }, sweepMs: SWEEP_MS })
  const streams = await serveStreams((sse) => void sse.trySend({ data: 'first' }), clock, sluice)
  const clients = await Promise.all(range(1, CLIENTS).map(() => connect(streams.url)))
  for (const client of clients) await client.until((events) => events.some(({ data }) => data === 'first'))
  for (const sse of streams.open) await sse.send({ data: 'second' })
  for (const client of clients) await client.until((events) => events.at(-1)?.data === 'second')
  for (const [i, client] of clients.entries()) {
    if (i % 2 === 0) client.leave()
  }
  for (const sse of streams.open) sse.abort()
  await streams.untilNothingIsLeft()
  expect(streams.closings).toHaveLength(CLIENTS)
}

function noteWarnings(): Error[] {
  const warnings: Error[] = []
  const note = (warning: Error) => void warnings.push(warning)
  process.on('warning', note)
  onTestFinished(() => void process.off('warning', note))
  return warnings
}

it('a logger that throws ENOSPC on every call disturbs nobody, and is told of once', async () => {
  const warnings = noteWarnings()
  const logger = loggerThat(throwNoSpace)
  await useAllOf(logger)
  expect(logger.lines).toBeGreaterThan(3 * CLIENTS)
  expect(warnings.map(({ name, message }) => [name, message.includes('ENOSPC')])).toEqual([
    ['SSEWarning', true],
  ])
  recordFault('disk-full', { timesMs: [], reasons: [], left: 'nothing; one warning' })
})

// Linux and FreeBSD have this device; elsewhere the test above has to do.
it.skipIf(!existsSync('/dev/full'))('a logger whose disk is really full disturbs nobody', async () => {
  const warnings = noteWarnings()
  const logger = loggerThat(writeToFullDisk())
  await useAllOf(logger)
  expect(logger.lines).toBeGreaterThan(3 * CLIENTS)
  expect(warnings.map(({ message }) => message.includes('ENOSPC'))).toEqual([true])
})
