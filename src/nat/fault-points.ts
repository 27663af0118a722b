// Where a test may crash a shard in port words, bindings and what connects them: between two steps of a change that
// is more than one store. Each name says what has just been done; what a crash there leaves behind, and who mends
// it, is in the README of this folder. In the product the function is empty (memory/no-faults.ts).

import { faultPoint } from '#faults'

/** Ports, bindings, recovery. */
export const BINDING_POINTS = [
  'port about to be taken',
  'port taken',
  'port about to be freed',
  'port freed',
  'port counted',
  'quarantine ended',
  'block gained',
  'block lost',
  'port without mapping',
  'mapping without connection',
  'mapping held',
  'connection without permission',
  'connection in no queue',
  'connection inserted, not counted',
  'reply not answered',
  'connection out of its queue',
  'connection ended, permission left',
  'connection ended, mapping left',
  'mapping released',
  'mapping gone, port left',
  'connection expired',
  'connection of a lost address ended',
  'rows recovered',
  'connection recovered',
  'mapping recovered',
  'ports recovered',
  'recovered',
] as const

/** Those that only expectations reach. */
export const RESERVATION_POINTS = ['port reserved', 'reserved port taken'] as const

/** Those that only helped connections reach. */
export const HELPED_POINTS = [
  'expectation met, not consumed',
  'edits without a connection',
  'edit written, not in force',
  'edits of nobody',
] as const

export type NatFaultPoint =
  | (typeof BINDING_POINTS)[number]
  | (typeof RESERVATION_POINTS)[number]
  | (typeof HELPED_POINTS)[number]

/** Does nothing, but in tests that crash shards. */
export const fault: (point: NatFaultPoint) => void = faultPoint
