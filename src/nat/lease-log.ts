// The log of what the coordinator has changed in the leases of port blocks (externals.ts), so that a shard looks at
// what has changed and not at every block of every address. A shard has read it up to a number of its own. One that
// was away for too long finds that its next change is overwritten, and looks at all that it knows of.
//
//   change       means                                        stored after
//   0 or more    the block of this index (blockIndex())       its ownership word
//   below 0      any of the blocks of an address: -1 - entry  all of their ownership words
//
// Owner: the coordinator. Readers: every shard, each by a cursor of its own.

import type { Entry } from '../memory/brand.ts'
import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'

/** What has changed: a block, by its index, or an address with all of its blocks. */
export type LeaseChange = number

/** Changes that are kept; a power of two. */
export const KEPT_CHANGES = 1024
const MASK = KEPT_CHANGES - 1
/** In place of a change: it has been overwritten. No block and no address has this number. */
export const LOST_CHANGE: LeaseChange = -(2 ** 31)

export const changeOfAddress = (entry: Entry): LeaseChange => -1 - entry
export const isOfAddress = (change: LeaseChange): boolean => change < 0
export const addressChanged = (change: LeaseChange): Entry => -1 - change

export class LeaseLog {
  /** [0] how many changes there were, modulo 2^32: the number of the next. */
  readonly #head: Int32Array
  readonly #changes: Int32Array

  constructor(region: Region) {
    this.#head = region.i32(CACHE_LINE_WORDS)
    this.#changes = region.i32(KEPT_CHANGES)
  }

  /** The number of the next change: another one after each. */
  head(): number {
    return Atomics.load(this.#head, 0)
  }

  /** The change of this number; LOST_CHANGE if it may have been overwritten. */
  at(number: number): LeaseChange {
    const change = Atomics.load(this.#changes, number & MASK)
    return ((this.head() - number) | 0) < KEPT_CHANGES ? change : LOST_CHANGE
  }

  /** The coordinator's: `change` is done. */
  add(change: LeaseChange): void {
    Atomics.store(this.#changes, this.#head[0]! & MASK, change)
    Atomics.add(this.#head, 0, 1)
  }
}
