import { keeperOf } from './keepers.js'

export async function createPeer(name) {
  const { keep, count } = await keeperOf(name)
  return { handle: keep, state: () => ({ kept: count() }) }
}
