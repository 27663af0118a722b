// The runs of port blocks that are not leased to their home shards, of all external addresses, as the ownership rule's
// cases want them (ownership-cases.ts). Kept from one compilation to the next: with a thousand addresses there are
// millions of blocks, and only those of addresses whose leases have changed are looked at again (nat/lease-log.ts).
// Owner: who has made it. It reads the leases, and follows the log by a cursor of its own.

import type { Entry, Shard } from '../memory/brand.ts'
import { type Block, type Externals, SPACES, type Space, VACANT } from '../nat/externals.ts'
import { addressChanged, isOfAddress, LOST_CHANGE } from '../nat/lease-log.ts'
import type { PortHost } from '../wire/address.ts'

/** Blocks with one lessee: their ports, ends included. */
export interface LeaseRun {
  readonly entry: Entry
  readonly space: Space
  readonly firstPort: PortHost
  readonly lastPort: PortHost
  /** The shard that leases them; -1 for nobody. */
  readonly lessee: Shard
}

export class LeaseRuns {
  readonly #externals: Externals
  readonly #shards: number
  /** By entry * SPACES + space. */
  readonly #runs: LeaseRun[][] = []
  #entries: Entry[] = []
  #nextChange: number | undefined

  /** `shards`: that many share the blocks. */
  constructor(externals: Externals, shards: number) {
    this.#externals = externals
    this.#shards = shards
  }

  /** The addresses in use. */
  get entries(): readonly Entry[] {
    this.#follow()
    return this.#entries
  }

  /** Of all addresses in use, by address and space. */
  all(): LeaseRun[] {
    this.#follow()
    return this.#entries.flatMap((entry) =>
      Array.from({ length: SPACES }, (_, space) => this.#runs[entry * SPACES + space]!).flat(),
    )
  }

  #follow(): void {
    const version = this.#externals.version()
    if (version === this.#nextChange) return
    for (const list of this.#changed(version)) this.#runs[list] = this.#runsOf(Math.floor(list / SPACES), list % SPACES)
    this.#nextChange = version
    this.#entries = Array.from({ length: this.#externals.capacity }, (_, entry) => entry).filter(
      (entry) => this.#externals.kindOf(entry) !== VACANT,
    )
  }

  /** Where leases have changed since, by entry * SPACES + space. */
  #changed(version: number): Iterable<number> {
    const { log, capacity, blocksPerSpace } = this.#externals
    const all = () => Array.from({ length: capacity * SPACES }, (_, list) => list)
    if (this.#nextChange === undefined) return all()
    const changed = new Set<number>()
    for (let next = this.#nextChange; next !== version; next = (next + 1) | 0) {
      const change = log.at(next)
      if (change === LOST_CHANGE) return all()
      if (!isOfAddress(change)) changed.add(Math.floor(change / blocksPerSpace))
      else for (let space = 0; space < SPACES; space++) changed.add(addressChanged(change) * SPACES + space)
    }
    return changed
  }

  /** Unless it is a block at home. Of several neighbours with one lessee at most every other one is. */
  #runsOf(entry: Entry, space: Space): LeaseRun[] {
    const { blockSize, blocksPerSpace } = this.#externals
    const lesseeOf = (block: Block): Shard => this.#externals.ownerOfBlock(entry, space, block)
    const runs: LeaseRun[] = []
    if (this.#externals.kindOf(entry) === VACANT) return runs
    for (let first = 0, end = 0; first < blocksPerSpace; first = end) {
      const lessee = lesseeOf(first)
      for (end = first + 1; end < blocksPerSpace && lesseeOf(end) === lessee; ) end++
      if (end === first + 1 && lessee === first % this.#shards) continue
      runs.push({ entry, space, firstPort: first * blockSize, lastPort: end * blockSize - 1, lessee })
    }
    return runs
  }
}
