// How a shard's own memory is cut into tables, and how other threads look at them. Owner: the shard; all others read.

import { type ConnectionView, cutConnections, viewConnections } from '../conntrack/connection-table.ts'
import { cutMappings, type MappingView, viewMappings } from '../conntrack/mapping-table.ts'
import { cutPermissions } from '../conntrack/permission-table.ts'
import { counterBlock } from '../counters/counters.ts'
import type { Attached } from '../memory/attached.ts'
import { cutEvents, type EventRing } from '../memory/event-ring.ts'
import { bytesOf, Region } from '../memory/region.ts'
import { cutSequences } from '../nat/sequence-table.ts'
import type { ShardSettings } from './shard-contract.ts'

type Tables = Omit<Attached, 'packetMemory'>

/** Cuts a shard's own tables. Counters come first, so that they are found without knowing the rest. */
export function cutTables(region: Region, capacity: number): Tables {
  return {
    counters: region.sub(bytesOf(counterBlock)),
    connections: region.sub(bytesOf((part) => cutConnections(part, capacity))),
    mappings: region.sub(bytesOf((part) => cutMappings(part, capacity))),
    permissions: region.sub(bytesOf((part) => cutPermissions(part, capacity))),
    sequences: region.sub(bytesOf((part) => cutSequences(part, capacity))),
    events: region.sub(bytesOf(cutEvents)),
    capacity,
  }
}

/** Anyone's view of a shard's mappings; nat/existing-mappings.shard.ts reads it. */
export const mappingsOf = (tables: SharedArrayBuffer, capacity: number): MappingView =>
  viewMappings(cutTables(new Region(tables), capacity).mappings, capacity)

/** Bytes of a shard's own tables. */
export const tableBytes = ({ connections }: Pick<ShardSettings, 'connections'>): number =>
  bytesOf((region) => cutTables(region, connections))

/** Anyone's view of a shard's connections; conntrack/listing.ts reads it. */
export const connectionsOf = (tables: SharedArrayBuffer, settings: ShardSettings): ConnectionView =>
  viewConnections(cutTables(new Region(tables), settings.connections).connections, settings.connections)

/** A shard's event ring, for its one reader. */
export const eventsOf = (tables: SharedArrayBuffer, settings: ShardSettings): EventRing =>
  cutEvents(cutTables(new Region(tables), settings.connections).events)

/** Anyone's view of a shard's counters. */
export const countersOf = (tables: SharedArrayBuffer): Float64Array => counterBlock(new Region(tables))
