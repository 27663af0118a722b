// Where a test may crash a shard in the hand-over between shards, and where help begins: between two steps of a change
// that is more than one store. Each name says what has just been done; what a crash there leaves behind, and who mends
// it, is in handover/README.md and helped/README.md. In the product the function is empty (memory/no-faults.ts). Those
// of the hand-over are the only points that an established packet may pass: one a burst, or one a lent frame.

import { faultPoint } from '#faults'

/** Those that only several shards reach, or a hairpin. */
export const HANDOVER_POINTS = [
  'frame lent',
  'frame passed on',
  'burst not shown',
  'head shown, doorbell not rung',
  'entries listed',
  'lent frames given back',
  "predecessor's entry dropped",
  "predecessor's entries dropped",
] as const

/** Those that only helped connections reach. */
export const HELP_POINTS = [
  'help begun',
  'gone bytes half noted',
  'gone bytes without a connection',
  'gone bytes of nobody',
] as const

export type DatapathFaultPoint = (typeof HANDOVER_POINTS)[number] | (typeof HELP_POINTS)[number]

/** Does nothing, but in tests that crash shards. */
export const fault: (point: DatapathFaultPoint) => void = faultPoint
