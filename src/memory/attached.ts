// What this thread works on. A shard is an isolate, and its tables are module-level constants: V8 folds a constant's
// address into the code, which a view behind a variable costs on every access (measured with bench/pipeline.ts: 110
// against 91 ns a packet). A constant needs its value when its module is evaluated, so the memory is attached first
// and the datapath imported after, once a thread: datapath/attach.ts does both.

import type { Region } from './region.ts'

export interface Attached {
  /** Where packets lie (io/driver.ts). */
  readonly packetMemory: ArrayBufferLike
  /** The shard's own memory, a region a table. */
  readonly counters: Region
  readonly connections: Region
  readonly mappings: Region
  readonly permissions: Region
  readonly sequences: Region
  readonly gone: Region
  readonly events: Region
  /** Rows of the connection table; there can't be more permissions. */
  readonly capacity: number
  /** Rows of the mapping table: no more than there are ports to map. */
  readonly mappingCapacity: number
}

// On the global object, because the datapath may be bundled into one file and then has its own copy of this module.
const ATTACHED = Symbol.for('natloom.attached')
const holder = globalThis as { [ATTACHED]?: Attached }

export function attach(memory: Attached): void {
  holder[ATTACHED] = memory
}

/** This thread's memory. A programming error if nothing is attached. */
export function attached(): Attached {
  const memory = holder[ATTACHED]
  if (!memory) throw new Error('no memory is attached: import datapath/attach.ts, not the datapath itself')
  return memory
}
