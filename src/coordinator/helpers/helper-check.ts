// Whether the helpers of a configuration can be loaded: tried for `natloom check` by the manager that loads them at the
// start (helper-manager.ts), into a list that no shard reads. Options of built-in helpers are their own to check.

import { HelperList } from '../../helpers/helper-list.ts'
import { allocate } from '../../memory/region.ts'
import { HelperManager, type HelperRequest } from './helper-manager.ts'

/** By the helper's place in the configuration: why it can't be loaded, all of them. */
export async function helperFaults(requests: readonly HelperRequest[]): Promise<ReadonlyMap<number, string>> {
  const { view: list } = allocate((region) => new HelperList(region, 1))
  const manager = new HelperManager({ list, shards: 1, wake: () => {}, drop: () => {}, onFailure: 'reset' })
  const faults = new Map<number, string>()
  for (const [place, request] of requests.entries())
    await manager.begin([request]).catch((error: Error) => faults.set(place, error.message))
  return faults
}
