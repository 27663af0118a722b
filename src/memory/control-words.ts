// What the coordinator orders a shard to do, and the shard's sign of life. A busy shard reads no messages: it looks at
// one word a turn. Owner: the coordinator stores orders; each shard stores its own heartbeat. They lie on cache lines of
// their own, so that the shard's look at its order costs nothing as long as that stays the same.
//
//   order word = epoch << 4 | command
//
//   order                the worker that was given this epoch      every other worker on this shard's memory
//   0                    ends                                      ends
//   epoch, RUN           turns                                     ends
//   epoch, STOP          ends                                      ends
// The epoch is raised with each start of a worker. Never: two workers that turn one shard; a worker that goes on after
// another was started in its place.

import type { Region } from './region.ts'

const LINE = 16 // i32 words of a cache line
const STOP = 0
const RUN = 1
const EPOCH_SHIFT = 4

export class ControlWords {
  readonly #orders: Int32Array
  readonly #heartbeats: Int32Array

  constructor(region: Region, shards: number) {
    this.#orders = region.i32(shards * LINE)
    this.#heartbeats = region.i32(shards * LINE)
  }

  // --- the coordinator's side ---

  /** Orders a new worker to run and every older one to end; the epoch that the new one is to be given. */
  start(shard: number): number {
    const epoch = (Atomics.load(this.#orders, shard * LINE) >>> EPOCH_SHIFT) + 1
    Atomics.store(this.#heartbeats, shard * LINE, 0)
    Atomics.store(this.#orders, shard * LINE, (epoch << EPOCH_SHIFT) | RUN)
    return epoch
  }

  /** The worker ends after its turn; wake it if it may sleep. */
  stop(shard: number): void {
    const epoch = Atomics.load(this.#orders, shard * LINE) >>> EPOCH_SHIFT
    Atomics.store(this.#orders, shard * LINE, (epoch << EPOCH_SHIFT) | STOP)
  }

  /** Milliseconds since the gateway's start at the shard's last turn, as an i32 that wraps; 0 before the first turn. */
  heartbeat(shard: number): number {
    return Atomics.load(this.#heartbeats, shard * LINE)
  }

  // --- the shard's side ---

  /** Whether the worker of this epoch is to go on. Once a turn: it is also what lets the thread be terminated. */
  mayRun(shard: number, epoch: number): boolean {
    return Atomics.load(this.#orders, shard * LINE) === ((epoch << EPOCH_SHIFT) | RUN)
  }

  /** A plain store: it may be seen late, but not by the seconds that supervision counts in. */
  beat(shard: number, milliseconds: number): void {
    this.#heartbeats[shard * LINE] = milliseconds | 0 || 1
  }
}
