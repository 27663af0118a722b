// What each host has of a dead shard's rows, counted anew: its connections, those of them that are edited, and
// mappings. What was the thread's own is lost with it, and counts no longer: packets that waited for neighbours, what
// was kept of helped connections, records of fragmented packets. Whose the ports in quarantine were is not known any
// more, so for the rest of it they are nobody's. Owner: the shard, in its first turn, when its rows are as they should
// be.

import type { Row } from '../memory/brand.ts'
import { baseOf, CONN, COUNTED_AS_OTHERS } from './connection-table.ts'
import { cold, connections, hot, insideHostOf } from './connections.shard.ts'
import { fault } from './fault-points.ts'
import { HOST } from './host-table.ts'
import { beginRecount, endRecount, isOthers, recount } from './hosts.shard.ts'
import { MAPPING, MAPPING_AS_OTHERS } from './mapping-table.ts'
import { insideAddressOf, mapping, mappingBase, mappings } from './mappings.shard.ts'

export function recoverHosts(): void {
  beginRecount()
  for (let row: Row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row)) continue
    const at = baseOf(row) + CONN.state
    const asOthers = (hot[at]! & COUNTED_AS_OTHERS) !== 0
    // Its own row is there as long as it counts for it; if it isn't, it was never counted.
    if (isOthers(recount(insideHostOf(row), HOST.connections, asOthers))) hot[at]! |= COUNTED_AS_OTHERS
    if (cold.sequences[row]! > 0) recount(insideHostOf(row), HOST.edits, asOthers)
  }
  for (let row: Row = 1; row <= mappings.highest; row++) {
    if (!mappings.isLive(row)) continue
    const at = mappingBase(row) + MAPPING.flags
    const asOthers = (mapping[at]! & MAPPING_AS_OTHERS) !== 0
    if (isOthers(recount(insideAddressOf(row), HOST.ports, asOthers))) mapping[at]! |= MAPPING_AS_OTHERS
  }
  fault('hosts counted anew, not in force')
  endRecount()
}
