// The workers of a gateway: a shard each, and the dispatcher if packets are dispatched by a thread. What each is given;
// that there is one in each place is supervisor.ts.

import type { ShardMemory, ShardSettings } from '../datapath/attach.ts'
import type { AfPacketSeat } from '../io/af-packet-layout.ts'
import { signal } from '../io/syscalls.ts'
import type { GatewayMemory } from './memory.ts'
import { type Place, Supervisor, type SupervisorOptions } from './supervisor.ts'
import { workerFile } from './worker-file.ts'

/** What every worker is given: plain data, shared memory, descriptors by number. */
interface WorkerTask {
  readonly seat: AfPacketSeat
  /** `workers`: what the control words are cut for. */
  readonly control: { readonly buffer: SharedArrayBuffer; readonly workers: number }
  /** The eventfd that wakes the netlink watcher. */
  readonly watcherFd: number
  /** By shard: the eventfd that wakes it. */
  readonly wakeFds: readonly number[]
  /** The gateway's start in milliseconds of the machine's monotonic clock (process.hrtime). */
  readonly startedAt: number
}

/** What `workers/shard.ts` is given. */
export interface ShardTask extends WorkerTask {
  readonly settings: ShardSettings
  readonly memory: ShardMemory
}

export interface ShardsOptions extends Omit<SupervisorOptions, 'words' | 'places' | 'now'> {
  readonly memory: GatewayMemory
  /** By shard. */
  readonly seats: readonly AfPacketSeat[]
  readonly watcherFd: number
  /** As in the task. */
  readonly startedAt: number
}

export class Shards extends Supervisor {
  readonly #seats: readonly AfPacketSeat[]

  /** Starts the threads. `stop` is due from now on. */
  constructor({ memory, seats, watcherFd, startedAt, ...supervision }: ShardsOptions) {
    const { buffer, words, workers } = memory.control
    const common = { control: { buffer, workers }, watcherFd, wakeFds: seats.map(({ wakeFd }) => wakeFd), startedAt }
    const shards = seats.map(
      (seat, shard): Place => ({
        name: `shard ${shard}`,
        file: workerFile('shard'),
        task: (epoch): ShardTask => ({
          settings: { ...memory.settings[shard]!, epoch, restarted: epoch > 1 },
          memory: memory.shards[shard]!,
          seat,
          ...common,
        }),
        wake: () => signal(seat.wakeFd),
      }),
    )
    super({
      ...supervision,
      words,
      places: shards,
      now: () => Number(process.hrtime.bigint() / 1_000_000n) - startedAt,
    })
    this.#seats = seats
  }

  /** Makes a sleeping shard turn. */
  wake(shard: number): void {
    signal(this.#seats[shard]!.wakeFd)
  }

  /** Makes sleeping shards turn. */
  wakeAll(): void {
    for (const shard of this.#seats.keys()) this.wake(shard)
  }
}
