import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: {
    alias: [
      { find: /^sluice$/, replacement: source('index.ts') },
      { find: /^sluice\/(\w+)$/, replacement: source('$1/index.ts') },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/needs.ts'],
    testTimeout: 20_000,
    // Most of the long tests wait: for a network that fails, for a deadline.
    maxWorkers: Math.max(2, availableParallelism()),
    typecheck: { enabled: true, include: ['test/**/*.test-d.ts'] },
  },
})

function source(path: string): string {
  return fileURLToPath(new URL(`src/${path}`, import.meta.url))
}
