// The threads' entry points: the compiled file that each kind of thread starts from, and what it is given; beside them
// that of the process that tries helpers. Threads start from dist/, also when the code that starts them runs uncompiled
// (tests): a worker thread has no compiler. The watcher's data is declared in host/watcher.ts, a replay's in
// replay/messages.ts, a trial's in helpers/helper-trial.ts.

import { fileURLToPath } from 'node:url'
import type { Report, ShardMemory, ShardSettings } from '../../datapath/shard-contract.ts'
import type { AfPacketRings } from '../../io/af-packet-layout.ts'
import type { FaultPlan } from '../../io/fault-plan.ts'

const FROM_COMPILED = '../../../workers/'
const FROM_SOURCE = '../../../dist/workers/'

export function workerFile(name: 'shard' | 'dispatcher' | 'netlink' | 'replay' | 'helper-trial'): string {
  const folder = import.meta.url.endsWith('.ts') ? FROM_SOURCE : FROM_COMPILED
  return fileURLToPath(new URL(`${folder}${name}.js`, import.meta.url))
}

/** What `workers/shard.ts` is given: plain data, shared memory, descriptors by number. */
export interface ShardTask {
  /** Which shard it is, and which of its lives: `epoch` counts the threads that have run it. */
  readonly settings: ShardSettings
  readonly memory: ShardMemory
  readonly packetRings: AfPacketRings
  /** `workers`: how many the control words are cut for. */
  readonly control: { readonly buffer: SharedArrayBuffer; readonly workers: number }
  /** The eventfd that wakes the netlink watcher. */
  readonly watcherFd: number
  /** By shard: the eventfd that wakes it. */
  readonly wakeFds: readonly number[]
  /** The gateway's start in milliseconds of the machine's monotonic clock (process.hrtime). */
  readonly startedAt: number
  /** Faults that tests and the lab inject into the packet sockets. */
  readonly faults?: FaultPlan | undefined
}

/** What a worker posts: an entry of the log. */
export interface WorkerMessage {
  readonly report: Report
}

/** What `workers/dispatcher.ts` is given: the same, with the number of shards as its shard number. */
export type DispatcherTask = ShardTask
