// From shared memory to a running shard or dispatcher: attaches the memory to this thread (memory/attached.ts), then
// imports the datapath, whose modules take their tables from what is attached. The threads of workers/ begin here.

import { setFlagsFromString } from 'node:v8'
import type { Driver } from '../io/driver.ts'
import { attach } from '../memory/attached.ts'
import { Region } from '../memory/region.ts'
import type { Dataplane, ShardMemory, ShardSettings, Wakers, WarmUp } from './shard-contract.ts'
import { cutTables } from './shard-tables.ts'

/**
 * The pipeline is many small functions: V8 inlines all of them only with a larger budget than its own (measured with
 * bench/pipeline.ts: a fifth faster). For the whole process, best before the datapath is first run.
 */
export const INLINING = ['--max-inlined-bytecode-size-cumulative=4000', '--max-inlined-bytecode-size=2000'] as const

/** Makes this thread a shard, once, warmed up if it says how: never on a dead shard's memory. */
export async function attachShard(
  memory: ShardMemory,
  settings: ShardSettings,
  driver: Driver,
  wakers: Wakers,
  warmUp?: WarmUp,
): Promise<Dataplane> {
  attachMemory(memory, settings, driver)
  const shard: typeof import('./shard.ts') = fromSource ? await import('./shard.ts') : await import(bundle('shard'))
  if (warmUp) await shard.warmUpShard(memory, settings, warmUp)
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

/** Before any module of the datapath is imported. */
export function attachMemory(memory: ShardMemory, settings: ShardSettings, driver: Driver): void {
  for (const flag of INLINING) setFlagsFromString(flag)
  attach({ packetMemory: driver.packetMemory, ...cutTables(new Region(memory.tables), settings) })
}

/** Compiled, each entry of the datapath is one bundle (docs/decisions/0002); from source, modules. */
export const fromSource = import.meta.url.endsWith('.ts')
/** Where the bundle of an entry lies. */
export const bundle = (name: string): string => new URL(`./${name}.bundle.js`, import.meta.url).href
