// Where a test may crash a shard in a row or an index of any table: between two steps of a change that is more than
// one store. Each name says what has just been done; what a crash there leaves behind, and who mends it, is in the
// README of this folder. In the product the function is empty (memory/no-faults.ts).

import { faultPoint } from '#faults'

/** A row or an index of any table. */
export const ROW_POINTS = [
  'row begun',
  'row live, generation odd',
  'row committed',
  'row retiring',
  'row no longer live, generation odd',
  'cell with a hash and no row',
  'cell moved, and still where it was',
] as const

export type MemoryFaultPoint = (typeof ROW_POINTS)[number]

/** Does nothing, but in tests that crash shards. */
export const fault: (point: MemoryFaultPoint) => void = faultPoint
