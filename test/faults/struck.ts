// A task for a thread pool that reaches points as a shard does; returns how many it has passed.

import { allocate } from '../../src/memory/region.ts'
import { Rows } from '../../src/memory/rows.ts'

export default function struck(lives: number): number {
  const rows = allocate((region) => new Rows(region, { capacity: 1, width: 2, flagsWord: 0, generationWord: 1 })).view
  for (let life = 0; life < lives; life++) {
    const row = rows.begin()
    rows.commit(row)
    rows.retire(row)
  }
  return lives
}
