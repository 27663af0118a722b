// The gateway's shared memory, and what each shard is told about it. Sizes follow from the configuration alone, so the
// coordinator and every shard cut the same buffers in the same way.
// Owner: the coordinator makes the buffers; who writes what in them is said where each is cut.

import { getRandomValues } from 'node:crypto'
import { ExpectationTable } from '../conntrack/expectation-table.ts'
import type { Side } from '../conntrack/terms.ts'
import { counterBlock } from '../counters/counters.ts'
import { type ShardMemory, type ShardSettings, tableBytes } from '../datapath/attach.ts'
import { HandoverRings, handoverFrameBytes } from '../datapath/handover/handover-rings.ts'
import { HelperList } from '../helpers/helper-list.ts'
import { addressOf, adviseHugePages } from '../io/syscalls.ts'
import { ControlWords } from '../memory/control-words.ts'
import { allocate, Region, sharedMemory } from '../memory/region.ts'
import { Externals } from '../nat/externals.ts'
import { Fib, type FibOptions } from '../routing/fib.ts'
import { poolAddresses } from './address-range.ts'
import type { GatewayConfig } from './config.ts'
import { parseForward } from './port-forwards.ts'

const INSIDE = 0
const OUTSIDE = 1
/** An outside interface has one address at a time; the others are for those that change before their end is seen. */
const FEWEST_EXTERNALS = 8

/** Rows of the tables that the dispatcher is given as every worker is: it tracks nothing. */
const DISPATCHER_ROWS = 16

export interface GatewayMemory {
  /** By shard. */
  readonly settings: readonly ShardSettings[]
  readonly shards: readonly ShardMemory[]
  readonly counters: readonly Float64Array[]
  /** Of the thread that dispatches, where one does. */
  readonly dispatcher?: {
    readonly settings: ShardSettings
    readonly memory: ShardMemory
    readonly counters: Float64Array
  }
  readonly externals: Externals
  readonly expectations: ExpectationTable
  readonly helperList: HelperList
  readonly fib: { readonly buffer: SharedArrayBuffer; readonly options: FibOptions; readonly view: Fib }
  /** What all shards need of the packets' packet memory together: places for frames that are handed over. */
  readonly sharedPacketMemory: number
  /** Of `workers` places: the shards and, behind them, a dispatcher. */
  readonly control: { readonly buffer: SharedArrayBuffer; readonly words: ControlWords; readonly workers: number }
}

/** What sizes and settings follow from. */
export type MemoryConfig = Pick<
  GatewayConfig,
  'inside' | 'outside' | 'workers' | 'dispatch' | 'nat' | 'forward' | 'timeouts' | 'capacity' | 'icmp'
>

/** `random` fills words with keys: secret ones, but where a run is to be repeated. */
export function allocateMemory(
  config: MemoryConfig,
  random: (words: Int32Array) => Int32Array = getRandomValues,
): GatewayMemory {
  const settings = shardSettings(config, random(new Int32Array(3)))
  const { externals: externalsOptions, fib: fibOptions } = settings[0]
  const externals = allocate((region) => new Externals(region, externalsOptions))
  const fib = allocate((region) => new Fib(region, fibOptions))
  const workers = config.workers + 1
  const control = allocate((region) => new ControlWords(region, workers))
  const handover = allocate((region) => new HandoverRings(region, config.workers))
  const expectations = allocate(
    (region) => new ExpectationTable(region, { capacity: settings[0].expectations, shards: config.workers }),
  )
  const helperList = allocate((region) => new HelperList(region, config.workers))
  const peers = settings.map(tablesOf)
  const memoryOf = (tables: SharedArrayBuffer): ShardMemory => ({
    tables,
    peers,
    externals: externals.buffer,
    fib: fib.buffer,
    handover: handover.buffer,
    expectations: expectations.buffer,
    helperList: helperList.buffer,
  })
  const shards = peers.map(memoryOf)
  return {
    settings,
    shards,
    counters: shards.map(({ tables }) => counterBlock(new Region(tables))),
    externals: externals.view,
    expectations: expectations.view,
    helperList: helperList.view,
    fib: { buffer: fib.buffer, options: fibOptions, view: fib.view },
    sharedPacketMemory: handoverFrameBytes(config.workers),
    control: { buffer: control.buffer, words: control.view, workers },
    ...(config.dispatch === 'thread' && { dispatcher: dispatcher(memoryOf, settings[0]!) }),
  }
}

/** It is number N among N shards, and counts as they do. */
function dispatcher(memoryOf: (tables: SharedArrayBuffer) => ShardMemory, of: ShardSettings) {
  const settings = { ...of, shard: of.shards, connections: DISPATCHER_ROWS }
  const memory = memoryOf(tablesOf(settings))
  return { settings, memory, counters: counterBlock(new Region(memory.tables)) }
}

function tablesOf(settings: ShardSettings): SharedArrayBuffer {
  const tables = sharedMemory(tableBytes(settings))
  assertAligned(tables)
  // Where the kernel won't, lookups are slower, and that is all.
  adviseHugePages(tables)
  return tables
}

function shardSettings(config: MemoryConfig, [low, high, ownerKey]: Int32Array): ShardSettings[] {
  const { inside, outside, workers, nat, forward, timeouts, capacity, icmp } = config
  const share = (total: number): number => Math.ceil(total / workers)
  const common = {
    sides: [...inside.map((): Side => INSIDE), ...outside.map((): Side => OUTSIDE)],
    shards: workers,
    // Of each life of a shard; shards.ts says which.
    restarted: false,
    epoch: 1,
    ownerKey: ownerKey!,
    hashKey: [low!, high!] as const,
    connections: share(capacity.connections),
    externals: {
      capacity: Math.max(FEWEST_EXTERNALS, 2 * poolAddresses(nat.pool).length),
      blockSize: nat.blockSize,
    },
    fib: { ports: inside.length + outside.length, shards: workers },
    expectations: capacity.expectations,
    timeouts,
    nat: {
      translate: nat.translate ?? true,
      mapping: nat.mapping,
      filtering: nat.filtering,
      preservePorts: nat.preservePorts,
      parity: nat.parity,
      protocols: nat.protocols,
    },
    forwards: forward.map(parseForward),
    icmpErrorsPerSecond: share(icmp.errorsPerSecond),
  }
  return Array.from({ length: workers }, (_, shard) => ({ shard, ...common }))
}

const LINE = 64

/** A row that straddles two cache lines costs half the rate at a million flows (memory/region.ts). */
function assertAligned(buffer: SharedArrayBuffer): void {
  const address = addressOf(new Uint8Array(buffer))
  if (address % LINE !== 0) throw new Error(`shared memory begins at ${address}, not on a cache line`)
}
