import { defineConfig } from 'vitest/config'
import { TEST_LIMIT_MS } from './test/patience.ts'

const source = (path: string) => new URL(path, import.meta.url).pathname

export default defineConfig({
  // Tests run from source; a test that crashes shards has test/faults/crash.ts instead.
  resolve: { alias: { '#faults': source('src/memory/no-faults.ts') } },
  test: {
    include: ['test/**/*.test.ts'],
    // One process a file: a shard's memory is module-level state, and koffi's mappings belong to a process.
    pool: 'forks',
    globalSetup: ['test/leftovers.ts'],
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
  },
})
