import { defineConfig } from 'tsup'

const shared = {
  entry: {
    index: 'src/index.ts',
    prometheus: 'src/prometheus/index.ts',
    opentelemetry: 'src/opentelemetry/index.ts',
  },
  target: 'node20' as const,
  dts: true,
  sourcemap: true,
}

export default defineConfig([
  { ...shared, format: 'esm' },
  // p-queue is ESM only, and Node before 20.19 cannot require that.
  { ...shared, format: 'cjs', noExternal: ['p-queue', 'p-timeout'] },
])
