// A shard's own tables as new, after a warm-up (datapath/warm-up/): no row, no generation, nothing on an index, so that
// nothing tells whether they were ever used. Only for a shard that has no connections: what refers to a row by its
// generation would take a later row for it.
//
// Owner: the shard, before its first turn.

import { baseOf } from '../conntrack/connection-table.ts'
import { cold, connections, windows } from '../conntrack/connections.shard.ts'
import { mappings } from '../conntrack/mappings.shard.ts'
import { permissions } from '../conntrack/permissions.shard.ts'
import { endConnection } from './bindings.shard.ts'
import { clearEdits } from './sequence-edits.shard.ts'

/** Ends every connection, and with them every mapping, permission, edit and expectation. */
export function endConnections(): void {
  for (let row = 1; row <= connections.highest; row++) if (connections.isLive(row)) endConnection(row)
}

/** The indices are empty when the last connection has ended: they are derived, and removing clears a cell. */
export function clearTables(): void {
  endConnections()
  for (const column of Object.values(cold)) column.fill(0, 0, connections.highest + 1)
  windows.fill(0, 0, baseOf(connections.highest + 1))
  for (const table of [connections, mappings, permissions]) table.clear()
  clearEdits()
}
