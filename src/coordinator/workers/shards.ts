// The workers of a gateway: a shard each, and the dispatcher if packets are dispatched by a thread. What each is given;
// that there is one in each place is supervisor.ts.

import type { ShardMemory, ShardSettings } from '../../datapath/attach.ts'
import type { AfPacketSeat } from '../../io/af-packet-layout.ts'
import type { FaultPlan } from '../../io/faulty.ts'
import { signal } from '../../io/syscalls.ts'
import type { GatewayMemory } from '../memory.ts'
import { type Place, Supervisor, type SupervisorOptions } from './supervisor.ts'
import { workerFile } from './worker-file.ts'

/** What `workers/shard.ts` is given: plain data, shared memory, descriptors by number. */
export interface ShardTask {
  /** Which shard it is, and which of its lives. */
  readonly settings: ShardSettings
  readonly memory: ShardMemory
  readonly seat: AfPacketSeat
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
  readonly seats: readonly AfPacketSeat[]
  /** Where a thread dispatches. */
  readonly dispatcherSeat?: AfPacketSeat | undefined
  readonly watcherFd: number
  /** As in the task. */
  readonly startedAt: number
  readonly faults?: FaultPlan | undefined
}

export interface ShardsOptions extends WorkersOptions, Omit<SupervisorOptions, 'words' | 'places' | 'now'> {}

/** A place for each shard, and the dispatcher's. */
export function placesOf({ memory, seats, dispatcherSeat, watcherFd, startedAt, faults }: WorkersOptions): Place[] {
  const { settings, shards, dispatcher, control } = memory
  const common = {
    control: { buffer: control.buffer, workers: control.workers },
    watcherFd,
    wakeFds: seats.map(({ wakeFd }) => wakeFd),
    startedAt,
    faults,
  }
  const place = (name: string, file: string, of: ShardSettings, memory: ShardMemory, seat: AfPacketSeat): Place => ({
    name,
    file,
    task: (epoch): ShardTask => ({ settings: { ...of, epoch, restarted: epoch > 1 }, memory, seat, ...common }),
    wake: () => signal(seat.wakeFd),
  })
  const places = seats.map((seat, shard) =>
    place(`shard ${shard}`, workerFile('shard'), settings[shard]!, shards[shard]!, seat),
  )
  if (dispatcher && dispatcherSeat)
    places.push(
      place('the dispatcher', workerFile('dispatcher'), dispatcher.settings, dispatcher.memory, dispatcherSeat),
    )
  return places
}

export class Shards extends Supervisor {
  readonly #places: readonly Place[]

  /** Starts the threads. `stop` is due from now on. */
  constructor(options: ShardsOptions) {
    const { memory, startedAt } = options
    const places = placesOf(options)
    const now = () => Number(process.hrtime.bigint() / 1_000_000n) - startedAt
    super({ ...options, words: memory.control.words, places, now })
    this.#places = places
  }

  /** Makes a sleeping shard turn. */
  wake(shard: number): void {
    this.#places[shard]!.wake()
  }

  /** Makes every worker turn that sleeps. */
  wakeAll(): void {
    for (const { wake } of this.#places) wake()
  }
}
