// Shows how the machine it runs on is doing, live, and follows a growing log file:
//   npm start                       (builds, then runs this)
//   npm start -- --port 9000 --log /var/log/syslog
import { accessSync, constants, mkdtempSync, rmSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createAccessLog, noAccessLog } from './access-log.js'
import { createFeed } from './feed.js'
import { createStreams, isSessionId } from './streams.js'

const DEFAULT_PORT = 8080

const FILES = new Map([
  ['/', ['page.html', 'text/html; charset=utf-8']],
  ['/page.css', ['page.css', 'text/css; charset=utf-8']],
  ['/page.js', ['page.js', 'text/javascript; charset=utf-8']],
])

const { wantedPort, logPath, accessLog } = readSettings()
const feed = createFeed(logPath, (error) => {
  console.error(error)
  streams.notify('A producer of the server failed, and is started anew; the terminal of the server says why.')
})
const streams = createStreams(feed, accessLog)
const server = createServer((req, res) => {
  res.on('finish', () => accessLog.write(`${req.method} ${pathOf(req).slice(0, 200)} ${res.statusCode}`))
  answer(req, res).catch((error) => {
    console.error(error)
    if (res.headersSent) res.destroy()
    else sendText(res, 500, 'The server failed to answer; its terminal says why.')
  })
})

process.once('SIGINT', shutDown)
process.once('SIGTERM', shutDown)
await listen()
sayHello()

function readSettings() {
  const values = readArguments()
  const given = values.port ?? process.env.PORT ?? ''
  const wantedPort = { port: given === '' ? DEFAULT_PORT : Number(given), isDefault: given === '' }
  if (!/^\d*$/.test(given) || wantedPort.port > 65_535) {
    stopWith(`The port is '${given}'; expected a whole number from 0 (any free one) to 65535.`)
  }
  if (values.log !== undefined) {
    const logPath = resolve(values.log)
    checkReadable(logPath)
    return { wantedPort, logPath, accessLog: noAccessLog }
  }
  const folder = mkdtempSync(join(tmpdir(), 'sluice-dashboard-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  const logPath = join(folder, 'access.log')
  return { wantedPort, logPath, accessLog: createAccessLog(logPath) }
}

function readArguments() {
  try {
    return parseArgs({ options: { port: { type: 'string' }, log: { type: 'string' } } }).values
  } catch (error) {
    return stopWith(`${error.message}\nExpected: [--port NUMBER] [--log FILE]`)
  }
}

/** A file that does not exist is waited for. */
function checkReadable(path) {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isFile()) stopWith(`${path} is no file, so it cannot be followed.`)
  try {
    accessSync(path, constants.R_OK)
  } catch (error) {
    stopWith(`The log file cannot be read: ${error.message}`)
  }
}

async function answer(req, res) {
  const path = pathOf(req)
  const session = new URLSearchParams(req.url.slice(path.length)).get('session')
  // Another name that leads here may be a web site's trick to read this machine's figures (DNS rebinding).
  if (!/^(localhost|127\.0\.0\.1)(:\d+)?$/.test(req.headers.host ?? '')) {
    return sendText(res, 403, 'This page answers to the names localhost and 127.0.0.1 only.')
  }
  const isReading = req.method === 'GET' || req.method === 'HEAD'
  if (path === '/events' && isReading) return events(req, res, session)
  if (path === '/cut' && req.method === 'POST') return cut(res, session)
  const file = FILES.get(path)
  if (file === undefined || !isReading) return sendText(res, 404, 'There is nothing here.')
  const [name, type] = file
  const body = await readFile(new URL(name, import.meta.url))
  res.writeHead(200, {
    'Content-Type': type,
    'Cache-Control': 'no-cache',
    'Content-Security-Policy': "default-src 'self'; img-src data:",
  })
  res.end(req.method === 'HEAD' ? undefined : body)
}

function events(req, res, session) {
  if (session !== null && !isSessionId(session)) return sendText(res, 400, 'The session is no UUID.')
  streams.open(req, res, session ?? undefined)
}

function cut(res, session) {
  if (!streams.cut(session)) return sendText(res, 404, 'This session has no stream to cut.')
  res.writeHead(204).end()
}

function sendText(res, status, text) {
  res.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' })
  res.end(`${text}\n`)
}

function pathOf(req) {
  return req.url.split('?', 1)[0]
}

/** Only this machine can reach the page: its figures are nobody else's business. */
async function listen() {
  const { port, isDefault } = wantedPort
  try {
    await listenOn(port)
  } catch (error) {
    if (error.code !== 'EADDRINUSE' || !isDefault) stopWith(`Port ${port} cannot be had: ${error.message}`)
    console.log(`Port ${port} is taken by another program, so the system chooses one.`)
    await listenOn(0)
  }
}

function listenOn(port) {
  return new Promise((fulfil, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject)
      fulfil()
    })
  })
}

function sayHello() {
  const url = `http://localhost:${server.address().port}`
  console.log(`
  page      ${url}/
  terminal  curl -N ${url}/events
  follows   ${logPath}

  Ctrl-C ends it.
`)
}

/**
 * Every client gets what was published before, then the end of its stream; the process ends by itself. The streams are
 * closed first: a client whose channel has ended would be told not to come back, and the next server is for it, too.
 */
async function shutDown() {
  server.close()
  await streams.shutDown()
  feed.end()
  server.closeAllConnections()
  accessLog.close()
}

function stopWith(message) {
  console.error(message)
  process.exit(1)
}
