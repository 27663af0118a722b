// The connection table's modules over memory of their own, without a datapath around them.

import { vi } from 'vitest'
import { cutConnections } from '../../src/conntrack/connection-table.ts'
import { cutMappings } from '../../src/conntrack/mapping-table.ts'
import { cutPermissions } from '../../src/conntrack/permission-table.ts'
import { attach } from '../../src/memory/attached.ts'
import { allocate, Region } from '../../src/memory/region.ts'

/** A table of this many rows, at second 0. */
export async function attachTables(capacity: number) {
  const cut = (table: (region: Region, capacity: number) => unknown) =>
    allocate((region) => table(region, capacity)).buffer
  const memory = cut(cutConnections)
  vi.resetModules()
  attach({
    packetMemory: new ArrayBuffer(0),
    counters: new Region(),
    connections: new Region(memory),
    mappings: new Region(cut(cutMappings)),
    permissions: new Region(cut(cutPermissions)),
    sequences: new Region(),
    gone: new Region(),
    events: new Region(),
    capacity,
    mappingCapacity: capacity,
  })
  const { attachHashKey } = await import('../../src/memory/siphash.ts')
  attachHashKey(0x03020100, 0x07060504)
  return {
    /** Where the connections are. */
    memory: new Region(memory),
    clock: await import('../../src/memory/clock.ts'),
    connections: await import('../../src/conntrack/connections.shard.ts'),
    mappings: await import('../../src/conntrack/mappings.shard.ts'),
    permissions: await import('../../src/conntrack/permissions.shard.ts'),
    queues: await import('../../src/conntrack/queues.shard.ts'),
    track: await import('../../src/conntrack/track.shard.ts'),
    tuple: await import('../../src/conntrack/terms.ts'),
  }
}

export type AttachedTables = Awaited<ReturnType<typeof attachTables>>
