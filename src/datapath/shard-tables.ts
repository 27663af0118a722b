// How a shard's own memory is cut into tables: by the shard, and by whoever reads them. Owner: the shard.

import { cutConnections } from '../conntrack/connection-table.ts'
import { cutMappings, type MappingView, viewMappings } from '../conntrack/mapping-table.ts'
import { cutPermissions } from '../conntrack/permission-table.ts'
import { counterBlock } from '../counters/counters.ts'
import type { Attached } from '../memory/attached.ts'
import { cutEvents } from '../memory/event-ring.ts'
import { bytesOf, Region } from '../memory/region.ts'
import { cutSequences } from '../nat/sequence-table.ts'

type Tables = Omit<Attached, 'packetMemory'>

/** Cuts a shard's own tables. Counters come first, so that anyone finds them without knowing the rest. */
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
