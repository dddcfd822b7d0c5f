import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { SocketAddress } from 'node:net'
import type { Peer } from './exchange.js'

/** A connection whose data the kernel has sent again, without an answer so far. */
export interface UnansweredPeer extends Peer {
  /** How often in a row: an acknowledgement sets it to 0. */
  readonly retransmits: number
  /** When the kernel will send again, by the process's monotonic time in milliseconds. An acknowledgement moves it. */
  readonly nextAt: number
}

/**
 * A line of the kernel's table: local and remote end in hexadecimal, state (1 established, 8 half closed by the peer),
 * bytes not acknowledged, timer (1 retransmission) and when it fires, in hundredths of a second, retransmits. The rest is of no interest.
 * https://docs.kernel.org/networking/proc_net_tcp.html
 */
const LINE =
  /^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) 0[18] [0-9A-F]{8}:[0-9A-F]{8} 01:([0-9A-F]+) ([0-9A-F]{8})/

const UNREADABLE: readonly (string | undefined)[] = ['ENOENT', 'EACCES', 'EPERM']

/**
 * The peers that do not answer, from the socket tables of this process's network namespace. Read in pieces, so that a
 * long table blocks nothing. Null where there is no such table: only Linux has it. Rejects when it cannot be read this time,
 * such as without a free file.
 */
export async function unansweredPeers(): Promise<UnansweredPeer[] | null> {
  const found: UnansweredPeer[] = []
  let tables = 0
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    try {
      let rest = ''
      for await (const piece of createReadStream(table, { encoding: 'latin1' })) {
        const lines = (rest + piece).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) addUnanswered(line, found)
      }
      tables += 1
    } catch (error) {
      // A kernel without IPv6 has the first table only; another system has none, and some allow nobody to read them.
      if (!UNREADABLE.includes((error as NodeJS.ErrnoException).code)) throw error
    }
  }
  return tables === 0 ? null : found
}

function addUnanswered(line: string, found: UnansweredPeer[]): void {
  const match = LINE.exec(line)
  if (match === null) return
  const [, localPort = '', address = '', port = '', sendsIn = '', retransmitted = ''] = match
  const retransmits = Number.parseInt(retransmitted, 16)
  if (retransmits === 0) return
  found.push({
    address: textOfAddress(address),
    port: Number.parseInt(port, 16),
    localPort: Number.parseInt(localPort, 16),
    retransmits,
    nextAt: performance.now() + Number.parseInt(sendsIn, 16) * 10,
  })
}

/** The kernel prints an address as words in the machine's byte order: least significant byte first, on all that Node runs on. */
function textOfAddress(words: string): string {
  const bytes = Buffer.from(words, 'hex')
  for (let at = 0; at < bytes.length; at += 4) bytes.subarray(at, at + 4).reverse()
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(i * 2).toString(16))
  // Written as Node writes the address of a socket.
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address
}

/** How many files this process may have open, sockets included. Null where the system does not say. */
export async function openFilesLimit(): Promise<number | null> {
  try {
    const limits = await readFile('/proc/self/limits', 'latin1')
    const limit = /^Max open files +(\d+)/m.exec(limits)?.[1]
    return limit === undefined ? null : Number(limit)
  } catch {
    return null
  }
}
