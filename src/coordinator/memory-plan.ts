// What memory a gateway takes, as its configuration alone says it: `natloom check` and the start both ask here before
// anything is allocated. No size stands here twice: memory.ts and interfaces/packet-ports.ts allocate by these very
// functions, and the bytes of a table are what its own cutting code takes of a region that only measures.
//
//   memory                  is taken                                    at most
//   packet memory           as one range; receive rings at once         2 GiB: a packet is named by an i32 offset
//   tables of a shard       as one buffer; pages when touched           4 GiB: what a WebAssembly memory may have
//   external addresses      as one buffer; pages of leased blocks       the same, which the pool's maximum keeps
//   a thread's own          when it is needed                           what limits allow (helped/memory-bound.ts), far
//                                                                       below the limit of its heap
// Authority: packet(7) (PACKET_RX_RING allocates with the socket option); WebAssembly JS API, limits of a memory.

import { ExpectationTable } from '../conntrack/expectation-table.ts'
import { HostTable, hostsFor } from '../conntrack/host-table.ts'
import { DropTable } from '../counters/drop-table.ts'
import { HandoverRings, handoverFrameBytes } from '../datapath/handover/handover-rings.ts'
import { privateBytes, type TableSizes, tableBytes } from '../datapath/shard-tables.ts'
import { HelperList } from '../helpers/helper-list.ts'
import { MAX_PACKET_MEMORY_BYTES, MIN_RING_BYTES, packetMemoryLayout } from '../io/af-packet-layout.ts'
import { ControlWords } from '../memory/control-words.ts'
import { bytesOf, MAX_SHARED_BYTES, type Region } from '../memory/region.ts'
import { Externals, SPACES, wholeBlocks } from '../nat/externals.ts'
import { Fib } from '../routing/fib.ts'
import { poolSize } from './address-range.ts'
import type { ConfigFault, GatewayConfig } from './config.ts'
import { POOL_PORTS } from './leases/external-addresses.ts'

/**
 * Entries for external addresses at least: an outside interface has one address at a time, but an earlier one keeps its
 * entry until every shard has seen that it ended.
 */
const FEWEST_EXTERNALS = 8

/** More never fit, whatever else is set: packet memory has a slot for each place of each ring between two shards. */
export const MOST_WORKERS = 32
export const FEWEST_CONNECTIONS = 1024
export const FEWEST_RING_MEGABYTES = 16

const MEGABYTE = 2 ** 20

/**
 * What a process takes whose tables are empty, and each shard of it, with room for what V8 has not collected yet:
 * measured by test/coordinator/memory.host.test.ts. Helpers of a user's own come on top.
 */
const PROCESS_BYTES = 192 * MEGABYTE
const THREAD_BYTES = 64 * MEGABYTE

/** The part of the configuration that sizes of shared tables follow from. */
export type TablesConfig = Pick<GatewayConfig, 'inside' | 'outside' | 'workers' | 'capacity'> & {
  readonly nat: Pick<GatewayConfig['nat'], 'pool' | 'blockSize' | 'ports'>
}
/** The part that the size of the packet memory follows from. */
export type PacketMemoryConfig = Pick<GatewayConfig, 'inside' | 'outside' | 'workers' | 'dispatch'> & {
  readonly io: Pick<GatewayConfig['io'], 'ringMegabytes'>
}
export type PlannedConfig = TablesConfig & PacketMemoryConfig

/** A shard's part of what all of them have together. */
export const shareOf = (total: number, workers: number): number => Math.ceil(total / workers)

/**
 * Rows of a shard's tables. Each mapping has an external port of its own, so there are no more than NAT has ports, on
 * the addresses of its pool or on the one that it shares with the host: those of an address that was lost have ended
 * before ports of the next are given. Any shard may come to lease nearly all of them.
 */
export function tableSizes({ workers, nat, capacity }: Omit<TablesConfig, 'inside' | 'outside'>): TableSizes {
  const connections = shareOf(capacity.connections, workers)
  const addresses = poolSize(nat.pool)
  const blocks = wholeBlocks(addresses > 0 ? POOL_PORTS : nat.ports, nat.blockSize).length
  const ports = Math.max(1, addresses) * SPACES * blocks * nat.blockSize
  return { connections, mappings: Math.min(connections, ports) }
}

/** The options of the tables that all shards share. */
export function sharedTables({ inside, outside, workers, nat, capacity }: TablesConfig) {
  return {
    externals: { capacity: Math.max(FEWEST_EXTERNALS, poolSize(nat.pool)), blockSize: nat.blockSize },
    fib: { ports: inside.length + outside.length, shards: workers },
    expectations: { capacity: capacity.expectations, shards: workers },
    hosts: { hosts: hostsFor(capacity.connections), shards: workers },
    drops: { ports: inside.length + outside.length, workers: workers + 1 },
    /** The shards and, behind them, the dispatcher. */
    workers: workers + 1,
  }
}

/** What cuts each of them out of a region. */
export function sharedCuts(config: TablesConfig) {
  const { externals, fib, expectations, hosts, drops, workers } = sharedTables(config)
  return {
    externals: (region: Region) => new Externals(region, externals),
    fib: (region: Region) => new Fib(region, fib),
    expectations: (region: Region) => new ExpectationTable(region, expectations),
    hosts: (region: Region) => new HostTable(region, hosts),
    drops: (region: Region) => new DropTable(region, drops),
    control: (region: Region) => new ControlWords(region, workers),
    handover: (region: Region) => new HandoverRings(region, config.workers),
    helperList: (region: Region) => new HelperList(region, config.workers),
  }
}

/** Bytes of each interface's ring: a dispatcher thread has one of the whole size, without it the shards divide it. */
export function ringBytesOf({
  io,
  dispatch,
  workers,
}: Pick<PacketMemoryConfig, 'io' | 'dispatch' | 'workers'>): number {
  const ringBytes = (io.ringMegabytes * MEGABYTE) / (dispatch === 'thread' ? 1 : workers)
  return Math.max(MIN_RING_BYTES, Math.floor(ringBytes))
}

export interface MemoryPlan {
  /** Bytes of the one range that packets lie in. */
  readonly packetMemory: number
  /** Bytes of all receive rings, a part of it: the kernel takes them at once. */
  readonly rings: number
  /** Bytes of one shard's tables. */
  readonly tables: number
  /** Bytes that its thread takes beside them for connections and hosts: those that helpers read, nearly all of it. */
  readonly own: number
  /** Bytes of what all shards share. */
  readonly shared: number
  /** Bytes of the process and its threads: their code, and what is of fixed size. */
  readonly threads: number
  /** All of it, once every table is full. */
  readonly total: number
}

export function memoryPlan(config: PlannedConfig): MemoryPlan {
  const { inside, outside, workers, dispatch } = config
  const ports = inside.length + outside.length
  const { parts, packetMemoryLength } = packetMemoryLayout({
    ports,
    shards: workers,
    dispatch,
    ringBytes: ringBytesOf(config),
    sharedBytes: handoverFrameBytes(workers),
  })
  const rings = parts.reduce((sum, { ringBytes }) => sum + ports * ringBytes, 0)
  const tables = tableBytes(tableSizes(config))
  const own = privateBytes(tableSizes(config), hostsFor(config.capacity.connections))
  const threads = PROCESS_BYTES + workers * THREAD_BYTES
  const shared = Object.values(sharedCuts(config)).reduce((sum, cut) => sum + bytesOf(cut), 0)
  return {
    packetMemory: packetMemoryLength,
    rings,
    tables,
    own,
    shared,
    threads,
    total: packetMemoryLength + workers * (tables + own) + shared + threads,
  }
}

/** What makes a configuration's memory impossible, on a host with `memory` bytes of it. */
export function memoryFaults(config: PlannedConfig, memory: number): ConfigFault[] {
  const faults = [packetMemoryFault(config) ?? ringsFault(config, memory), tablesFault(config)]
  return faults.filter((fault) => fault !== undefined)
}

/** As many workers as the packet memory has room for, `most` at the most. */
export const mostWorkers = (config: PlannedConfig, most: number): number =>
  largest(1, most, (workers) => fitsPacketMemory({ ...config, workers })) ?? 1

const fitsPacketMemory = (config: PlannedConfig): boolean => memoryPlan(config).packetMemory <= MAX_PACKET_MEMORY_BYTES

function packetMemoryFault(config: PlannedConfig): ConfigFault | undefined {
  if (fitsPacketMemory(config)) return undefined
  const { inside, outside, workers, io } = config
  const smallest = { ...config, io: { ringMegabytes: FEWEST_RING_MEGABYTES } }
  return {
    path: fitsPacketMemory(smallest) ? ['io', 'ringMegabytes'] : ['workers'],
    fault:
      `${counted(workers, 'worker')} with rings of ${io.ringMegabytes} MB on ` +
      `${counted(inside.length + outside.length, 'interface')} take ${mebibytes(memoryPlan(config).packetMemory)} of ` +
      'packet memory, of which there are 2048 MiB',
    remedy: ringRemedy(config, fitsPacketMemory),
  }
}

function ringsFault(config: PlannedConfig, memory: number): ConfigFault | undefined {
  const { rings } = memoryPlan(config)
  if (rings <= memory) return undefined
  return {
    path: ['io', 'ringMegabytes'],
    fault: `receive rings take ${mebibytes(rings)} in all, at once, and this host has ${mebibytes(memory)}`,
    remedy: ringRemedy(config, (changed) => memoryPlan(changed).rings <= memory),
  }
}

/** What may be changed, each alone, so that a condition holds. */
function ringRemedy(config: PlannedConfig, holds: (changed: PlannedConfig) => boolean): string {
  const { io, workers } = config
  const megabytes = largest(FEWEST_RING_MEGABYTES, io.ringMegabytes - 1, (ringMegabytes) =>
    holds({ ...config, io: { ringMegabytes } }),
  )
  const fewer = largest(1, workers - 1, (workers) => holds({ ...config, workers }))
  const isForThread = config.dispatch === 'kernel' && holds({ ...config, dispatch: 'thread' })
  return eitherOf(
    megabytes !== undefined && `io.ringMegabytes to ${megabytes}`,
    fewer !== undefined && `workers to ${fewer}`,
    isForThread && 'dispatch to thread',
  )
}

function tablesFault(config: PlannedConfig): ConfigFault | undefined {
  const { workers, capacity } = config
  const tables = (connections: number, workers: number) =>
    tableBytes(tableSizes({ ...config, workers, capacity: { ...capacity, connections } }))
  const holds = (connections: number, workers: number) => tables(connections, workers) <= MAX_SHARED_BYTES
  if (holds(capacity.connections, workers)) return undefined
  const fewer = largest(FEWEST_CONNECTIONS, capacity.connections - 1, (n) => holds(n, workers))
  const enough = Array.from({ length: MOST_WORKERS }, (_, i) => i + 1).find((n) => holds(capacity.connections, n))
  return {
    path: ['capacity', 'connections'],
    fault:
      `tables of ${mebibytes(tables(capacity.connections, workers))} for each of ${counted(workers, 'worker')}, ` +
      'which may have 4096 MiB',
    remedy: eitherOf(
      fewer !== undefined && `capacity.connections to ${fewer}`,
      enough !== undefined && `workers to ${enough}`,
    ),
  }
}

const eitherOf = (...remedies: readonly (string | false)[]): string => {
  const found = remedies.filter((remedy) => remedy !== false)
  return found.length === 0 ? 'name fewer interfaces' : `set ${found.join(', or ')}`
}

/**
 * The largest number of a range that a condition holds for, if it holds for all below that; undefined if for none.
 */
function largest(from: number, to: number, holds: (n: number) => boolean): number | undefined {
  if (to < from || !holds(from)) return undefined
  let [low, high] = [from, to]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (holds(middle)) low = middle
    else high = middle - 1
  }
  return low
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`
const mebibytes = (bytes: number): string => `${Math.ceil(bytes / MEGABYTE)} MiB`
