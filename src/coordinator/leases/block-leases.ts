// Where port blocks move from shard to shard. A block's home is the shard of its number (external-addresses.ts); one
// that runs short of an address's ports asks, rings the bell, and is lent a block that nobody uses.
// Owner: the coordinator, the only writer of leases (nat/externals.ts).
//
//   block        leased by       then
//   home         its home        taken back and lent when another shard asks and none of its ports is in use
//   away         a borrower      taken back and returned once none is in use and the borrower has others
// Never: a block with a port in use moves; a shard asks and gets no answer.

import { type Externals, isTaken, SPACES, VACANT, wasFreed } from '../../nat/externals.ts'

/** A borrower that has fewer blocks with a free port would ask again at once. */
const FREE_BLOCKS_KEPT = 4

interface LeaseRequest {
  readonly shard: number
  readonly entry: number
  readonly space: number
}

/** What shards ask for, as nat/externals.ts keeps it. */
export interface LeaseRequests {
  /** Those without an answer. */
  requests(): Iterable<LeaseRequest>
  /** Moves a block of which nothing is in use to the shard, from the one that has most; false if there is none. */
  moveFreeBlock(entry: number, space: number, toShard: number): boolean
  answer(shard: number, entry: number, space: number, granted: boolean): void
}

export interface BlockLeasesOptions {
  readonly externals: Externals
  readonly requests: LeaseRequests
  readonly shards: number
  /** Leases have changed. */
  changed(): void
  /** A shard has its answers. */
  wake(shard: number): void
}

export class BlockLeases {
  readonly #options: BlockLeasesOptions
  /** Nobody else lends, so most of the time there is nothing to look for. */
  #mayBeAway = false

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
      hasChanged ||= granted
      answered.add(shard)
    }
    if (hasChanged) {
      this.#mayBeAway = true
      changed()
    }
    for (const shard of answered) wake(shard)
  }

  /** Returns what is lent and not in use. To be called now and then. */
  bringHome(): void {
    if (!this.#mayBeAway) return
    this.#mayBeAway = false
    const { externals, changed } = this.#options
    let hasChanged = false
    for (let entry = 0; entry < externals.capacity; entry++) {
      if (externals.kindOf(entry) === VACANT) continue
      for (let space = 0; space < SPACES; space++) if (this.#bringHome(entry, space)) hasChanged = true
    }
    if (hasChanged) changed()
  }

  #bringHome(entry: number, space: number): boolean {
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
        } else this.#mayBeAway = true
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

  /** Neither in use nor resting. */
  #hasFreePort(entry: number, space: number, block: number): boolean {
    const { externals } = this.#options
    const first = externals.portIndex(entry, space, block * externals.blockSize)
    for (let i = 0; i < externals.blockSize; i++) {
      const word = Atomics.load(externals.portWords, first + i)
      if (!isTaken(word) && !wasFreed(word)) return true
    }
    return false
  }
}
