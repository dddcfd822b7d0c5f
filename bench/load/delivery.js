// What one of many readers gets, checked as it comes: order, loss and repeats of every event, and that its text ends
// where it should. Cheap, because hundreds of readers share one process: nothing is decoded but the numbers.
import { nowMicros } from '../lib/events.js'

const HEAD_END = '\r\n\r\n'
const EVENT_END = Buffer.from('\n\n')
const SEQ = Buffer.from('"seq":')
const AT = Buffer.from(',"at":')
const TEXT = Buffer.from(',"text":"')
const TEXT_END = Buffer.from('"}\n')
const LF = 0x0a
const CR = 0x0d
const ZERO = 0x30
const NOTHING = Buffer.alloc(0)

export class Delivery {
  /** The sequence number that comes next: so many events are there, with those that were there before. */
  next
  /** What is wrong with what came, or null. */
  wrong = null
  bytes = 0
  reads = 0
  /** The id of the event `learn`. */
  learned = null

  #textBytes
  #learn
  #latencies
  #head = ''
  #chunks = null
  #rest = NOTHING

  constructor({ from = 0, textBytes, learn = -1, latencies = null }) {
    this.next = from
    this.#textBytes = textBytes
    this.#learn = learn
    this.#latencies = latencies
  }

  get hasHead() {
    return this.#head === null
  }

  /** Takes what was read, and writes into it. */
  take(read) {
    this.bytes += read.length
    this.reads += 1
    const body = this.hasHead ? read : this.#takeHead(read)
    const text = this.#chunks === null ? body : withoutChunks(body, this.#chunks)
    const all = this.#rest.length === 0 ? text : Buffer.concat([this.#rest, text])
    const end = all.lastIndexOf(EVENT_END) + EVENT_END.length
    const hasEvent = end >= EVENT_END.length
    if (hasEvent) this.#takeEvents(all.subarray(0, end))
    this.#rest = hasEvent ? copyOf(all.subarray(end)) : copyOf(all)
  }

  #takeHead(read) {
    this.#head += read.latin1Slice()
    const end = this.#head.indexOf(HEAD_END)
    if (end === -1) return NOTHING
    const head = this.#head.slice(0, end)
    if (!head.startsWith('HTTP/1.1 200 ')) this.#fail(`the answer was ${head.split('\r\n', 1)[0]}`)
    if (/^transfer-encoding: *chunked/im.test(head)) this.#chunks = { left: 0, skip: 0, size: 0 }
    const body = Buffer.from(this.#head.slice(end + HEAD_END.length), 'latin1')
    this.#head = null
    return body
  }

  #takeEvents(events) {
    const now = this.#latencies === null ? 0 : nowMicros()
    let last = 0
    let distance = 0
    for (;;) {
      // Most events are as far apart as the two before.
      let start = last + distance
      if (distance === 0 || !has(events, SEQ, start)) start = events.indexOf(SEQ, last + (last && 1))
      if (start === -1) return
      let at = start + SEQ.length
      let seq = 0
      for (; isDigit(events[at]); at += 1) seq = seq * 10 + events[at] - ZERO
      if (seq !== this.next) return this.#fail(`event ${this.next} was expected, event ${seq} came`)
      this.next += 1
      if (has(events, AT, at)) {
        let sent = 0
        for (at += AT.length; isDigit(events[at]); at += 1) sent = sent * 10 + events[at] - ZERO
        this.#latencies?.add(now - sent)
      }
      at += TEXT.length + this.#textBytes
      if (!has(events, TEXT_END, at)) return this.#fail(`the text of event ${seq} was changed`)
      if (seq === this.#learn) this.learned = idAround(events, start)
      distance = start - last
      last = start
    }
  }

  #fail(what) {
    this.wrong ??= what
  }
}

/** Joins what is in the chunks, in place. The state is that of this connection, from read to read. */
function withoutChunks(read, state) {
  let end = 0
  for (let at = 0; at < read.length; ) {
    if (state.left > 0) {
      const length = Math.min(state.left, read.length - at)
      if (end !== at) read.copyWithin(end, at, at + length)
      at += length
      end += length
      state.left -= length
      if (state.left === 0) state.skip = 2
    } else if (state.skip > 0) {
      state.skip -= 1
      at += 1
    } else {
      const byte = read[at]
      at += 1
      if (byte === LF) {
        state.left = state.size
        state.size = 0
      } else if (byte !== CR) {
        state.size = state.size * 16 + Number.parseInt(String.fromCharCode(byte), 16)
      }
    }
  }
  return read.subarray(0, end)
}

function has(bytes, expected, at) {
  for (let i = 0; i < expected.length; i += 1) if (bytes[at + i] !== expected[i]) return false
  return true
}

function isDigit(byte) {
  return byte >= ZERO && byte < ZERO + 10
}

function idAround(events, at) {
  const start = events.lastIndexOf(EVENT_END, at)
  const event = events.toString('latin1', Math.max(start, 0), events.indexOf(EVENT_END, at))
  return /^id: ?(.*)$/m.exec(event)?.[1] ?? null
}

/** What was read stands in memory that the next read is written to. */
function copyOf(bytes) {
  return bytes.length === 0 ? NOTHING : Buffer.from(bytes)
}
