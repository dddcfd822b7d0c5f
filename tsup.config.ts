import { defineConfig } from 'tsup'

const shared = { entry: ['src/index.ts'], target: 'node20' as const, dts: true, sourcemap: true }

export default defineConfig([
  { ...shared, format: 'esm' },
  // p-queue is ESM only, and Node before 20.19 cannot require that.
  { ...shared, format: 'cjs', noExternal: ['p-queue', 'p-timeout'] },
])
