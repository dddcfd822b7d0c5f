import { defineConfig } from 'tsup'

const shared = {
  entry: {
    index: 'src/index.ts',
    fastify: 'src/fastify/index.ts',
    opentelemetry: 'src/opentelemetry/index.ts',
    prometheus: 'src/prometheus/index.ts',
    testing: 'src/testing/index.ts',
  },
  target: 'node20' as const,
  dts: true,
  sourcemap: true,
  // A subpath imports the core by its name: with a copy of it, a channel would not know the subpath's handlers.
  external: ['sluice'],
}

export default defineConfig([
  { ...shared, format: 'esm' },
  // p-queue is ESM only, and Node before 20.19 cannot require that.
  { ...shared, format: 'cjs', noExternal: ['p-queue', 'p-timeout'] },
])
