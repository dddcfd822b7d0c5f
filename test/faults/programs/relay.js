// The network between two ends of a tunnel: it loses and delays packets. A kernel need not have netem for it, and each
// packet is still a packet: the ends' own TCP sees loss and delay.
import { createSocket } from 'node:dgram'
import { answerCalls } from './calls.js'

const VXLAN_BYTES = 8
const ETHERNET_BYTES = 14
const IPV4 = 0x0800
const TCP = 6

const lines = new Map()

answerCalls({
  /** Relays between two addresses on one port. */
  async relay(port, { server, client }, impairment) {
    const socket = createSocket('udp4')
    lines.set(port, impairment)
    socket.on('message', (packet, { address }) => {
      const isFromServer = address === server
      const { lossToClient, lossToServer, delayMs } = lines.get(port)
      if (Math.random() < (isFromServer ? lossToClient : lossToServer)) return
      completeChecksum(packet)
      const forward = () => socket.send(packet, port, isFromServer ? client : server)
      if (delayMs === 0) forward()
      else setTimeout(forward, delayMs)
    })
    socket.on('error', () => {})
    await new Promise((resolve) => socket.bind(port, resolve))
  },

  /** Changes what a line does to packets. */
  impair(port, impairment) {
    lines.set(port, impairment)
  },
})

/** The kernel leaves the checksum of what stays on the machine to a network card that is not there. */
function completeChecksum(packet) {
  const ip = VXLAN_BYTES + ETHERNET_BYTES
  if (packet.length < ip + 20 || packet.readUInt16BE(ip - 2) !== IPV4 || packet[ip + 9] !== TCP) return
  const tcp = ip + (packet[ip] & 0x0f) * 4
  const end = ip + packet.readUInt16BE(ip + 2)
  packet.writeUInt16BE(0, tcp + 16)
  let sum = TCP + (end - tcp)
  for (let at = ip + 12; at < ip + 20; at += 2) sum += packet.readUInt16BE(at)
  for (let at = tcp; at + 1 < end; at += 2) sum += packet.readUInt16BE(at)
  if ((end - tcp) % 2 === 1) sum += packet[end - 1] << 8
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  packet.writeUInt16BE(~sum & 0xffff, tcp + 16)
}
