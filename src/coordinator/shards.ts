// The shards' threads: one endless piscina task each, told to run and to end by words in shared memory
// (memory/control-words.ts), since a busy shard reads no messages. Owner of the orders: this.
//
// Piscina pins no task to a thread, so the task carries the shard's number; a worker whose start-up fails would stop
// the pool's respawning, so the entry file is loaded by the task and not at the thread's start.

import { setTimeout as delay } from 'node:timers/promises'
import { Piscina } from 'piscina'
import type { ShardMemory, ShardSettings } from '../datapath/attach.ts'
import { reasonOf } from '../host/errors.ts'
import type { AfPacketSeat } from '../io/af-packet-layout.ts'
import { signal } from '../io/syscalls.ts'
import { GatewayError } from './errors.ts'
import { Heartbeats, LOOK_EVERY_MS } from './heartbeats.ts'
import type { GatewayMemory } from './memory.ts'
import { workerFile } from './worker-file.ts'

/** What `workers/shard.ts` is given: plain data, shared memory, descriptors by number. */
export interface ShardTask {
  readonly settings: ShardSettings
  readonly memory: ShardMemory
  readonly seat: AfPacketSeat
  readonly control: { readonly buffer: SharedArrayBuffer; readonly shards: number }
  /** Under which the worker may run (memory/control-words.ts). */
  readonly epoch: number
  /** The eventfd that wakes the netlink watcher. */
  readonly watcherFd: number
  /** By shard: the eventfd that wakes it. */
  readonly wakeFds: readonly number[]
  /** The gateway's start in milliseconds of the machine's monotonic clock (process.hrtime). */
  readonly startedAt: number
}

export interface ShardsOptions {
  readonly memory: GatewayMemory
  /** By shard. */
  readonly seats: readonly AfPacketSeat[]
  readonly watcherFd: number
  readonly startedAt: number
  /** A shard has ended or stopped turning though nobody stopped it. Called once. */
  failed(error: GatewayError): void
}

const FIRST_TURN_WITHIN_MS = 10_000
const LAST_TURN_WITHIN_MS = 2000
const LOOK_FOR_FIRST_TURN_EVERY_MS = 5

export class Shards {
  readonly #options: ShardsOptions
  readonly #pool: Piscina<ShardTask, void>
  readonly #heartbeats: Heartbeats
  readonly #tasks: Promise<void>[]
  #supervision: NodeJS.Timeout | undefined
  #failure: GatewayError | undefined
  #stopping = false

  /** Starts the threads. `stop` is due from now on. */
  constructor(options: ShardsOptions) {
    this.#options = options
    const { length } = options.seats
    this.#heartbeats = new Heartbeats(options.memory.control.words, length)
    this.#pool = new Piscina({
      minThreads: length,
      maxThreads: length,
      concurrentTasksPerWorker: 1,
      atomics: 'disabled',
      idleTimeout: Number.POSITIVE_INFINITY,
    })
    this.#tasks = options.seats.map((_, shard) => this.#run(shard))
  }

  /** Resolves when every shard has turned once. Throws GatewayError GATEWAY_THREAD. */
  async forwarding(): Promise<void> {
    const { words } = this.#options.memory.control
    for (let waited = 0; ; waited += LOOK_FOR_FIRST_TURN_EVERY_MS) {
      if (this.#failure) throw this.#failure
      if (this.#options.seats.every((_, shard) => words.heartbeat(shard) !== 0)) break
      if (waited >= FIRST_TURN_WITHIN_MS)
        throw new GatewayError('GATEWAY_THREAD', `a shard did not begin within ${FIRST_TURN_WITHIN_MS / 1000} s`)
      await delay(LOOK_FOR_FIRST_TURN_EVERY_MS)
    }
    this.#supervision = setInterval(() => this.#supervise(), LOOK_EVERY_MS)
  }

  /** The shards that don't turn. */
  silent(): number[] {
    return this.#heartbeats.silent()
  }

  /** Makes sleeping shards turn. */
  wake(): void {
    for (const { wakeFd } of this.#options.seats) signal(wakeFd)
  }

  /** Lets every shard finish its turn; a thread that doesn't is terminated. No view of an arena is left afterwards. */
  async stop(): Promise<void> {
    this.#stopping = true
    clearInterval(this.#supervision)
    for (const shard of this.#tasks.keys()) this.#options.memory.control.words.stop(shard)
    this.wake()
    const patience = new AbortController()
    const late = delay(LAST_TURN_WITHIN_MS, undefined, { signal: patience.signal }).catch(() => {})
    await Promise.race([Promise.all(this.#tasks), late])
    patience.abort()
    await this.#pool.destroy()
  }

  async #run(shard: number): Promise<void> {
    const { memory, seats, watcherFd, startedAt } = this.#options
    const task: ShardTask = {
      settings: memory.settings[shard]!,
      memory: memory.shards[shard]!,
      seat: seats[shard]!,
      control: { buffer: memory.control.buffer, shards: seats.length },
      epoch: memory.control.words.start(shard),
      watcherFd,
      wakeFds: seats.map(({ wakeFd }) => wakeFd),
      startedAt,
    }
    let reason = 'it ended'
    try {
      await this.#pool.run(task, { filename: workerFile('shard') })
    } catch (error) {
      reason = reasonOf(error)
    }
    this.#fail(`shard ${shard} failed: ${reason}`)
  }

  #supervise(): void {
    this.#heartbeats.look()
    const [shard] = this.#heartbeats.silent()
    if (shard !== undefined) this.#fail(`shard ${shard} has not turned for 5 s`)
  }

  #fail(message: string): void {
    if (this.#stopping || this.#failure) return
    this.#failure = new GatewayError('GATEWAY_THREAD', message)
    this.#options.failed(this.#failure)
  }
}
