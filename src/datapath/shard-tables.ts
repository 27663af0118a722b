// How a shard's own memory is cut into tables, and how other threads look at them. Owner: the shard; all others read.

import { type ConnectionView, cutConnections, viewConnections } from '../conntrack/connection-table.ts'
import { cutMappings, type MappingView, viewMappings } from '../conntrack/mapping-table.ts'
import { cutPermissions } from '../conntrack/permission-table.ts'
import { counterBlock } from '../counters/counters.ts'
import type { DropTableOptions } from '../counters/drop-table.ts'
import type { Attached } from '../memory/attached.ts'
import { cutEvents, type EventRing } from '../memory/event-ring.ts'
import { bytesOf, Region } from '../memory/region.ts'
import { cutSequences, editedConnections } from '../nat/sequence-table.ts'
import { cutGone, guardedConnections } from './helped/gone-table.ts'
import { MOST_HELPED } from './helped/limits.ts'
import { helpedBytes } from './helped/memory-bound.ts'
import { FRAGMENT_RECORDS, sourceBytes } from './packet/fragment-limits.ts'
import type { ShardSettings } from './shard-contract.ts'

type Tables = Omit<Attached, 'packetMemory'>

/** The numbers that the sizes of a shard's tables follow from. */
export type TableSizes = Pick<ShardSettings, 'connections' | 'mappings'>

/** Cuts a shard's own tables. Counters come first, so that they are found without knowing the rest. */
export function cutTables(region: Region, { connections, mappings }: TableSizes): Tables {
  return {
    counters: region.sub(bytesOf(counterBlock)),
    connections: region.sub(bytesOf((part) => cutConnections(part, connections))),
    mappings: region.sub(bytesOf((part) => cutMappings(part, mappings))),
    permissions: region.sub(bytesOf((part) => cutPermissions(part, connections))),
    sequences: region.sub(bytesOf((part) => cutSequences(part, connections))),
    gone: region.sub(bytesOf((part) => cutGone(part, connections))),
    events: region.sub(bytesOf(cutEvents)),
    capacity: connections,
    mappingCapacity: mappings,
  }
}

/** Anyone's view of a shard's mappings; nat/existing-mappings.shard.ts reads it. */
export const mappingsOf = (tables: SharedArrayBuffer, sizes: TableSizes): MappingView =>
  viewMappings(cutTables(new Region(tables), sizes).mappings, sizes.mappings)

/**
 * Bytes that a shard's thread takes beside its tables, at the most, for what many connections and hosts may need: the
 * bytes of helped ones, whose fragments are how old, and which rows of side tables are free. What it takes of code and
 * of fixed size isn't there.
 */
export const privateBytes = ({ connections }: TableSizes, hosts: number): number =>
  helpedBytes(connections) + sourceBytes(hosts) + 4 * (editedConnections(connections) + guardedConnections(connections))

/** The options of the table of what was dropped, which all workers share: the shards and the dispatcher. */
export const dropTable = ({ sides, shards }: Pick<ShardSettings, 'sides' | 'shards'>): DropTableOptions => ({
  ports: sides.length,
  workers: shards + 1,
})

/** What a shard has of what its thread keeps beside its tables. */
export const privateRoom = ({ connections }: TableSizes) => ({
  /** Connections that helpers read and that have sent data. */
  helped: Math.min(connections, MOST_HELPED),
  /** Fragmented packets whose fragments have not all come. */
  fragments: FRAGMENT_RECORDS,
})

/** Bytes of a shard's own tables. */
export const tableBytes = (sizes: TableSizes): number => bytesOf((region) => cutTables(region, sizes))

/** Anyone's view of a shard's connections; conntrack/listing.ts reads it. */
export const connectionsOf = (tables: SharedArrayBuffer, sizes: TableSizes): ConnectionView =>
  viewConnections(cutTables(new Region(tables), sizes).connections, sizes.connections)

/** A shard's event ring, for its one reader. */
export const eventsOf = (tables: SharedArrayBuffer, sizes: TableSizes): EventRing =>
  cutEvents(cutTables(new Region(tables), sizes).events)

/** Anyone's view of a shard's counters. */
export const countersOf = (tables: SharedArrayBuffer): Float64Array => counterBlock(new Region(tables))
