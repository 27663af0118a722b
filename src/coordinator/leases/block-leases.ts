// Lends port blocks from shard to shard. A block's home is the shard number `block mod shards` (external-addresses.ts).
// A shard that runs short of an address's ports writes a request, rings the doorbell, and is lent a block of which no
// port is in use.
// Owner: the coordinator, the only writer of leases (nat/externals.ts).
//
//   block        leased by       next
//   home         its home        lent when another shard asks and none of its ports is in use
//   away         a borrower      returned once none of its ports is in use and the borrower has blocks to spare
// Never: a block with a port in use moves; a request stays without an answer.

import { type Externals, SPACES, VACANT } from '../../nat/externals.ts'
import { mayBeGiven } from '../../nat/port-words.ts'
import { moveFreeBlock } from './free-blocks.ts'

/** A borrower that kept fewer blocks with a free port would soon ask again. */
const FREE_BLOCKS_KEPT = 4

interface LeaseRequest {
  readonly shard: number
  readonly entry: number
  readonly space: number
}

/** The requests that shards have written into shared memory (nat/externals.ts). */
export interface LeaseRequests {
  /** Those that have no answer yet. */
  requests(): Iterable<LeaseRequest>
  /**
   * Leases a block without a port in use to the shard, from the shard that has most of them. False if there is none.
   */
  moveFreeBlock(entry: number, space: number, toShard: number): boolean
  answer(shard: number, entry: number, space: number, granted: boolean): void
}

export const requestsIn = (externals: Externals): LeaseRequests => ({
  requests: () => externals.requests(),
  moveFreeBlock: (entry, space, toShard) => moveFreeBlock(externals, entry, space, toShard),
  answer: (shard, entry, space, granted) => externals.answer(shard, entry, space, granted),
})

export interface BlockLeasesOptions {
  readonly externals: Externals
  readonly requests: LeaseRequests
  readonly shards: number
  /** Called after leases have changed. */
  changed(): void
  /** Called for each shard whose requests are answered. */
  wake(shard: number): void
}

export class BlockLeases {
  readonly #options: BlockLeasesOptions
  /** Spaces of addresses, by entry * SPACES + space, in which a block may be away from home. */
  readonly #lending = new Set<number>()

  constructor(options: BlockLeasesOptions) {
    this.#options = options
  }

  /** Answers every request. */
  serve(): void {
    const { requests, changed, wake } = this.#options
    let hasChanged = false
    const answered = new Set<number>()
    for (const { shard, entry, space } of requests.requests()) {
      const granted = requests.moveFreeBlock(entry, space, shard)
      requests.answer(shard, entry, space, granted)
      if (granted) this.#lending.add(entry * SPACES + space)
      hasChanged ||= granted
      answered.add(shard)
    }
    if (hasChanged) changed()
    for (const shard of answered) wake(shard)
  }

  /** Returns lent blocks that are not in use. To be called every few seconds. */
  returnIdle(): void {
    const { externals, changed } = this.#options
    let hasChanged = false
    for (const list of [...this.#lending]) {
      const [entry, space] = [Math.floor(list / SPACES), list % SPACES]
      this.#lending.delete(list)
      if (externals.kindOf(entry) !== VACANT && this.#returnIdleIn(entry, space)) hasChanged = true
    }
    if (hasChanged) changed()
  }

  #returnIdleIn(entry: number, space: number): boolean {
    const { externals } = this.#options
    const blocks = Array.from({ length: externals.blocksPerSpace }, (_, block) => block)
    const away = blocks.filter((block) => this.#isAway(entry, space, block))
    let hasChanged = false
    for (const borrower of new Set(away.map((block) => externals.ownerOfBlock(entry, space, block)))) {
      const lent = away.filter((block) => externals.ownerOfBlock(entry, space, block) === borrower)
      const own = blocks.filter((block) => externals.ownerOfBlock(entry, space, block) === borrower)
      let spare = own.filter((block) => this.#hasFreePort(entry, space, block)).length - FREE_BLOCKS_KEPT
      for (const block of lent) {
        if (spare > 0 && externals.takeBack(entry, space, block)) {
          externals.lease(entry, space, block, this.#homeOf(block))
          spare--
          hasChanged = true
        } else this.#lending.add(entry * SPACES + space)
      }
    }
    return hasChanged
  }

  #isAway(entry: number, space: number, block: number): boolean {
    const owner = this.#options.externals.ownerOfBlock(entry, space, block)
    return owner >= 0 && owner !== this.#homeOf(block)
  }

  #homeOf(block: number): number {
    return block % this.#options.shards
  }

  /** Whether the block has a port that a shard could give now. */
  #hasFreePort(entry: number, space: number, block: number): boolean {
    const { externals } = this.#options
    const first = externals.portIndex(entry, space, block * externals.blockSize)
    for (let i = 0; i < externals.blockSize; i++)
      if (mayBeGiven(Atomics.load(externals.portWords, first + i))) return true
    return false
  }
}
