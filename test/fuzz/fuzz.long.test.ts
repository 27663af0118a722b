// Random stories through one shard and through four: nothing throws, nothing is delivered that the reference NAT
// refuses, and nothing is left when time has passed. `npm run prove:fuzz` plays millions of them.

import { describe, expect, it, vi } from 'vitest'
import { Fuzzer, type FuzzOptions } from './fuzzer.ts'

const SEED = Number(process.env.NLT_SEED ?? 20_261_130)
const STORIES = 600

const load: FuzzOptions['load'] = () => {
  vi.resetModules()
  return import('./shard-under-test.ts')
}

const settings = [
  { shards: 1, filtering: 'address-dependent', load },
  { shards: 4, filtering: 'address-and-port-dependent', load },
] as const

for (const options of settings)
  describe(`${STORIES} random stories through ${options.shards} shards, filtering ${options.filtering}`, () => {
    it('break nothing, deliver nothing that is refused, and leave nothing behind', async () => {
      const fuzzer = await Fuzzer.start(options)
      for (let seed = SEED; seed < SEED + STORIES; seed++) {
        const failure = fuzzer.play(seed)
        if (failure) expect(failure, JSON.stringify(await Fuzzer.tell(seed, options), null, 1)).toBeUndefined()
      }
      // They have got far enough to be worth something.
      const { reached } = fuzzer
      for (const [what, count] of Object.entries(reached)) expect(count, what).toBeGreaterThan(0)
    })
  })
