// Where a test may crash a shard: between two steps of a change that is more than one store. Each name says what has
// just been done; what a crash there leaves behind, and who mends it, is in the README of the folder that the point is
// in. The product has an empty function for them (no-faults.ts). None lies on the way of an established packet, but for those of hand-over: once a burst, or a lent frame.

export const FAULT_POINTS = [
  // --- memory: a row or an index of any table ---
  'row begun',
  'row live, generation odd',
  'row committed',
  'row retiring',
  'row no longer live, generation odd',
  'cell with a hash and no row',
  'cell moved, and still where it was',
  // --- conntrack ---
  'connection found by its original tuple only',
  'connection lost by its original tuple only',
  'connection lost by both tuples',
  'reply noted',
  'state changed',
  'mapping found by its inside end only',
  'mapping lost by its inside end only',
  'mapping ended',
  'permission made',
  'permission counted',
  'permission withdrawn',
  // --- nat/ports.shard.ts ---
  'port about to be taken',
  'port taken',
  'port about to be freed',
  'port freed',
  'port counted',
  'rest ended',
  'block gained',
  'block lost',
  // --- nat/bindings.shard.ts ---
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
  // --- nat/recover.shard.ts ---
  'rows recovered',
  'connection recovered',
  'mapping recovered',
  'ports recovered',
  'recovered',
] as const

/** Those that only several shards reach, or hairpin: datapath/handover/handover.ts, datapath/handover/handover-rings.ts. */
export const HANDOVER_POINTS = [
  'frame lent',
  'frame passed on',
  'burst not shown',
  'head shown, bell not rung',
  'entries listed',
  'lent frames given back',
  "predecessor's entry dropped",
  "predecessor's entries dropped",
] as const

/** Those that only expectations reach: conntrack/expectations.shard.ts, nat/reservations.ts, nat/ports.shard.ts. */
export const EXPECTATION_POINTS = [
  'expectation counted, no slot',
  'slot busy, nothing in it',
  'slot written, not settled',
  'slot settled, not in force',
  'slot hung by its inside end',
  'slot pending, not listed',
  'slot refreshed',
  'slot claimed',
  'slot put back',
  'slot ending',
  'slot about to be freed',
  'slot free, still counted',
  'slot free, its port reserved',
  'port reserved',
  'reserved port taken',
] as const

/** Those that only helped connections reach: nat/expected.shard.ts, nat/sequence-edits.shard.ts. */
export const HELPED_POINTS = [
  'expectation met, not consumed',
  'edits without a connection',
  'edit written, not in force',
  'edits of nobody',
] as const

export type FaultPoint =
  | (typeof HELPED_POINTS)[number]
  | (typeof FAULT_POINTS)[number]
  | (typeof HANDOVER_POINTS)[number]
  | (typeof EXPECTATION_POINTS)[number]
