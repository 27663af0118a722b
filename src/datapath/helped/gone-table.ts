// The layout of what has gone on last from the inside ends of guarded connections (gone-bytes.shard.ts). A side table:
// few connections are guarded, so the row of each is named by a column of the connection table, and the others have
// none. Owner: the shard.

import { columns } from '../../memory/layout.ts'
import type { Region } from '../../memory/region.ts'

/** Kept of a connection. The longest way to write an address, with leading zeros, takes fifteen. */
export const GONE_BYTES = 16

/** A gateway of many clients has a few in a hundred that a helper reads, and a small one a few dozen. */
const ONE_IN = 8
const FEWEST = 64

/** Guarded connections that the table has room for; what becomes of one more is said in this folder's README. */
export const guardedConnections = (connections: number): number =>
  Math.min(connections, Math.max(FEWEST, Math.ceil(connections / ONE_IN)))

export interface GoneTable {
  readonly state: Uint8Array
  /** The number behind all that has gone on. */
  readonly end: Int32Array
  /** The bytes before it, GONE_BYTES a row. */
  readonly bytes: Uint8Array
}

/** Row 0 is never used. */
export function cutGone(region: Region, connections: number): GoneTable {
  const rows = guardedConnections(connections) + 1
  return { ...columns(region, rows, { state: 'u8', end: 'i32' }), bytes: region.u8(rows * GONE_BYTES) }
}
