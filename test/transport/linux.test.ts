import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { openFilesLimit, unansweredPeers } from '../../src/transport/linux.js'

const tables = vi.hoisted(() => new Map<string, string[] | null>())

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  return {
    ...fs,
    createReadStream: (path: string, options: object) => {
      const pieces = tables.get(path)
      if (pieces === undefined) return fs.createReadStream(path, options as never)
      if (pieces === null) return fs.createReadStream('/nonexistent/table')
      return Readable.from(pieces)
    },
  }
})

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n'
const HEAD6 =
  '  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n'

interface Row {
  local?: string
  remote?: string
  state?: string
  timer?: string
  retransmits?: string
  slot?: number
}

/** A line as the kernel prints it: tcp4_seq_show of net/ipv4/tcp_ipv4.c. */
function row({
  local = '0100007F:1F90',
  remote = '0200000A:C001',
  state = '01',
  timer = '01:00000014',
  retransmits = '00000003',
  slot = 0,
}: Row = {}): string {
  return `${String(slot).padStart(4)}: ${local} ${remote} ${state} 00000010:00000000 ${timer} ${retransmits}     0        0 12345 2 0000000000000000 20 4 30 10 -1\n`
}

function show(v4: string[] | null, v6: string[] | null = [HEAD6]): void {
  tables.set('/proc/net/tcp', v4)
  tables.set('/proc/net/tcp6', v6)
}

beforeEach(() => tables.clear())

describe("the kernel's table of sockets", () => {
  it('gives the peers that do not answer: address, both ports, and how often it has sent again', async () => {
    show([HEAD, row()])
    expect(await unansweredPeers()).toEqual([
      { address: '10.0.0.2', port: 0xc001, localPort: 8080, retransmits: 3, nextAt: expect.any(Number) },
    ])
  })

  it('says when the kernel will send again: its hundredths of a second, from now', async () => {
    show([HEAD, row({ timer: '01:00000064' })])
    const before = performance.now()
    const [found] = (await unansweredPeers()) ?? []
    expect(found?.nextAt).toBeGreaterThanOrEqual(before + 1000)
    expect(found?.nextAt).toBeLessThanOrEqual(performance.now() + 1000)
  })

  it.each([
    ['has answered', { retransmits: '00000000' }],
    ['has its window closed, a client that does not read', { timer: '04:00000014' }],
    ['has no timer', { timer: '00:00000000' }],
    ['is asked by keepalive', { timer: '02:00000014' }],
    ['is being opened', { state: '02' }],
    ['is being closed', { state: '04' }],
    ['waits for nobody', { state: '06' }],
    ['listens', { state: '0A' }],
  ])('leaves out one that %s', async (_, fields) => {
    show([HEAD, row(fields)])
    expect(await unansweredPeers()).toEqual([])
  })

  it('knows the peer that has closed its half, and does not answer', async () => {
    show([HEAD, row({ state: '08' })])
    expect(await unansweredPeers()).toHaveLength(1)
  })

  it.each([
    ['B80D0120000000000000000001000000', '2001:db8::1'],
    ['0000000000000000FFFF00000100007F', '::ffff:127.0.0.1'],
    ['00000000000000000000000001000000', '::1'],
  ])('writes an IPv6 address as Node does: %s', async (words, address) => {
    show([HEAD], [HEAD6, row({ local: `${words}:1F90`, remote: `${words}:C001` })])
    expect(await unansweredPeers()).toMatchObject([{ address, port: 0xc001, localPort: 8080 }])
  })

  it('is read to its end when it is long, wherever a piece of it is cut', async () => {
    const lines = Array.from({ length: 20_000 }, (_, slot) =>
      row({ slot, remote: `0200000A:${(slot % 65_536).toString(16).toUpperCase().padStart(4, '0')}` }),
    )
    const text = HEAD + lines.join('')
    const pieces = text.match(/[\s\S]{1,4099}/g) ?? []
    show(pieces)
    const found = await unansweredPeers()
    expect(found).toHaveLength(20_000)
    expect(found?.[12_345]).toMatchObject({ port: 12_345 })
  })

  it('may be there for one family only', async () => {
    show([HEAD, row()], null)
    expect(await unansweredPeers()).toHaveLength(1)
  })

  it('is null where there is none', async () => {
    show(null, null)
    expect(await unansweredPeers()).toBeNull()
  })

  it.each(['', 'nonsense\n', '   0: \n', `${row().slice(0, 30)}\n`, '\0'.repeat(1000)])(
    'has lines that are none: they are left out (%#)',
    async (line) => {
      show([HEAD, line, row()])
      expect((await unansweredPeers())?.length).toBeLessThanOrEqual(1)
    },
  )
})

describe.runIf(process.platform === 'linux')('on Linux', () => {
  it.each(['127.0.0.1', '::1'])(
    'the real table is read, and a healthy connection is not in it: %s',
    async (host) => {
      const server: Server = createServer()
      const listening = once(server, 'listening')
      server.listen(0, host)
      await Promise.race([listening, once(server, 'error')])
      onTestFinished(() => void server.close())
      if (!server.listening) return
      const { port } = server.address() as AddressInfo
      const accepted = once(server, 'connection') as Promise<[Socket]>
      const client = connect(port, host)
      const [socket] = await accepted
      onTestFinished(() => {
        client.destroy()
        socket.destroy()
      })
      socket.write('hello')
      const found = await unansweredPeers()
      expect(found?.some((other) => other.port === socket.remotePort && other.localPort === port)).toBe(false)
    },
  )

  it('the limit of open files is known', async () => {
    expect(await openFilesLimit()).toBeGreaterThan(0)
  })
})
