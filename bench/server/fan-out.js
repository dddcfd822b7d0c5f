// One event to many readers.
import { cpuMicroseconds, writeCallsOf } from '../lib/operating-system.js'
import { createFanOut } from '../peers/index.js'
import { createPublisher } from './publisher.js'

export async function createPeer(name, size) {
  const peer = { cpuMicroseconds, writeCalls: writeCallsOf, ...(await createFanOut(name, size)) }
  return {
    handle: peer.handle,
    answers: {
      ...(peer.listen && { listen: peer.listen }),
      ...createPublisher(peer, size),
      readers: peer.readers,
      ...(peer.peakRss && { peakRss: peer.peakRss }),
    },
  }
}
