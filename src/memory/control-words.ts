// What the coordinator orders a worker to do, and the worker's signs of life. A busy worker reads no messages: it looks
// at one word a turn. Workers are the shards 0..N-1 and, if there is one, the dispatcher: N.
// Owner: the coordinator stores orders; each worker stores its own heartbeat and thread; every thread may ring the
// doorbell. Words of different writers lie on cache lines of their own, so that reading an order that has not changed
// costs nothing.
//
//   order word = epoch << 4 | command
//
//   order                the worker that was given this epoch      every other worker of this slot
//   0                    ends                                      ends
//   epoch, RUN           turns                                     ends
//   epoch, STOP          ends                                      ends
// The epoch is raised with each start of a worker. Never: two workers in one slot; a worker that goes on after another
// was started in it.
//
// Which thread a worker runs in: the worker first stores its thread's number and then reads its order; the coordinator,
// to end it, first stores the order and then reads the thread's number. So either the worker sees that it must not
// begin, or the coordinator knows its thread and can await its end.

import { CACHE_LINE_WORDS, type Region } from './region.ts'

const STOP = 0
const RUN = 1
const EPOCH_SHIFT = 4

export class ControlWords {
  readonly #orders: Int32Array
  readonly #heartbeats: Int32Array
  readonly #threads: Int32Array
  readonly #doorbell: Int32Array

  constructor(region: Region, workers: number) {
    this.#orders = region.i32(workers * CACHE_LINE_WORDS)
    this.#heartbeats = region.i32(workers * CACHE_LINE_WORDS)
    this.#threads = region.i32(workers * CACHE_LINE_WORDS)
    this.#doorbell = region.i32(1)
  }

  // --- the coordinator's side ---

  /** Orders a new worker to run and every older one to end; the epoch that the new one is to be given. */
  start(worker: number): number {
    const epoch = (Atomics.load(this.#orders, worker * CACHE_LINE_WORDS) >>> EPOCH_SHIFT) + 1
    Atomics.store(this.#heartbeats, worker * CACHE_LINE_WORDS, 0)
    Atomics.store(this.#threads, worker * CACHE_LINE_WORDS, 0)
    Atomics.store(this.#orders, worker * CACHE_LINE_WORDS, (epoch << EPOCH_SHIFT) | RUN)
    return epoch
  }

  /** The worker ends after its turn; wake it if it may sleep. */
  stop(worker: number): void {
    const epoch = Atomics.load(this.#orders, worker * CACHE_LINE_WORDS) >>> EPOCH_SHIFT
    Atomics.store(this.#orders, worker * CACHE_LINE_WORDS, (epoch << EPOCH_SHIFT) | STOP)
  }

  /**
   * Milliseconds since the gateway's start at the worker's last turn, as an i32 that wraps; 0 before the first turn.
   */
  heartbeat(worker: number): number {
    return Atomics.load(this.#heartbeats, worker * CACHE_LINE_WORDS)
  }

  /** True once the worker has turned; false if it has not within this time. */
  async firstBeat(worker: number, withinMs: number): Promise<boolean> {
    const waiting = Atomics.waitAsync(this.#heartbeats, worker * CACHE_LINE_WORDS, 0, withinMs)
    return (waiting.async ? await waiting.value : waiting.value) !== 'timed-out'
  }

  /** The number of the thread (`threadId`) that the last started worker runs in; 0 if it has not begun. */
  thread(worker: number): number {
    return Atomics.load(this.#threads, worker * CACHE_LINE_WORDS)
  }

  /** How often the doorbell was rung, modulo 2^32. */
  rings(): number {
    return Atomics.load(this.#doorbell, 0)
  }

  /** Resolves when the doorbell was rung more often than this. Doesn't keep the process alive. */
  async nextRing(rings: number): Promise<void> {
    const waiting = Atomics.waitAsync(this.#doorbell, 0, rings)
    if (waiting.async) await waiting.value
  }

  // --- the worker's side ---

  /** Called before the worker touches the memory of its slot; false: another worker has the slot, and it must end. */
  enter(worker: number, epoch: number, thread: number): boolean {
    Atomics.store(this.#threads, worker * CACHE_LINE_WORDS, thread)
    return this.mayRun(worker, epoch)
  }

  /**
   * Whether the worker of this epoch is to go on. Asked once a turn; the atomic load is also where the thread can be
   * terminated.
   */
  mayRun(worker: number, epoch: number): boolean {
    return Atomics.load(this.#orders, worker * CACHE_LINE_WORDS) === ((epoch << EPOCH_SHIFT) | RUN)
  }

  /** A plain store: it may be seen late, but not by the seconds that supervision counts in. */
  beat(worker: number, milliseconds: number): void {
    this.#heartbeats[worker * CACHE_LINE_WORDS] = milliseconds | 0 || 1
  }

  /** Called once, after the first beat: wakes firstBeat(). */
  hasBegun(worker: number): void {
    Atomics.notify(this.#heartbeats, worker * CACHE_LINE_WORDS)
  }

  /** Wakes the coordinator, which then looks at every queue that a worker may have filled. */
  ring(): void {
    Atomics.add(this.#doorbell, 0, 1)
    Atomics.notify(this.#doorbell, 0)
  }
}
