// Keeps a thread running in each worker slot: starts it, watches its heartbeat, starts another one when it fails. A
// worker (a shard, the dispatcher) outlives its threads, because its tables are in shared memory.
//
//   a slot is  while                                              next
//   starting   its thread was started and has not turned yet      turning, ending
//   turning    the heartbeat moves                                ending
//   ending     the thread's task has failed, or was aborted       starting, or the gateway ends
//              because the heartbeat stood still; the thread's
//              exit is awaited
// Never: a new thread before the old one has exited, or two would write the same memory.
//
// A failure while the gateway starts, and one failure more than the limit allows, end the gateway. A failure that is a
// helper's does not count: the helper is out of force before the new thread begins, so it can't be the reason again.
// Owner: the main thread. The order words are written by the supervisor, heartbeats by the workers
// (memory/control-words.ts).

import { availableParallelism } from 'node:os'
import type { ControlWords } from '../../memory/control-words.ts'
import { EXIT_CONFIGURATION, ThreadError } from './errors.ts'
import { Heartbeats, LOOK_EVERY_MS } from './heartbeats.ts'
import type { RestartLimit } from './restart-limit.ts'
import { type RunningTask, type TaskEnd, ThreadPool } from './thread-pool.ts'

const FIRST_TURN_WITHIN_MS = 10_000
const LAST_TURN_WITHIN_MS = 2000
/** A thread whose heartbeat stands still for so many looks was aborted long ago and can't be ended. */
const UNENDING_LOOKS = 20
/** By so many bytes the process may grow while a worker does not turn, since it is in a helper's code. */
const MOST_GROWTH = 512 << 20
/** Twice the longest time between two heartbeats; in it a thread can allocate some hundred megabytes. */
const LOOK_AT_MEMORY_EVERY_MS = 100

/** A worker as the supervisor starts it. The worker's number is the slot's index. */
export interface WorkerSlot {
  /** For people: `shard 3`. */
  readonly name: string
  /** The compiled file whose default function turns until it is ordered to end. */
  readonly file: string
  /** The argument of that function; `epoch` counts the threads that this slot has had. */
  task(epoch: number): unknown
  /** Wakes the worker if it sleeps, so that it reads its order word. */
  wake(): void
}

/** A failure that is not the worker's own, but a helper's: it does not count. */
export interface Blame {
  readonly helper: string
  /** `endless loop` */
  readonly why: string
  /** Which of the helper's functions: `help()`. */
  readonly in: string
}

interface Failure extends Partial<Blame> {
  readonly worker: string
  readonly reason: string
  /** The epoch of the thread that failed. */
  readonly epoch: number
}

export interface SupervisorOptions {
  readonly words: ControlWords
  readonly slots: readonly WorkerSlot[]
  readonly limit: RestartLimit
  /** Milliseconds since the gateway's start. */
  now(): number
  /** V8's limit of a thread's heap, if it is another one (thread-pool.ts). */
  readonly heapMegabytes?: number
  /** Bytes of the process that are resident. */
  memory(): number
  /** Whether a helper's code runs in the worker's thread now. */
  isInHelper(worker: number): boolean
  /**
   * A worker's thread has ended, or can't be ended. If a helper is to blame, the callee takes it out of force at once.
   */
  blame(worker: number, how: TaskEnd['how']): Blame | undefined
  /** A worker's thread posts something. */
  heard(message: unknown): void
  /** A worker's thread has exited and no other has begun: the callee settles what it held in memory that all share. */
  gone(worker: number): void
  /** A worker's thread has failed, and another one is about to be started. */
  replacing(failure: Failure): void
  /** The new thread turns, `milliseconds` after the last turn of the one before. */
  replaced(worker: { readonly worker: string; readonly epoch: number; readonly milliseconds: number }): void
  /** The gateway can't go on. Called once. */
  failed(error: ThreadError): void
}

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #pool: ThreadPool
  readonly #heartbeats: Heartbeats
  /** By worker: the task of its present thread. */
  readonly #tasks: RunningTask[]
  readonly #beganAt: number[] = []
  readonly #restarts: number[]
  /** By worker: why its task was aborted. */
  readonly #aborted = new Map<number, TaskEnd>()
  /** By worker: its heartbeat when it was last seen to move or outside of a helper, and the process's memory then. */
  readonly #memoryThen: { readonly heartbeat: number; readonly bytes: number }[] = []
  readonly #failure: Promise<never>
  #reject: (error: ThreadError) => void = () => {}
  #looking: NodeJS.Timeout | undefined
  #lookingAtMemory: NodeJS.Timeout | undefined
  #isForwarding = false
  #isOver = false

  /** Starts the threads: from now on `stop` must be called some time. */
  constructor(options: SupervisorOptions) {
    this.#options = options
    const { words, slots } = options
    this.#heartbeats = new Heartbeats(words, slots.length)
    this.#restarts = slots.map(() => 0)
    this.#failure = new Promise((_, reject) => {
      this.#reject = reject
    })
    // forwarding() rejects with it. Where nobody waits for that, the rejection must not end the process.
    this.#failure.catch(() => {})
    this.#pool = new ThreadPool(words, slots.length, options.heard, options.heapMegabytes)
    this.#tasks = slots.map((_, worker) => this.#begin(worker))
  }

  /** Resolves when every worker has turned once. Throws ThreadError. */
  async forwarding(): Promise<void> {
    const { words, slots } = this.#options
    // All begin together, so where there are more of them than cores each waits for the others.
    const withinMs = FIRST_TURN_WITHIN_MS * Math.ceil(slots.length / availableParallelism())
    const first = slots.map(async ({ name }, worker) => {
      if (await words.firstBeat(worker, withinMs)) return
      const helper = this.#options.blame(worker, 'silent')
      throw startError(`${name} did not begin within ${withinMs / 1000} s`, helper)
    })
    await Promise.race([Promise.all(first), this.#failure])
    this.#isForwarding = true
    this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS)
    this.#lookingAtMemory = setInterval(() => this.#lookAtMemory(), LOOK_AT_MEMORY_EVERY_MS)
  }

  /** Names of the workers that don't turn: their heartbeat stands still, or they are just being replaced. */
  notTurning(): string[] {
    const silent = this.#heartbeats.silent()
    const { words, slots } = this.#options
    return slots.flatMap(({ name }, worker) =>
      silent.includes(worker) || words.heartbeat(worker) === 0 || this.#aborted.has(worker) ? [name] : [],
    )
  }

  /** How often the worker's thread was replaced. */
  restarts(worker: number): number {
    return this.#restarts[worker]!
  }

  /** Milliseconds since the worker's last turn or, before its first turn, since its thread was started. */
  heartbeatAge(worker: number): number {
    const { words, now } = this.#options
    // Both wrap, so their difference is right.
    return Math.max(0, (Math.floor(now()) - (words.heartbeat(worker) || this.#beganAt[worker]!)) | 0)
  }

  /** Lets every worker finish its turn and terminates the threads that don't. No thread is left afterwards. */
  async stop(): Promise<void> {
    this.#isOver = true
    clearInterval(this.#looking)
    clearInterval(this.#lookingAtMemory)
    for (const [worker, { wake }] of this.#options.slots.entries()) {
      this.#options.words.stop(worker)
      wake()
    }
    await this.#pool.close(LAST_TURN_WITHIN_MS)
  }

  #begin(worker: number): RunningTask {
    const { words, slots, now } = this.#options
    const { file, task } = slots[worker]!
    const epoch = words.start(worker)
    this.#heartbeats.begin(worker)
    this.#aborted.delete(worker)
    this.#beganAt[worker] = Math.floor(now())
    const running = this.#pool.run(worker, file, task(epoch))
    running.ended.then((end) => this.#onEnded(worker, epoch, end))
    return running
  }

  #onEnded(worker: number, epoch: number, end: TaskEnd): void {
    if (this.#isOver) return
    const { slots, limit, blame } = this.#options
    const { name } = slots[worker]!
    const { how, reason } = this.#aborted.get(worker) ?? end
    const helper = blame(worker, how)
    if (!this.#isForwarding) this.#fail(startError(`${name} failed: ${reason}`, helper))
    else if (helper === undefined && !limit.allows())
      this.#fail(new ThreadError(`${name} failed: ${reason} (${limit.text})`))
    else this.#replace(worker, { worker: name, reason, epoch, ...helper })
  }

  #replace(worker: number, failure: Failure): void {
    const { gone, replacing, now } = this.#options
    gone(worker)
    replacing(failure)
    const lastTurn = now() - this.heartbeatAge(worker)
    this.#restarts[worker]! += 1
    this.#tasks[worker] = this.#begin(worker)
    this.#tellWhenItTurns(worker, failure.epoch + 1, lastTurn)
  }

  async #tellWhenItTurns(worker: number, epoch: number, lastTurn: number): Promise<void> {
    const { words, slots, replaced, now } = this.#options
    const turns = words.firstBeat(worker, FIRST_TURN_WITHIN_MS)
    if (!(await Promise.race([turns, this.#tasks[worker]!.ended.then(() => false)])) || this.#isOver) return
    replaced({ worker: slots[worker]!.name, epoch, milliseconds: Math.round(now() - lastTurn) })
  }

  #look(): void {
    this.#heartbeats.look()
    for (const worker of this.#heartbeats.silent()) {
      const looks = this.#heartbeats.looks(worker)
      const reason = `it has not turned for ${(looks * LOOK_EVERY_MS) / 1000} s`
      if (!this.#aborted.has(worker)) this.#abort(worker, { how: 'silent', reason })
      else if (looks >= UNENDING_LOOKS) this.#failUnending(worker, reason)
    }
  }

  /**
   * A thread whose helper allocates without an end is ended while the host has memory left, and V8's heap room. The
   * memory is the process's: natloom's own code, which does not allocate, is not suspected when another part grows.
   */
  #lookAtMemory(): void {
    const { words, memory, isInHelper } = this.#options
    const bytes = memory()
    for (const worker of this.#tasks.keys()) {
      const heartbeat = words.heartbeat(worker)
      const then = this.#memoryThen[worker]
      if (then === undefined || then.heartbeat !== heartbeat || !isInHelper(worker))
        this.#memoryThen[worker] = { heartbeat, bytes }
      else if (bytes - then.bytes > MOST_GROWTH && !this.#aborted.has(worker)) {
        const grown = Math.round((bytes - then.bytes) / (1 << 20))
        this.#abort(worker, { how: 'out-of-memory', reason: `the process grew by ${grown} MB while it did not turn` })
      }
    }
  }

  #abort(worker: number, end: TaskEnd): void {
    this.#aborted.set(worker, end)
    this.#tasks[worker]!.abort()
  }

  #failUnending(worker: number, reason: string): void {
    const { slots, blame } = this.#options
    const helper = blame(worker, 'silent')
    const message = `${slots[worker]!.name} failed: ${reason}, and its thread can't be ended`
    this.#fail(new ThreadError(helper === undefined ? message : `${message}: ${blameText(helper)}`))
  }

  #fail(error: ThreadError): void {
    if (this.#isOver) return
    this.#isOver = true
    clearInterval(this.#looking)
    clearInterval(this.#lookingAtMemory)
    this.#reject(error)
    this.#options.failed(error)
  }
}

/** If a helper is to blame, starting again with it changes nothing. */
const startError = (message: string, helper: Blame | undefined): ThreadError =>
  helper === undefined
    ? new ThreadError(message)
    : new ThreadError(`${message}: ${blameText(helper)}`, EXIT_CONFIGURATION)

export const blameText = ({ helper, why, in: where }: Blame): string => `helper ${helper}: ${why} in ${where}`
