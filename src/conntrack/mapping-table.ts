// The mapping table: inside endpoint <-> external endpoint, apart from connections because endpoint-independent mapping
// (RFC 4787 REQ-1) and filtering are about endpoints. A mapping has no timer: it lives while a connection that its
// inside end has taken part in refers to it, and an established packet never touches it.
//
//   holders   connections opened from inside, or opened from outside and answered by the inside end
//   rows      all connections that refer to it
//
// When the last holder ends, the mapping ends: nothing new finds it. Its port is free when the last row is gone, too.
// (An unanswered connection from outside must not keep a mapping alive, RFC 4787 REQ-6; one that the inside end has
// answered is as much the inside end's as one that it opened.)
//
// With address- or port-dependent mapping the key has the remote endpoint too, else zeros. Owner: the shard that owns
// the external port's block.

import { HashIndex } from '../memory/hash-index.ts'
import { layout } from '../memory/layout.ts'
import type { Region } from '../memory/region.ts'
import { Rows } from '../memory/rows.ts'

/** Words of a row: no more than it needs, since an established packet never touches one. */
export const MAPPING_WORDS = 9

export const MAPPING = layout(MAPPING_WORDS, {
  insideAddress: 0,
  externalAddress: 1,
  /** Inside port in the low half, external port in the high half, both as on the wire. */
  ports: 2,
  remoteAddress: 3,
  /** Protocol in bits 0-7, then the flags below and LIVE; the remote port, as on the wire, in the high half. */
  flags: 4,
  /** Number of the external address (nat/externals.ts). */
  external: 5,
  holders: 6,
  rows: 7,
  generation: 8,
})

export const MAPPING_REMOTE_PORT_SHIFT = 16

/** Out of the index: nothing new may use it. */
export const ENDED = 1 << 8

/** The inside endpoint has another mapping that its new flows find; this one is found by its external end only. */
export const SECOND = 1 << 9

/** It counts in the row of all hosts that have none in the host table (host-table.ts). */
export const MAPPING_AS_OTHERS = 1 << 10

/** The same memory for a reader. The owner changes the index meanwhile: a look-up may miss what is there. */
export interface MappingView {
  readonly words: Int32Array
  readonly index: HashIndex
}

/** Row 0 counts, and is never used. */
export const viewMappings = (region: Region, capacity: number): MappingView => ({
  words: region.i32((capacity + 1) * MAPPING_WORDS),
  index: new HashIndex(region, capacity * 2),
})

export function cutMappings(region: Region, capacity: number): { rows: Rows; index: HashIndex } {
  const rows = new Rows(region, {
    capacity,
    width: MAPPING_WORDS,
    flagsWord: MAPPING.flags,
    generationWord: MAPPING.generation,
  })
  return { rows, index: new HashIndex(region, capacity * 2) }
}
