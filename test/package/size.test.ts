import { existsSync, readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { describe, expect, it } from 'vitest'
import { ROOT } from '../docs/markdown.js'

/**
 * What a program that imports it gets at most, minified and gzipped, in bytes: with the dependencies, without the core and
 * the peer in a subpath. Raise a figure when what it buys is worth it.
 */
const BUDGETS: Record<string, number> = {
  '.': 56_000,
  './fastify': 1_100,
  './opentelemetry': 2_000,
  './prometheus': 2_600,
  './testing': 6_000,
}

const { exports, peerDependencies } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8'))
const subpaths = Object.keys(exports).filter((name) => name !== './package.json')

describe('the size of each subpath', () => {
  it('has a budget', () => {
    expect(Object.keys(BUDGETS).sort()).toEqual(subpaths.sort())
  })

  it.each(subpaths)('is within it: %s', async (subpath) => {
    const path = ROOT + exports[subpath].import.default
    expect(existsSync(path), `${path} is built: run npm run build`).toBe(true)
    const { outputFiles } = await build({
      entryPoints: [path],
      bundle: true,
      minify: true,
      format: 'esm',
      platform: 'node',
      external: ['sluice', ...Object.keys(peerDependencies)],
      write: false,
    })
    const bytes = outputFiles.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0)
    expect(bytes).toBeLessThanOrEqual(BUDGETS[subpath] ?? 0)
    // A budget that is much too large holds nothing.
    expect(bytes).toBeGreaterThan((BUDGETS[subpath] ?? 0) * 0.6)
  })
})
