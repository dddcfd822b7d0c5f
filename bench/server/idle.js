import { keeperOf } from './keepers.js'

export async function createPeer(name) {
  const kept = new Set()
  return { handle: await keeperOf(name, kept), state: () => ({ kept: kept.size }) }
}
