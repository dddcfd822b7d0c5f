import { transportConformance } from 'sluice/testing'
import { describe, it } from 'vitest'
import { harnesses } from '../support/harnesses.js'

describe.each(Object.entries(harnesses))('the transport for %s', (_, harness) => {
  it.each(transportConformance(harness))('$name', ({ run }) => run())
})
