// Keeps a worker in each place: starts it, watches it, puts another in its stead when it fails. Workers outlive threads,
// since all that a worker knows for long is in shared memory.
//
//   place      means                                          then
//   starting   a worker was started and has not turned yet    turning, ending
//   turning    its heartbeat moves                            ending
//   ending     its task has failed, or it was aborted because starting, or the gateway's end
//              it did not turn: its thread's end is awaited
// Never: a new worker before the old one's thread is gone, or two would write one memory.
//
// While the gateway starts, and once more threads have failed than the limit allows, a failure is the gateway's.

import type { ControlWords } from '../../memory/control-words.ts'
import { GatewayError } from '../errors.ts'
import { Heartbeats, LOOK_EVERY_MS } from './heartbeats.ts'
import type { RestartLimit } from './restarts.ts'
import { type Life, ThreadPool } from './thread-pool.ts'

const FIRST_TURN_WITHIN_MS = 10_000
const LAST_TURN_WITHIN_MS = 2000
/** A thread that is silent at so many looks was aborted long ago, and can't be ended. */
const UNENDING_LOOKS = 20

/** Where a worker belongs; its number is its index. */
export interface WorkerSlot {
  /** `shard 3`. */
  readonly name: string
  /** The compiled file whose default function turns until it is ordered to end. */
  readonly file: string
  /** What that function is given. */
  task(epoch: number): unknown
  /** Makes the worker look at its order, should it sleep. */
  wake(): void
}

interface Failure {
  readonly worker: string
  readonly reason: string
  /** Of the one that failed. */
  readonly epoch: number
}

export interface SupervisorOptions {
  readonly words: ControlWords
  readonly slots: readonly WorkerSlot[]
  readonly limit: RestartLimit
  /** Milliseconds since the gateway's start. */
  now(): number
  /** A worker's thread is gone, and no other has begun in its place: what it held of common memory is to be settled. */
  gone(worker: number): void
  /** A worker has failed, and another is about to take its place. */
  replacing(failure: Failure): void
  /** It turns, `milliseconds` after the last turn of the one before. */
  replaced(worker: { readonly worker: string; readonly epoch: number; readonly milliseconds: number }): void
  /** The gateway can't go on. Called once. */
  failed(error: GatewayError): void
}

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #pool: ThreadPool
  readonly #heartbeats: Heartbeats
  /** By worker. */
  readonly #lives: Life[]
  readonly #beganAt: number[] = []
  readonly #restarts: number[]
  /** Those that were aborted, and why. */
  readonly #aborted = new Map<number, string>()
  readonly #failure: Promise<never>
  #reject: (error: GatewayError) => void = () => {}
  #looking: NodeJS.Timeout | undefined
  #isForwarding = false
  #isOver = false

  /** Starts the threads. `stop` is due from now on. */
  constructor(options: SupervisorOptions) {
    this.#options = options
    const { words, slots } = options
    this.#heartbeats = new Heartbeats(words, slots.length)
    this.#restarts = slots.map(() => 0)
    this.#failure = new Promise((_, reject) => {
      this.#reject = reject
    })
    // Whoever waits for the first turns is told by it; nobody else needs to.
    this.#failure.catch(() => {})
    this.#pool = new ThreadPool(words, slots.length)
    this.#lives = slots.map((_, worker) => this.#begin(worker))
  }

  /** Resolves when every worker has turned once. Throws GatewayError GATEWAY_THREAD. */
  async forwarding(): Promise<void> {
    const { words, slots } = this.#options
    const first = slots.map(async ({ name }, worker) => {
      if (await words.firstBeat(worker, FIRST_TURN_WITHIN_MS)) return
      throw new GatewayError('GATEWAY_THREAD', `${name} did not begin within ${FIRST_TURN_WITHIN_MS / 1000} s`)
    })
    await Promise.race([Promise.all(first), this.#failure])
    this.#isForwarding = true
    this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS)
  }

  /** Names of the workers that don't turn: silent ones, and those that another is just taking the place of. */
  notTurning(): string[] {
    const silent = this.#heartbeats.silent()
    const { words, slots } = this.#options
    return slots.flatMap(({ name }, worker) =>
      silent.includes(worker) || words.heartbeat(worker) === 0 || this.#aborted.has(worker) ? [name] : [],
    )
  }

  /** How often another worker took this place. */
  restarts(worker: number): number {
    return this.#restarts[worker]!
  }

  /** Milliseconds since the worker turned last, before its first turn since it was started. */
  heartbeatAge(worker: number): number {
    const { words, now } = this.#options
    // Both wrap, so their difference is right.
    return Math.max(0, (Math.floor(now()) - (words.heartbeat(worker) || this.#beganAt[worker]!)) | 0)
  }

  /** Lets every worker finish its turn; a thread that doesn't is terminated. None is left afterwards. */
  async stop(): Promise<void> {
    this.#isOver = true
    clearInterval(this.#looking)
    for (const [worker, { wake }] of this.#options.slots.entries()) {
      this.#options.words.stop(worker)
      wake()
    }
    await this.#pool.close(LAST_TURN_WITHIN_MS)
  }

  #begin(worker: number): Life {
    const { words, slots, now } = this.#options
    const { file, task } = slots[worker]!
    const epoch = words.start(worker)
    this.#heartbeats.begin(worker)
    this.#aborted.delete(worker)
    this.#beganAt[worker] = Math.floor(now())
    const life = this.#pool.run(worker, file, task(epoch))
    life.over.then((reason) => this.#over(worker, epoch, reason))
    return life
  }

  #over(worker: number, epoch: number, endedBy: string): void {
    if (this.#isOver) return
    const { slots, limit } = this.#options
    const { name } = slots[worker]!
    const reason = this.#aborted.get(worker) ?? endedBy
    if (!this.#isForwarding) this.#fail(`${name} failed: ${reason}`)
    else if (!limit.allows()) this.#fail(`${name} failed: ${reason} (${limit.text})`)
    else this.#replace(worker, { worker: name, reason, epoch })
  }

  #replace(worker: number, failure: Failure): void {
    const { gone, replacing, now } = this.#options
    gone(worker)
    replacing(failure)
    const lastTurn = now() - this.heartbeatAge(worker)
    this.#restarts[worker]! += 1
    this.#lives[worker] = this.#begin(worker)
    this.#tellWhenItTurns(worker, failure.epoch + 1, lastTurn)
  }

  async #tellWhenItTurns(worker: number, epoch: number, lastTurn: number): Promise<void> {
    const { words, slots, replaced, now } = this.#options
    const turns = words.firstBeat(worker, FIRST_TURN_WITHIN_MS)
    if (!(await Promise.race([turns, this.#lives[worker]!.over.then(() => false)])) || this.#isOver) return
    replaced({ worker: slots[worker]!.name, epoch, milliseconds: Math.round(now() - lastTurn) })
  }

  #look(): void {
    this.#heartbeats.look()
    for (const worker of this.#heartbeats.silent()) {
      const looks = this.#heartbeats.looks(worker)
      const reason = `it has not turned for ${(looks * LOOK_EVERY_MS) / 1000} s`
      if (!this.#aborted.has(worker)) this.#abort(worker, reason)
      else if (looks >= UNENDING_LOOKS)
        this.#fail(`${this.#options.slots[worker]!.name} failed: ${reason}, and its thread can't be ended`)
    }
  }

  #abort(worker: number, reason: string): void {
    this.#aborted.set(worker, reason)
    this.#lives[worker]!.abort()
  }

  #fail(message: string): void {
    if (this.#isOver) return
    this.#isOver = true
    clearInterval(this.#looking)
    const error = new GatewayError('GATEWAY_THREAD', message)
    this.#reject(error)
    this.#options.failed(error)
  }
}
