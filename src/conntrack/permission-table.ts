// The permission table: which remote addresses a mapping's inside end has sent to, hence may be answered by under
// address-dependent filtering (RFC 4787 section 5). A row counts the connections of one mapping with one remote address
// whose inside end has sent, so that neither asking nor forgetting walks a mapping's connections, whose number an
// attacker could choose. With address-and-port-dependent filtering the remote port is part of the key, else zero.
// Owner: the shard that owns the mapping.

import { HashIndex } from '../memory/hash-index.ts'
import { layout } from '../memory/layout.ts'
import type { Region } from '../memory/region.ts'
import { Rows } from '../memory/rows.ts'

/** Words of a row. */
export const PERMISSION_WORDS = 5

export const PERMISSION = layout(PERMISSION_WORDS, {
  mapping: 0,
  remoteAddress: 1,
  /** LIVE; the remote port, as on the wire, in the high half. */
  flags: 2,
  /** Connections that stand behind it. */
  count: 3,
  generation: 4,
})

export const PERMISSION_REMOTE_PORT_SHIFT = 16

export function cutPermissions(region: Region, capacity: number): { rows: Rows; index: HashIndex } {
  const rows = new Rows(region, {
    capacity,
    width: PERMISSION_WORDS,
    flagsWord: PERMISSION.flags,
    generationWord: PERMISSION.generation,
  })
  return { rows, index: new HashIndex(region, capacity) }
}
