import { type AddressInfo, createServer } from 'node:net'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Chunk } from '../../src/wire/chunk.js'
import type { Frame } from '../../src/wire/frame.js'
import { connect } from '../support/client.js'
import { until } from '../support/until.js'

/** Frames as they are: text and bytes, each a whole block that ends in a line break. */
const frames = fc
  .array(
    fc.oneof(
      fc.string({ unit: 'binary', maxLength: 30 }),
      fc.constantFrom('\r', '\0', '\ud83d', '\ude00', '😀', '\ufeff', '0\r\n\r\n', 'x'.repeat(300)),
    ),
    { maxLength: 6 },
  )
  .chain((parts) => {
    const block = `${parts.join('')}\n`
    return fc.constantFrom<Frame>(block, block, Buffer.from(block))
  })
const anyFrames = fc.array(frames, { minLength: 1, maxLength: 8 })

function inUtf8(all: Frame[]): Buffer {
  return Buffer.concat(all.map((frame) => Buffer.from(frame)))
}

describe('a chunk', () => {
  it('is its frames in UTF-8, one behind the other', () => {
    fc.assert(
      fc.property(anyFrames, (all) => {
        const chunk = new Chunk(all)
        expect(Buffer.compare(chunk.bytes, inUtf8(all))).toBe(0)
        expect(chunk.byteLength).toBe(chunk.bytes.length)
      }),
      { numRuns: 500 },
    )
  })

  it('is framed for HTTP/1.1 by its size in hexadecimal and a line break behind it', () => {
    expect(Buffer.from(new Chunk(['data: é\n\n']).http1).toString()).toBe('a\r\ndata: é\n\n\r\n')
    fc.assert(
      fc.property(anyFrames, (all) => {
        const body = inUtf8(all)
        const expected = [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')]
        expect(Buffer.compare(new Chunk(all).http1, Buffer.concat(expected))).toBe(0)
      }),
      { numRuns: 500 },
    )
  })

  it('is encoded once in each form', () => {
    const chunk = new Chunk(['data: x\n\n', Buffer.from('data: y\n\n')])
    expect(chunk.bytes).toBe(chunk.bytes)
    expect(chunk.http1).toBe(chunk.http1)
  })

  it('has the same size whichever form is asked for first', () => {
    const chunk = new Chunk(['é\ud83d\n'])
    expect(chunk.http1.length).toBe(11)
    expect(chunk.bytes.length).toBe(6)
    expect(chunk.byteLength).toBe(6)
  })

  it('is what an HTTP client reads out of the framing', async () => {
    let chunks: Chunk[] = []
    const server = createServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      for (const chunk of chunks) socket.write(chunk.http1)
      socket.end('0\r\n\r\n')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    await fc.assert(
      fc.asyncProperty(fc.array(anyFrames, { minLength: 1 }), async (all) => {
        chunks = all.map((some) => new Chunk(some))
        const client = await connect(`http://127.0.0.1:${port}/`)
        await until(() => client.ended)
        expect(Buffer.compare(Buffer.from(client.text), inUtf8(all.flat()))).toBe(0)
      }),
      { numRuns: 20 },
    )
  })
})
