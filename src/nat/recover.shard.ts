// A shard that starts again on a dead one's memory: everything that is derived is made anew. A crash may have come
// between any two stores, in here too, so nothing derived is read, and doing it twice does no harm.
//
//   truth                                      makes
//   connections                                their index; timeouts; permissions; queues; what holds mappings
//   mappings (without a connection: retired)   their index unless ended; mapping bits of the ports
//   connections                                which rows of sequence edits are free
//   connections, mappings                      what each host has (conntrack/host-recovery.shard.ts)
//   port words                                 what is usable and in quarantine (blocks.shard.ts, a bounded number with
//                                              each look at the leases)
//   all of them                                gauges, and how many connections have ended
// Rows are true if their generation is even and they are LIVE (memory/rows.ts). What a crash leaves of each change is
// in the READMEs of memory, conntrack and this folder.
//
// Owner: the shard, in its first turn, as soon as it knows the time. Nothing else looks at its tables before.

import { baseOf, CONN } from '../conntrack/connection-table.ts'
import { cold, connections, hot, protocolOf, recoverConnections } from '../conntrack/connections.shard.ts'
import { recoverHosts } from '../conntrack/host-recovery.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import {
  externalOf,
  externalPortOf,
  mapping,
  mappingBase,
  mappingProtocol,
  mappings,
  recoverMapping,
  recoverMappingRows,
} from '../conntrack/mappings.shard.ts'
import { permissions, recoverPermissions } from '../conntrack/permissions.shard.ts'
import {
  CLOSED,
  forgetQueue,
  HALF_CLOSED,
  kindOf,
  type Queue,
  queueFor,
  RENEWABLE,
  UNASSURED,
} from '../conntrack/queues.shard.ts'
import { timeoutOf } from '../conntrack/track.shard.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { PortIndex, Row, Seconds } from '../memory/brand.ts'
import { ntohs } from '../wire/address.ts'
import { hasSent, holdMapping, holds, permitRemote, requeue } from './bindings.shard.ts'
import { type Externals, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import { joinMapping } from './freeable-mappings.shard.ts'
import { intendToFree, recoverPorts } from './ports.shard.ts'
import { recoverEdits } from './sequence-edits.shard.ts'

export function recover(externals: Externals): void {
  recoverConnections()
  recoverMappingRows()
  recoverPermissions()
  recoverEdits()
  fault('rows recovered')
  countConnections()
  queueUp(CLOSED, lastSeenOf)
  queueUp(HALF_CLOSED, lastSeenOf)
  queueUp(RENEWABLE, lastSeenOf)
  queueUp(UNASSURED, createdOf)
  recoverPorts(recoverMappings(externals))
  recoverHosts()
  counters[CELL.permissions] = permissions.used
  fault('recovered')
}

const liveRows = (): Float64Array => {
  const rows = new Float64Array(connections.used)
  for (let row = 1, count = 0; row <= connections.highest; row++) if (connections.isLive(row)) rows[count++] = row
  return rows
}

/** What each connection stands behind, and its timeout, whose store may have been the one that was missing. */
function countConnections(): void {
  const live = new Float64Array(4)
  for (let row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row)) continue
    const bound: Row = cold.mapping[row]!
    if (bound !== 0) holdMapping(bound, holds(row))
    joinMapping(row)
    hot[baseOf(row) + CONN.timeout] = timeoutOf(row)
    forgetQueue(row)
    cold.permission[row] = 0
    if (hasSent(row)) permitRemote(row)
    live[protocolCell(protocolOf(row))]! += 1
    fault('connection recovered')
  }
  for (const [cell, count] of live.entries()) correctCounts(cell, count)
}

/** Counters never fall: what began and isn't here has ended; what is here and wasn't counted has begun. */
function correctCounts(cell: number, live: number): void {
  const begun = counters[CELL.connectionsInserted + cell]!
  const ended = counters[CELL.connectionsExpired + cell]!
  counters[CELL.connections + cell] = live
  counters[CELL.connectionsInserted + cell] = Math.max(begun, live + ended)
  counters[CELL.connectionsExpired + cell] = Math.max(begun - live, ended)
}

const lastSeenOf = (row: Row): Seconds => hot[baseOf(row) + CONN.lastSeen]!
const createdOf = (row: Row): Seconds => cold.created[row]!

/** Those of one kind, in the order of a time, as they would have come; rows of one second in that of their numbers. */
function queueUp(kind: Queue, timeOf: (row: Row) => Seconds): void {
  const rows = liveRows().filter((row) => kindOf(queueFor(hot[baseOf(row) + CONN.state]!, cold.mapping[row]!)) === kind)
  // Second and row in one exact number: sorting those takes a tenth of the time that a comparing function does.
  const range = connections.capacity + 1
  for (const key of rows.map((row) => timeOf(row) * range + row).sort()) {
    requeue(key % range)
  }
}

/** Returns the ports that mappings have. */
function recoverMappings(externals: Externals): Set<PortIndex> {
  const mapped = new Set<PortIndex>()
  const live = new Float64Array(4)
  for (let row = 1; row <= mappings.highest; row++) {
    if (!mappings.isLive(row)) continue
    const protocol = mappingProtocol(row)
    const port = externals.portIndex(externalOf(row), spaceOf(protocol), ntohs(externalPortOf(row)))
    // The one that was being made or was to go: its port may be in a block that isn't ours any more.
    if (mapping[mappingBase(row) + MAPPING.rows] === 0) intendToFree(port)
    recoverMapping(row)
    fault('mapping recovered')
    if (!mappings.isLive(row)) continue
    mapped.add(port)
    live[protocolCell(protocol)]! += 1
  }
  for (const [cell, count] of live.entries()) counters[CELL.mappings + cell] = count
  return mapped
}
