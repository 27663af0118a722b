// A gateway's workers: its shards and, where a thread dispatches packets, the dispatcher. Says what each worker thread
// is given; supervisor.ts keeps one running in each slot.

import type { ShardMemory, ShardSettings } from '../../datapath/shard-contract.ts'
import type { AfPacketRings } from '../../io/af-packet-layout.ts'
import type { FaultPlan } from '../../io/fault-plan.ts'
import { signal } from '../../io/syscalls.ts'
import type { ControlWords } from '../../memory/control-words.ts'
import { type ShardTask, workerFile } from './entry-points.ts'
import { Supervisor, type SupervisorOptions, type WorkerSlot } from './supervisor.ts'

/** The part of a gateway's memory (coordinator/memory.ts) that its workers are given. */
export interface WorkersMemory {
  /** By shard. */
  readonly settings: readonly ShardSettings[]
  /** By shard. */
  readonly shards: readonly ShardMemory[]
  readonly dispatcher?: { readonly settings: ShardSettings; readonly memory: ShardMemory }
  readonly control: { readonly buffer: SharedArrayBuffer; readonly words: ControlWords; readonly workers: number }
}

interface WorkersOptions {
  readonly memory: WorkersMemory
  /** By shard. */
  readonly packetRings: readonly AfPacketRings[]
  /** Given if a thread dispatches. */
  readonly dispatcherRings?: AfPacketRings | undefined
  /** The eventfd that wakes the netlink watcher. */
  readonly watcherFd: number
  /** The gateway's start in milliseconds of the machine's monotonic clock. */
  readonly startedAt: number
  readonly faults?: FaultPlan | undefined
}

export interface ShardsOptions extends WorkersOptions, Omit<SupervisorOptions, 'words' | 'slots' | 'now' | 'memory'> {}

/** A slot for each shard and, behind them, one for the dispatcher. */
export function workerSlotsOf(options: WorkersOptions): WorkerSlot[] {
  const { memory, packetRings, dispatcherRings, watcherFd, startedAt, faults } = options
  const { settings, shards, dispatcher, control } = memory
  const common = {
    control: { buffer: control.buffer, workers: control.workers },
    watcherFd,
    wakeFds: packetRings.map(({ wakeFd }) => wakeFd),
    startedAt,
    faults,
  }
  const slot = (name: string, file: string, given: Pick<ShardTask, 'settings' | 'memory' | 'packetRings'>) => ({
    name,
    file,
    task(epoch: number): ShardTask {
      return { ...given, ...common, settings: { ...given.settings, epoch, restarted: epoch > 1 } }
    },
    wake: () => signal(given.packetRings.wakeFd),
  })
  const slots = packetRings.map((packetRings, shard) =>
    slot(`shard ${shard}`, workerFile('shard'), { settings: settings[shard]!, memory: shards[shard]!, packetRings }),
  )
  if (dispatcher && dispatcherRings)
    slots.push(slot('the dispatcher', workerFile('dispatcher'), { ...dispatcher, packetRings: dispatcherRings }))
  return slots
}

export class Shards extends Supervisor {
  readonly #slots: readonly WorkerSlot[]

  /** Starts the threads: from now on `stop` must be called some time. */
  constructor(options: ShardsOptions) {
    const { memory, startedAt } = options
    const slots = workerSlotsOf(options)
    const now = () => Number(process.hrtime.bigint() / 1_000_000n) - startedAt
    super({ ...options, words: memory.control.words, slots, now, memory: () => process.memoryUsage.rss() })
    this.#slots = slots
  }

  /** Wakes a shard if it sleeps. */
  wake(shard: number): void {
    this.#slots[shard]!.wake()
  }

  /** Wakes every worker that sleeps. */
  wakeAll(): void {
    for (const { wake } of this.#slots) wake()
  }
}
