// Three projects. `unit` needs no root, no network namespace and no Debian package, and takes less than a minute: any
// user may run it, anywhere. `long` needs no more and takes longer: whole gateways of several shards, crashes at every
// point, searches for counterexamples, files named *.long.test.ts. `host`, in files named *.host.test.ts, is the rest:
// the kernel, real programs, the lab.

import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'
import { TEST_LIMIT_MS } from './test/patience.ts'

const source = (path: string) => new URL(path, import.meta.url).pathname

const HOST = 'test/**/*.host.test.ts'
const LONG = 'test/**/*.long.test.ts'

/**
 * Files of `host` wait for others most of their time, each for itself: they begin first, the longest before the rest.
 */
const LONGEST = [
  'package/node-versions',
  'package/installed',
  'lab/kill',
  'lab/scenarios/ftp',
  'lab/scenarios/forward',
  'lab/kernel-helpers',
  'coordinator/lifecycle',
]

class WaitingFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification): number => {
      if (project.name === 'unit') return LONGEST.length + 2
      if (project.name === 'long') return LONGEST.length + 1
      const place = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.host.test.ts`))
      return place < 0 ? LONGEST.length : place
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  // Tests run from source; a test that crashes shards has test/faults/crash.ts instead.
  resolve: { alias: { '#faults': source('src/memory/no-faults.ts') } },
  test: {
    // One process a file: a shard's memory is module-level state, and koffi's mappings belong to a process. Those of
    // `unit`, which are many and short, share some, and each has modules of its own (test/fresh-modules.ts).
    pool: 'forks',
    // More than there are processors: where one waits, another runs.
    maxWorkers: availableParallelism() + 2,
    sequence: { sequencer: WaitingFirst },
    globalSetup: ['test/leftovers.ts'],
    setupFiles: ['test/seeds.ts'],
    testTimeout: TEST_LIMIT_MS,
    hookTimeout: TEST_LIMIT_MS,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [HOST, LONG],
          isolate: false,
          setupFiles: ['test/fresh-modules.ts'],
        },
      },
      { extends: true, test: { name: 'long', include: [LONG] } },
      { extends: true, test: { name: 'host', include: [HOST] } },
    ],
  },
})
