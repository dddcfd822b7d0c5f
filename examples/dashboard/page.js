const PLOT_MS = 120_000
/** Figures further apart than this are not joined by a line. */
const MAX_STEP_MS = 2500
const MAX_POINTS = 1000
const MAX_LINES = 100
const MAX_RECEIVED = 1000
const REFUSED_RETRY_MS = 5000

const session = crypto.randomUUID()

/** Numbers of the events received, in order: the last 1,000. For who wants to check, in the console or a test. */
const received = []
window.received = received

const counts = { received: 0, reconnects: 0, missed: 0, repeated: 0, gaps: 0 }
const points = []
const cuts = []
const newLines = []
let figures = null
let connection = null
let lastNumber = null
let lastId = ''
let isPlotStale = false
let isFrameDue = false

// The stream

connect()

function connect() {
  const query = new URLSearchParams({ session })
  if (lastId !== '') query.set('lastEventId', lastId)
  const stream = new EventSource(`events?${query}`)
  let wasOpen = lastId !== ''

  stream.addEventListener('open', () => {
    if (wasOpen) counts.reconnects += 1
    wasOpen = true
    showStatus('connected')
  })
  stream.addEventListener('error', (event) => {
    if (event instanceof MessageEvent) return showNotice(`The server ends the stream: ${event.data}`)
    if (stream.readyState === EventSource.CONNECTING)
      return showStatus(wasOpen ? 'reconnecting' : 'connecting')
    // An answer that is no stream, such as 503: EventSource gives up for good, this page does not.
    stream.close()
    showStatus('refused')
    setTimeout(connect, REFUSED_RETRY_MS)
  })
  // The place in the channel, when no event of it tells: at the start, and behind a snapshot.
  for (const name of ['connected', 'position']) stream.addEventListener(name, notePlace)
  stream.addEventListener('snapshot', (event) => {
    const snapshot = JSON.parse(event.data)
    lastNumber = snapshot.lastNumber
    received.length = 0
    points.splice(0, points.length, ...snapshot.points.map(pointOf))
    newLines.length = 0
    logList.replaceChildren()
    figures = snapshot.figures
    isPlotStale = true
    showSoon()
  })
  stream.addEventListener('earlier-line', (event) => {
    keep(newLines, MAX_LINES, JSON.parse(event.data).text)
    showSoon()
  })
  stream.addEventListener('gap', (event) => {
    const gap = JSON.parse(event.data)
    counts.gaps += 1
    showNotice(`Events between ${gap.asked} and now cannot be replayed (${gap.cause}); the server says so.`)
    showSoon()
  })
  onNumbered(stream, 'figures', (data) => {
    figures = data
    keep(points, MAX_POINTS, pointOf(data))
    isPlotStale = true
  })
  onNumbered(stream, 'line', (data) => keep(newLines, MAX_LINES, data.text))
  onNumbered(stream, 'cut', (data) => {
    // Every page is told of every cut; this one draws its own.
    if (!session.startsWith(data.session)) return
    keep(cuts, MAX_POINTS, data.at)
    isPlotStale = true
  })
  // Said to this page alone.
  stream.addEventListener('connection', (event) => {
    connection = JSON.parse(event.data)
    showSoon()
  })
  stream.addEventListener('notice', (event) => showNotice(event.data))
}

function onNumbered(stream, name, take) {
  stream.addEventListener(name, (event) => {
    const data = JSON.parse(event.data)
    notePlace(event)
    counts.received += 1
    keep(received, MAX_RECEIVED, data.n)
    if (lastNumber !== null && data.n <= lastNumber) counts.repeated += 1
    else {
      if (lastNumber !== null) counts.missed += data.n - lastNumber - 1
      lastNumber = data.n
    }
    take(data)
    showSoon()
  })
}

/** For a stream that this page opens anew. One that EventSource reconnects knows its place itself. */
function notePlace(event) {
  if (event.lastEventId === '') return
  lastId = event.lastEventId
  showSoon()
}

function pointOf({ at, cpuPercent, memory }) {
  return { at, cpu: cpuPercent, memory: (memory.usedBytes / memory.totalBytes) * 100 }
}

/** Appends to a list that keeps its newest items only. */
function keep(list, most, item) {
  list.push(item)
  if (list.length > most) list.shift()
}

// The page

const element = (id) => document.getElementById(id)
const cutButton = element('cut')
const logList = element('log')
const canvas = element('plot')

cutButton.addEventListener('click', async () => {
  cutButton.disabled = true
  try {
    const answer = await fetch(`cut?session=${session}`, { method: 'POST' })
    if (answer.ok) return
    showNotice(await answer.text())
  } catch (error) {
    showNotice(`The server cannot be asked: ${error.message}`)
  }
  cutButton.disabled = element('status').dataset.state !== 'connected'
})

new ResizeObserver(() => {
  isPlotStale = true
  showSoon()
}).observe(canvas)
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  isPlotStale = true
  showSoon()
})

/** Rare, so shown at once; all else is shown once a frame, however many events come. */
function showStatus(state) {
  const status = element('status')
  status.dataset.state = state
  status.textContent = state
  cutButton.disabled = state !== 'connected'
  showSoon()
}

function showNotice(text) {
  element('notice').textContent = text
  element('notice').hidden = false
}

function showSoon() {
  if (isFrameDue) return
  isFrameDue = true
  requestAnimationFrame(() => {
    isFrameDue = false
    show()
  })
}

function show() {
  show.session()
  if (connection !== null) show.connection(connection)
  connection = null
  if (figures !== null) show.figures(figures)
  figures = null
  if (newLines.length > 0) show.lines(newLines.splice(0))
  if (isPlotStale) drawPlot()
  isPlotStale = false
}

show.session = () => {
  const isConnected = element('status').dataset.state === 'connected'
  if (!isConnected) {
    element('phase').textContent = 'no connection'
    for (const id of ['queue', 'dropped', 'replayed', 'readers']) element(id).textContent = '–'
  }
  element('last-id').textContent = lastId === '' ? '–' : lastId
  element('last-number').textContent = lastNumber === null ? '–' : count(lastNumber)
  for (const [id, value] of Object.entries(counts)) {
    element(id).textContent = count(value)
    element(id).dataset.bad = value > 0 && ['missed', 'repeated', 'gaps'].includes(id)
  }
}

show.connection = ({ phase, queuedEvents, queuedBytes, dropped, eventsReplayed, readers }) => {
  element('phase').textContent = phase
  element('queue').textContent = `${count(queuedEvents)} events, ${bytes(queuedBytes)}`
  element('dropped').textContent = count(dropped)
  element('replayed').textContent = count(eventsReplayed)
  element('readers').textContent = count(readers)
}

show.figures = ({ n, host, uptimeS, cores, cpuPercent, load, memory, disk, processes, at }) => {
  element('host').textContent = `${host}, up ${duration(uptimeS)}`
  meter('cpu', cpuPercent, `${cores} ${cores === 1 ? 'core' : 'cores'}, load ${load.join('  ')}`)
  meter('memory', (memory.usedBytes / memory.totalBytes) * 100, share(memory))
  meter('disk', (disk.usedBytes / disk.totalBytes) * 100, `${share(disk)} on ${disk.path}`)
  element('plot-event').textContent = `event ${n}, ${new Date(at).toLocaleTimeString()}`
  element('processes').hidden = processes === undefined
  if (processes !== undefined) processRows(processes)
}

show.lines = (lines) => {
  const isAtEnd = logList.scrollHeight - logList.scrollTop - logList.clientHeight < 8
  logList.append(
    ...lines.map((line) => {
      const item = document.createElement('li')
      item.textContent = line
      return item
    }),
  )
  while (logList.childElementCount > MAX_LINES) logList.firstElementChild.remove()
  // Who has scrolled up is reading.
  if (isAtEnd) logList.scrollTop = logList.scrollHeight
}

function meter(id, percent, detail) {
  element(id).textContent = `${percent.toFixed(1)} %`
  element(`${id}-detail`).textContent = detail
  const bar = element(`${id}-meter`)
  bar.value = percent
  bar.style.setProperty('--filled', `${percent}%`)
}

function processRows(processes) {
  const body = element('processes').querySelector('tbody')
  while (body.rows.length > processes.length) body.deleteRow(-1)
  while (body.rows.length < processes.length) {
    const row = body.insertRow()
    for (let column = 0; column < 4; column += 1) row.insertCell()
  }
  processes.forEach(({ name, pid, cpuPercent, memoryBytes }, index) => {
    const texts = [
      name,
      String(pid),
      `${cpuPercent.toFixed(1)} %`,
      memoryBytes === 0 ? '–' : bytes(memoryBytes),
    ]
    texts.forEach((text, column) => {
      body.rows[index].cells[column].textContent = text
    })
  })
}

// The plot

function drawPlot() {
  const { width, height } = canvas.getBoundingClientRect()
  const scale = window.devicePixelRatio
  canvas.width = Math.round(width * scale)
  canvas.height = Math.round(height * scale)
  const style = getComputedStyle(canvas)
  const color = (name) => style.getPropertyValue(`--${name}`)
  const ink = canvas.getContext('2d')
  ink.scale(scale, scale)
  ink.font = `12px ${style.fontFamily}`
  const area = { left: 46, right: width - 8, top: 8, bottom: height - 22 }

  const now = points.at(-1)?.at ?? 0
  const since = now - PLOT_MS
  while (points.length > 0 && points[0].at < since - MAX_STEP_MS) points.shift()
  while (cuts.length > 0 && cuts[0] < since) cuts.shift()
  const x = (at) => area.left + ((at - since) / PLOT_MS) * (area.right - area.left)
  const y = (percent) => area.bottom - (percent / 100) * (area.bottom - area.top)

  drawGrid(ink, area, y, color)
  ink.save()
  ink.beginPath()
  ink.rect(area.left, area.top - 2, area.right - area.left + 4, area.bottom - area.top + 4)
  ink.clip()
  drawCuts(ink, area, x, color('bad'))
  drawLine(ink, 'memory', x, y, color('memory'))
  drawLine(ink, 'cpu', x, y, color('cpu'))
  ink.restore()
  const last = points.at(-1)
  if (last === undefined) return
  const words = `CPU ${last.cpu.toFixed(0)} %, memory ${last.memory.toFixed(0)} % now`
  canvas.setAttribute('aria-label', words)
}

function drawGrid(ink, area, y, color) {
  ink.lineWidth = 1
  ink.strokeStyle = color('track')
  ink.fillStyle = color('quiet')
  ink.textAlign = 'right'
  ink.textBaseline = 'middle'
  for (const percent of [0, 25, 50, 75, 100]) {
    const line = Math.round(y(percent)) + 0.5
    stroke(ink, [area.left, line], [area.right, line])
    ink.fillText(`${percent} %`, area.left - 6, line)
  }
  ink.textBaseline = 'top'
  const times = ['−2 min', '−1 min', 'now']
  times.forEach((text, index) => {
    ink.textAlign = ['left', 'center', 'right'][index]
    ink.fillText(text, area.left + ((area.right - area.left) * index) / 2, area.bottom + 6)
  })
}

function drawCuts(ink, area, x, color) {
  ink.lineWidth = 1.5
  ink.strokeStyle = color
  ink.setLineDash([4, 3])
  for (const at of cuts) stroke(ink, [x(at), area.top], [x(at), area.bottom])
  ink.setLineDash([])
}

function drawLine(ink, figure, x, y, color) {
  ink.lineWidth = 2
  ink.lineJoin = 'round'
  ink.lineCap = 'round'
  ink.strokeStyle = color
  ink.beginPath()
  points.forEach((point, index) => {
    const isJoined = index > 0 && point.at - points[index - 1].at <= MAX_STEP_MS
    // A line to where it starts is a dot: a figure that stands alone is seen, too.
    if (!isJoined) ink.moveTo(x(point.at), y(point[figure]))
    ink.lineTo(x(point.at), y(point[figure]))
  })
  ink.stroke()
}

function stroke(ink, from, to) {
  ink.beginPath()
  ink.moveTo(...from)
  ink.lineTo(...to)
  ink.stroke()
}

// Words

function count(number) {
  return number.toLocaleString('en')
}

function share({ usedBytes, totalBytes }) {
  return `${bytes(usedBytes)} of ${bytes(totalBytes)}`
}

function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let unit = 0
  let size = number
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1024
    unit += 1
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`
}

function duration(seconds) {
  const days = Math.floor(seconds / 86_400)
  const hours = Math.floor((seconds % 86_400) / 3600)
  const minutes = Math.floor((seconds % 3600) / 60)
  if (days > 0) return `${days} d ${hours} h`
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`
}
