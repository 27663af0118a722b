import { defineConfig } from 'vitest/config'

const source = (path: string) => new URL(path, import.meta.url).pathname

export default defineConfig({
  // Tests run from source; a test that crashes shards has test/faults/crash.ts instead.
  resolve: { alias: { '#faults': source('src/memory/no-faults.ts') } },
  test: {
    include: ['test/**/*.test.ts'],
    // One process a file: a shard's memory is module-level state, and koffi's mappings belong to a process.
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
