// From shared memory to a running shard: what a shard is told, how its memory is cut, and the one place where the
// datapath is imported, after its memory is attached (memory/attached.ts).

import { setFlagsFromString } from 'node:v8'
import { type ConnectionView, viewConnections } from '../conntrack/connection-table.ts'
import type { Side } from '../conntrack/terms.ts'
import type { Timeouts } from '../conntrack/timeouts.ts'
import { counterBlock } from '../counters/counters.ts'
import type { Driver } from '../io/driver.ts'
import { attach } from '../memory/attached.ts'
import type { Milliseconds } from '../memory/brand.ts'
import { cutEvents, type EventRing } from '../memory/event-ring.ts'
import { bytesOf, Region } from '../memory/region.ts'
import type { PortForward } from '../nat/port-forwards.shard.ts'
import type { NatSettings } from '../nat/settings.ts'
import type { FibOptions } from '../routing/fib.ts'
import type { CallClocks } from './helped/call-budget.ts'
import { cutTables } from './shard-tables.ts'

/** What a shard must know; plain data, posted to its worker. */
export interface ShardSettings {
  /** Its number; the dispatcher's is the number of shards. */
  readonly shard: number
  /** How many shards there are. */
  readonly shards: number
  /** The memory is a dead shard's: what is derived from its rows is made again. */
  readonly restarted: boolean
  /** Which life of the shard this is, from 1 on (memory/control-words.ts). */
  readonly epoch: number
  /** Key of the ownership rule's hash (ownership-rule.ts): a random 32-bit word, the same for all. */
  readonly ownerKey: number
  /** Side of each port: 0 inside, 1 outside. */
  readonly sides: readonly Side[]
  /** The secret key of this start (memory/siphash.ts): two random 32-bit words. */
  readonly hashKey: readonly [number, number]
  /** Connections that the table holds. */
  readonly connections: number
  readonly externals: { readonly capacity: number; readonly blockSize: number }
  readonly fib: FibOptions
  /** Expectations at a time, of all shards. */
  readonly expectations: number
  readonly timeouts: Timeouts
  readonly nat: NatSettings
  /** In the order of the configuration; none share an external endpoint. */
  readonly portForwards: readonly PortForward[]
  readonly icmpErrorsPerSecond: number
}

/** The buffers a shard works on. */
export interface ShardMemory {
  /** Its own tables and counters. */
  readonly tables: SharedArrayBuffer
  /** By shard: all shards' tables, of which it reads the mappings. */
  readonly peers: readonly SharedArrayBuffer[]
  /** External addresses, leases, port words: all shards'. */
  readonly externals: SharedArrayBuffer
  /** Routes and neighbours: all shards'. */
  readonly fib: SharedArrayBuffer
  /** Rings from shard to shard: all shards'. */
  readonly handover: SharedArrayBuffer
  /** What helpers have announced: all shards'. */
  readonly expectations: SharedArrayBuffer
  /** Which helpers are in force: all shards'. */
  readonly helperList: SharedArrayBuffer
}

/** How a shard makes other threads look. Each may be called at any time and wakes a sleeper once. */
export interface Wakers {
  /** The netlink watcher: a neighbour is asked for. */
  watcher(): void
  /** Another shard: something is in a ring for it. */
  shard(shard: number): void
  /** The coordinator: a port block is asked for. */
  coordinator(): void
  /** To measure helpers by; without them they are not. */
  readonly callClocks?: CallClocks
  /** Somebody who writes a helper: what is wrong with it, in a line. */
  readonly tell?: (text: string) => void
}

/** The datapath of this thread. */
export interface Dataplane {
  /** One turn of the loop at this time (milliseconds since the gateway's start); packets received. */
  turn(milliseconds: Milliseconds): number
  /** Sleeps until there is something to do, at most this long. */
  sleep(timeoutMs: Milliseconds): void
  /** Once before the first turn, then after each: what must be awaited before the next, if anything. Never rejects. */
  followHelpers(): Promise<void> | undefined
}

/** A shard, and what only a replay asks of it; shard.ts says what each does. */
export interface Shard extends Dataplane {
  catchUp(milliseconds: Milliseconds): boolean
  asSentFromInside(mem: DataView, ip: number, end: number): void
  asSentFromOutside(mem: DataView, ip: number, end: number, outside: number): void
}

/**
 * A packet's way is many small functions: V8 inlines all of it only with a larger budget than its own (measured with
 * bench/pipeline.ts: a fifth faster). For the whole process, best before the datapath is first run.
 */
export const INLINING = ['--max-inlined-bytecode-size-cumulative=4000', '--max-inlined-bytecode-size=2000'] as const

/** Bytes of a shard's own tables. */
export const tableBytes = (settings: ShardSettings): number =>
  bytesOf((region) => cutTables(region, settings.connections))

/** Anyone's view of a shard's connections; conntrack/listing.ts reads it. */
export const connectionsOf = (tables: SharedArrayBuffer, settings: ShardSettings): ConnectionView =>
  viewConnections(cutTables(new Region(tables), settings.connections).connections, settings.connections)

/** A shard's event ring, for its one reader. */
export const eventsOf = (tables: SharedArrayBuffer, settings: ShardSettings): EventRing =>
  cutEvents(cutTables(new Region(tables), settings.connections).events)

/** Anyone's view of a shard's counters. */
export const countersOf = (tables: SharedArrayBuffer): Float64Array => counterBlock(new Region(tables))

/** Makes this thread a shard, once. */
export async function attachShard(
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
): Promise<Shard> {
  attachMemory(memory, settings, driver)
  const shard: typeof import('./shard.ts') = fromSource ? await import('./shard.ts') : await import(bundle('shard'))
  shard.attachShard(memory, settings, driver, wakers)
  return shard
}

/** Makes this thread the dispatcher, once; its number, in settings, is that of the shards. */
export async function attachDispatcher(
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
): Promise<Dataplane> {
  attachMemory(memory, settings, driver)
  const dispatcher: typeof import('./dispatcher.ts') = fromSource
    ? await import('./dispatcher.ts')
    : await import(bundle('dispatcher'))
  dispatcher.attachDispatcher(memory, settings, driver, wakers)
  return dispatcher
}

function attachMemory(memory: ShardMemory, settings: ShardSettings, driver: Driver): void {
  for (const flag of INLINING) setFlagsFromString(flag)
  attach({ packetMemory: driver.packetMemory, ...cutTables(new Region(memory.tables), settings.connections) })
}

// Compiled, each is one bundle (docs/decisions/0002); from source, modules.
const fromSource = import.meta.url.endsWith('.ts')
const bundle = (name: string): string => new URL(`./${name}.bundle.js`, import.meta.url).href
