// Next hops that shards ask the kernel to resolve: one ring a shard, so that no producer waits for another.
// Owner: the shard stores its ring's head and what lies before it; the netlink watcher stores the tails.
//
// A request lost because a ring is full is asked again with the next packet for the same next hop.

import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'
import type { Addr } from '../wire/address.ts'

const SLOTS = 256

/** Packets of full size that a shard keeps until their next hops answer (datapath/egress/kept-pages.ts). */
export const WAITING_PACKETS = 1536

export class NeighbourRequests {
  readonly #heads: Int32Array
  readonly #tails: Int32Array
  readonly #slots: Int32Array
  readonly #shards: number

  constructor(region: Region, shards: number) {
    this.#heads = region.i32(shards * CACHE_LINE_WORDS)
    this.#tails = region.i32(shards * CACHE_LINE_WORDS)
    this.#slots = region.i32(shards * SLOTS * 2)
    this.#shards = shards
  }

  /** By the shard's own thread only. False if its ring is full. */
  put(shard: number, port: number, address: Addr): boolean {
    const head = this.#heads[shard * CACHE_LINE_WORDS]
    if (((head - Atomics.load(this.#tails, shard * CACHE_LINE_WORDS)) | 0) >= SLOTS) return false
    const slot = (shard * SLOTS + (head & (SLOTS - 1))) * 2
    this.#slots[slot] = port
    this.#slots[slot + 1] = address
    Atomics.store(this.#heads, shard * CACHE_LINE_WORDS, (head + 1) | 0)
    return true
  }

  /** By the watcher's thread only. */
  take(each: (port: number, address: Addr) => void): void {
    for (let shard = 0; shard < this.#shards; shard++) {
      const head = Atomics.load(this.#heads, shard * CACHE_LINE_WORDS)
      let tail = this.#tails[shard * CACHE_LINE_WORDS]
      for (; tail !== head; tail = (tail + 1) | 0) {
        const slot = (shard * SLOTS + (tail & (SLOTS - 1))) * 2
        each(this.#slots[slot], this.#slots[slot + 1])
      }
      Atomics.store(this.#tails, shard * CACHE_LINE_WORDS, tail)
    }
  }
}
