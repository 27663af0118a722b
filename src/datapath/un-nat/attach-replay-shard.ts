// From shared memory to a running shard of a replay, as attach.ts does for a gateway's.

import type { Driver } from '../../io/driver.ts'
import { attachMemory, bundle, fromSource } from '../attach.ts'
import type { ShardMemory, ShardSettings, Wakers } from '../shard-contract.ts'
import type { ReplayDataplane } from './replay-shard.ts'

/** Makes this thread a shard of a replay, once. */
export async function attachReplayShard(
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
): Promise<ReplayDataplane> {
  attachMemory(memory, settings, driver)
  const shard: typeof import('./replay-shard.ts') = fromSource
    ? await import('./replay-shard.ts')
    : await import(bundle('un-nat/replay-shard'))
  return shard.attachReplayShard(memory, settings, driver, wakers)
}
