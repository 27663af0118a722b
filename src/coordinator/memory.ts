// The gateway's shared memory, and what each shard is told about it. All sizes follow from the configuration, so that
// the coordinator and every shard lay out the same buffers in the same way.
// Owner: the coordinator allocates the buffers; the module that lays one out says who writes what in it.

import { getRandomValues } from 'node:crypto'
import type { ExpectationTable } from '../conntrack/expectation-table.ts'
import type { HostTable } from '../conntrack/host-table.ts'
import { INSIDE, OUTSIDE, type Side } from '../conntrack/terms.ts'
import { counterBlock } from '../counters/counters.ts'
import type { DropTable } from '../counters/drop-table.ts'
import { handoverFrameBytes } from '../datapath/handover/handover-rings.ts'
import type { ShardMemory, ShardSettings } from '../datapath/shard-contract.ts'
import { tableBytes } from '../datapath/shard-tables.ts'
import type { HelperList } from '../helpers/helper-list.ts'
import { addressOf, adviseHugePages } from '../io/syscalls.ts'
import type { ControlWords } from '../memory/control-words.ts'
import { allocate, CACHE_LINE, Region, sharedMemory } from '../memory/region.ts'
import type { Externals } from '../nat/externals.ts'
import type { Fib, FibOptions } from '../routing/fib.ts'
import type { GatewayConfig } from './config.ts'
import { GatewayError } from './errors.ts'
import { parseFilterRule } from './filter.ts'
import { hostQuotas } from './host-limits.ts'
import { sharedCuts, sharedTables, shareOf, tableSizes } from './memory-plan.ts'
import { parsePortForward } from './port-forwards.ts'

/** Rows of the dispatcher's own tables: it has some because every worker has, and tracks nothing. */
const DISPATCHER_ROWS = 16

export interface GatewayMemory {
  /** By shard. */
  readonly settings: readonly ShardSettings[]
  readonly shards: readonly ShardMemory[]
  readonly counters: readonly Float64Array[]
  /** The same of the dispatcher, if a thread dispatches. */
  readonly dispatcher?: {
    readonly settings: ShardSettings
    readonly memory: ShardMemory
    readonly counters: Float64Array
  }
  readonly externals: Externals
  readonly expectations: ExpectationTable
  readonly hosts: HostTable
  readonly drops: DropTable
  /** Names of interfaces, and their sides, by port number. */
  readonly interfaces: readonly string[]
  readonly sides: readonly Side[]
  readonly helperList: HelperList
  readonly fib: { readonly buffer: SharedArrayBuffer; readonly options: FibOptions; readonly view: Fib }
  /** Bytes of packet memory that all shards share: slots for frames that are handed over. */
  readonly sharedPacketMemory: number
  /** Control words of `workers` workers: the shards and, behind them, the dispatcher. */
  readonly control: { readonly buffer: SharedArrayBuffer; readonly words: ControlWords; readonly workers: number }
}

/** The part of the configuration that sizes and settings follow from. */
export type MemoryConfig = Pick<
  GatewayConfig,
  | 'inside'
  | 'outside'
  | 'workers'
  | 'dispatch'
  | 'nat'
  | 'forward'
  | 'filter'
  | 'limits'
  | 'timeouts'
  | 'tcp'
  | 'capacity'
  | 'icmp'
>

/**
 * `random` fills words with keys: secret ones in a gateway, the same ones each time in a replay. Throws GatewayError
 * GATEWAY_MEMORY.
 */
export function allocateMemory(
  config: MemoryConfig,
  random: (words: Int32Array) => Int32Array = getRandomValues,
): GatewayMemory {
  try {
    return allocated(config, random)
  } catch (error) {
    // Its size is right (memory-plan.ts asks before), so there is none to be had.
    if (!(error instanceof RangeError)) throw error
    throw new GatewayError(
      'GATEWAY_MEMORY',
      `there is not enough address space for the tables of ${config.capacity.connections} connections ` +
        `(${error.message}): lower capacity.connections or workers, or raise the limit (ulimit -v, LimitAS=)`,
    )
  }
}

function allocated(config: MemoryConfig, random: (words: Int32Array) => Int32Array): GatewayMemory {
  const settings = shardSettings(config, random(new Int32Array(3)))
  const cuts = sharedCuts(config)
  const externals = allocate(cuts.externals)
  const fib = allocate(cuts.fib)
  const control = allocate(cuts.control)
  const handover = allocate(cuts.handover)
  const expectations = allocate(cuts.expectations)
  const hosts = allocate(cuts.hosts)
  const drops = allocate(cuts.drops)
  const helperList = allocate(cuts.helperList)
  const peers = settings.map(tablesOf)
  const memoryOf = (tables: SharedArrayBuffer): ShardMemory => ({
    tables,
    peers,
    externals: externals.buffer,
    fib: fib.buffer,
    handover: handover.buffer,
    expectations: expectations.buffer,
    hosts: hosts.buffer,
    drops: drops.buffer,
    helperList: helperList.buffer,
  })
  const shards = peers.map(memoryOf)
  return {
    settings,
    shards,
    counters: shards.map(({ tables }) => counterBlock(new Region(tables))),
    externals: externals.view,
    expectations: expectations.view,
    hosts: hosts.view,
    drops: drops.view,
    interfaces: [...config.inside, ...config.outside],
    sides: settings[0]!.sides,
    helperList: helperList.view,
    fib: { buffer: fib.buffer, options: settings[0]!.fib, view: fib.view },
    sharedPacketMemory: handoverFrameBytes(config.workers),
    control: { buffer: control.buffer, words: control.view, workers: sharedTables(config).workers },
    ...(config.dispatch === 'thread' && { dispatcher: dispatcher(memoryOf, settings[0]!) }),
  }
}

/** Its shard number is the number of shards, and it has counters as they have. */
function dispatcher(memoryOf: (tables: SharedArrayBuffer) => ShardMemory, of: ShardSettings) {
  const settings = { ...of, shard: of.shards, connections: DISPATCHER_ROWS, mappings: DISPATCHER_ROWS }
  const memory = memoryOf(tablesOf(settings))
  return { settings, memory, counters: counterBlock(new Region(memory.tables)) }
}

function tablesOf(settings: ShardSettings): SharedArrayBuffer {
  const tables = sharedMemory(tableBytes(settings))
  assertAligned(tables)
  // If the kernel refuses, lookups are slower and nothing else changes.
  adviseHugePages(tables)
  return tables
}

function shardSettings(config: MemoryConfig, [low, high, ownerKey]: Int32Array): ShardSettings[] {
  const { inside, outside, workers, nat, forward, filter, timeouts, tcp, capacity, icmp } = config
  const { externals, fib, hosts } = sharedTables(config)
  const common = {
    sides: [...inside.map((): Side => INSIDE), ...outside.map((): Side => OUTSIDE)],
    shards: workers,
    // Those of a shard's first thread; workers/shards.ts sets them for each thread.
    restarted: false,
    epoch: 1,
    ownerKey: ownerKey!,
    hashKey: [low!, high!] as const,
    ...tableSizes(config),
    externals,
    fib,
    expectations: capacity.expectations,
    hosts: hosts.hosts,
    limits: hostQuotas(config),
    timeouts,
    tcp,
    nat: {
      translate: nat.translate ?? true,
      mapping: nat.mapping,
      filtering: nat.filtering,
      preservePorts: nat.preservePorts,
      parity: nat.parity,
      protocols: nat.protocols,
    },
    portForwards: forward.map(parsePortForward),
    filter: filter.map(parseFilterRule),
    icmpErrorsPerSecond: shareOf(icmp.errorsPerSecond, workers),
  }
  return Array.from({ length: workers }, (_, shard) => ({ shard, ...common }))
}

/** A row that straddles two cache lines costs half the rate at a million flows (memory/region.ts). */
function assertAligned(buffer: SharedArrayBuffer): void {
  const address = addressOf(new Uint8Array(buffer))
  if (address % CACHE_LINE !== 0) throw new Error(`shared memory begins at ${address}, not on a cache line`)
}
