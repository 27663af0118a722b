// A table of fixed-width i32 rows in shared memory: which rows are taken, and by which generation. Row 0 is never used.
// Owner: one shard writes; everyone may read.
//
// Life of a row            generation   LIVE   who
//   free                   even         0      the owner's free list has it
//   begin()                odd          0      owner fills the fields
//   commit()               even         1      the row is true; index entries follow
//   live                   even         1      every update is one i32 store, valid alone
//   retire()               odd, even    0      index entries went before; the row is on the free list
// A crash leaves at most one row odd: recover() frees it, whether it was about to begin or to end.
// Never: a reader trusting a row whose generation is odd, or differs before and after reading; a field of a live row
// that is only right together with another store. Rows with an even generation and LIVE are the only truth: free
// list, index and counts are derived from them.

import type { Row } from './brand.ts'
import { fault } from './fault-points.ts'
import type { Region } from './region.ts'

/** In a row's flags word: the row holds something. */
export const LIVE = 1 << 15

export class Rows {
  readonly words: Int32Array
  readonly width: number
  /** Rows that can be taken at once. */
  readonly capacity: number
  /** Rows above it were never used: scans may end here. */
  highest = 0
  used = 0
  readonly #flags: number
  readonly #generation: number
  /** Rows up to `highest` that are free. */
  readonly #free: Int32Array
  #freeCount = 0

  constructor(region: Region, options: { capacity: number; width: number; flagsWord: number; generationWord: number }) {
    this.capacity = options.capacity
    this.width = options.width
    this.#flags = options.flagsWord
    this.#generation = options.generationWord
    this.words = region.i32((options.capacity + 1) * options.width)
    // A region that only measures has no rows.
    this.#free = new Int32Array(this.words.length === 0 ? 0 : options.capacity)
  }

  get full(): boolean {
    return this.#freeCount === 0 && this.highest === this.capacity
  }

  /** Takes a free row for writing, its generation odd; 0 if the table is full. */
  begin(): Row {
    if (this.full) return 0
    // Low rows are taken first, so that a lightly used table stays small in memory, in cache and in a sweep.
    const row = this.#freeCount > 0 ? this.#free[--this.#freeCount]! : ++this.highest
    this.used++
    this.words[row * this.width + this.#generation]! += 1
    fault('row begun')
    return row
  }

  /** The fields are written: the row is true from now on. */
  commit(row: Row): void {
    const base = row * this.width
    this.words[base + this.#flags]! |= LIVE
    fault('row live, generation odd')
    Atomics.add(this.words, base + this.#generation, 1)
    fault('row committed')
  }

  retire(row: Row): void {
    const base = row * this.width
    Atomics.add(this.words, base + this.#generation, 1)
    fault('row retiring')
    this.words[base + this.#flags] = 0
    fault('row no longer live, generation odd')
    this.words[base + this.#generation]! += 1
    this.#free[this.#freeCount++] = row
    this.used--
  }

  /** On the memory of a thread that is gone: frees what it has left odd, and derives everything else from the rows. */
  recover(): void {
    const { words, width, capacity } = this
    // A row that was ever taken has a generation; that of a live one may have come round to 0.
    let highest = capacity
    while (highest > 0 && words[highest * width + this.#generation] === 0 && !this.isLive(highest)) highest--
    this.highest = highest
    this.#freeCount = 0
    for (let row = highest; row > 0; row--) {
      const base = row * width
      if ((words[base + this.#generation]! & 1) !== 0) {
        words[base + this.#flags] = 0
        fault('row no longer live, generation odd')
        words[base + this.#generation]! += 1
      }
      if (!this.isLive(row)) this.#free[this.#freeCount++] = row
    }
    this.used = highest - this.#freeCount
  }

  /** As new: no row was ever used. Only while none is live. */
  clear(): void {
    this.words.fill(0, 0, (this.highest + 1) * this.width)
    this.#freeCount = 0
    this.highest = 0
    this.used = 0
  }

  isLive(row: Row): boolean {
    return (this.words[row * this.width + this.#flags]! & LIVE) !== 0
  }
}
