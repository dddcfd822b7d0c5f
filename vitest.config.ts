import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  resolve: {
    // The longer name first: an alias stands for what begins with it, too.
    alias: { 'sluice/testing': source('testing/index.ts'), sluice: source('index.ts') },
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/setup/needs.ts'],
    testTimeout: 20_000,
    typecheck: { enabled: true, include: ['test/**/*.test-d.ts'] },
  },
})

function source(path: string): string {
  return fileURLToPath(new URL(`src/${path}`, import.meta.url))
}
