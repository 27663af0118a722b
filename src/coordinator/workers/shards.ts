// The workers of a gateway: a shard each, and the dispatcher if packets are dispatched by a thread. What each is given;
// that there is one in each place is supervisor.ts.

import type { ShardMemory, ShardSettings } from '../../datapath/attach.ts'
import type { AfPacketRings } from '../../io/af-packet-layout.ts'
import type { FaultPlan } from '../../io/fault-plan.ts'
import { signal } from '../../io/syscalls.ts'
import type { GatewayMemory } from '../memory.ts'
import { Supervisor, type SupervisorOptions, type WorkerSlot } from './supervisor.ts'
import { workerFile } from './worker-file.ts'

/** What `workers/shard.ts` is given: plain data, shared memory, descriptors by number. */
export interface ShardTask {
  /** Which shard it is, and which of its lives. */
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
  /** Of tests and the lab. */
  readonly faults?: FaultPlan | undefined
}

/** What `workers/dispatcher.ts` is given: the same, its shard being the number of shards. */
export type DispatcherTask = ShardTask

interface WorkersOptions {
  readonly memory: GatewayMemory
  /** By shard. */
  readonly packetRings: readonly AfPacketRings[]
  /** Where a thread dispatches. */
  readonly dispatcherRings?: AfPacketRings | undefined
  readonly watcherFd: number
  /** As in the task. */
  readonly startedAt: number
  readonly faults?: FaultPlan | undefined
}

export interface ShardsOptions extends WorkersOptions, Omit<SupervisorOptions, 'words' | 'slots' | 'now'> {}

/** A place for each shard, and the dispatcher's. */
export function workerSlotsOf({
  memory,
  packetRings,
  dispatcherRings,
  watcherFd,
  startedAt,
  faults,
}: WorkersOptions): WorkerSlot[] {
  const { settings, shards, dispatcher, control } = memory
  const common = {
    control: { buffer: control.buffer, workers: control.workers },
    watcherFd,
    wakeFds: packetRings.map(({ wakeFd }) => wakeFd),
    startedAt,
    faults,
  }
  const slot = (
    name: string,
    file: string,
    of: ShardSettings,
    memory: ShardMemory,
    packetRings: AfPacketRings,
  ): WorkerSlot => ({
    name,
    file,
    task: (epoch): ShardTask => ({ settings: { ...of, epoch, restarted: epoch > 1 }, memory, packetRings, ...common }),
    wake: () => signal(packetRings.wakeFd),
  })
  const slots = packetRings.map((packetRings, shard) =>
    slot(`shard ${shard}`, workerFile('shard'), settings[shard]!, shards[shard]!, packetRings),
  )
  if (dispatcher && dispatcherRings)
    slots.push(
      slot('the dispatcher', workerFile('dispatcher'), dispatcher.settings, dispatcher.memory, dispatcherRings),
    )
  return slots
}

export class Shards extends Supervisor {
  readonly #slots: readonly WorkerSlot[]

  /** Starts the threads. `stop` is due from now on. */
  constructor(options: ShardsOptions) {
    const { memory, startedAt } = options
    const slots = workerSlotsOf(options)
    const now = () => Number(process.hrtime.bigint() / 1_000_000n) - startedAt
    super({ ...options, words: memory.control.words, slots, now })
    this.#slots = slots
  }

  /** Makes a sleeping shard turn. */
  wake(shard: number): void {
    this.#slots[shard]!.wake()
  }

  /** Makes every worker turn that sleeps. */
  wakeAll(): void {
    for (const { wake } of this.#slots) wake()
  }
}
