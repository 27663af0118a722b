// The port blocks of one external address and space that a shard leases: how many ports of each are usable, and which
// blocks have any. Made when the shard first needs a port there, so its size is that of what the shard leases, and its
// cost is paid by addresses that are in use.
//
//   place        holds
//   0 .. listed  blocks with a usable port, as far as is known, in no order, so that one is drawn at random
//   .. known     those without any, or of whose usable ports none can be given at the moment
// A block that is added counts as wholly usable until its ports' words are read (blocks.shard.ts).
//
// Owner: the thread that has made it.

import type { Seconds } from '../memory/brand.ts'
import type { Block } from './externals.ts'

/** In place of an ownership word: the words of the block's ports haven't been read. No word of a lease is this. */
export const UNREAD = -1
/** How long after a request the shard asks again. */
export const ASKS_AGAIN_AFTER: Seconds = 2
const FEWEST_PLACES = 4
const PLACE_BYTES = 10

export class BlockList {
  listed = 0
  known = 0
  /** The second of the last request for one more block. */
  askedAt: Seconds = -ASKS_AGAIN_AFTER
  /** Leases may have changed, and which is not known: all of them have to be looked at. */
  isStale = false
  readonly #blockSize: number
  /** By block: its place + 1, or 0. */
  readonly #places: Int16Array
  // By place, all in one buffer.
  #leases!: Int32Array
  #blocks!: Int16Array
  #usable!: Int16Array
  #quarantined!: Int16Array

  constructor(blocksPerSpace: number, blockSize: number) {
    this.#blockSize = blockSize
    this.#places = new Int16Array(blocksPerSpace)
    this.#allocate(FEWEST_PLACES)
  }

  /** Makes room for so many blocks, so that adding them one by one does not have to. */
  makeRoom(places: number): void {
    if (places <= this.#blocks.length) return
    const [leases, blocks, usable, quarantined] = [this.#leases, this.#blocks, this.#usable, this.#quarantined]
    this.#allocate(places)
    this.#leases.set(leases)
    this.#blocks.set(blocks)
    this.#usable.set(usable)
    this.#quarantined.set(quarantined)
  }

  #allocate(places: number): void {
    const buffer = new ArrayBuffer(places * PLACE_BYTES)
    this.#leases = new Int32Array(buffer, 0, places)
    this.#blocks = new Int16Array(buffer, places * 4, places)
    this.#usable = new Int16Array(buffer, places * 6, places)
    this.#quarantined = new Int16Array(buffer, places * 8, places)
  }

  /** What was denied may be had now. */
  mayAskAgain(): void {
    this.askedAt = -ASKS_AGAIN_AFTER
  }

  has(block: Block): boolean {
    return this.#places[block] !== 0
  }

  isListed(block: Block): boolean {
    return this.has(block) && this.#placeOf(block) < this.listed
  }

  isRead(block: Block): boolean {
    return this.has(block) && this.#leases[this.#placeOf(block)] !== UNREAD
  }

  /** The block at a place. */
  at(place: number): Block {
    return this.#blocks[place]!
  }

  /** The ownership word that the block was read under, or UNREAD. */
  leaseOf(block: Block): number {
    return this.#leases[this.#placeOf(block)]!
  }

  /** Ports that are neither taken nor in quarantine. */
  usableIn(block: Block): number {
    return this.#usable[this.#placeOf(block)]!
  }

  quarantinedIn(block: Block): number {
    return this.#quarantined[this.#placeOf(block)]!
  }

  /** Leases a block that is not known yet. */
  add(block: Block): void {
    if (this.known === this.#blocks.length) this.makeRoom(2 * this.known)
    const place = this.known++
    this.#places[block] = place + 1
    this.#blocks[place] = block
    this.#usable[place] = this.#blockSize
    this.#quarantined[place] = 0
    this.#leases[place] = UNREAD
    this.list(block)
  }

  /** What the words of the block's ports say, under an ownership word. */
  setRead(block: Block, lease: number, usable: number, quarantined: number): void {
    const place = this.#placeOf(block)
    this.#leases[place] = lease
    this.#usable[place] = usable
    this.#quarantined[place] = quarantined
    if (usable === 0) this.unlist(block)
  }

  remove(block: Block): void {
    this.unlist(block)
    this.#swap(this.#placeOf(block), --this.known)
    this.#places[block] = 0
  }

  /** So many ports more, or less, are usable, and in quarantine. */
  change(block: Block, usable: number, quarantined: number): void {
    const place = this.#placeOf(block)
    const before = this.#usable[place]!
    this.#usable[place] = before + usable
    this.#quarantined[place]! += quarantined
    if (before + usable === 0) this.unlist(block)
    else if (usable > 0) this.list(block)
  }

  /** Does nothing to a block that is listed. */
  list(block: Block): void {
    const place = this.#placeOf(block)
    if (place >= this.listed) this.#swap(place, this.listed++)
  }

  /** Does nothing to a block that is not listed. */
  unlist(block: Block): void {
    const place = this.#placeOf(block)
    if (place < this.listed) this.#swap(place, --this.listed)
  }

  #placeOf(block: Block): number {
    return this.#places[block]! - 1
  }

  #swap(a: number, b: number): void {
    if (a === b) return
    swapIn(this.#blocks, a, b)
    swapIn(this.#usable, a, b)
    swapIn(this.#quarantined, a, b)
    swapIn(this.#leases, a, b)
    this.#places[this.#blocks[a]!] = a + 1
    this.#places[this.#blocks[b]!] = b + 1
  }
}

function swapIn(column: Int16Array | Int32Array, a: number, b: number): void {
  const value = column[a]!
  column[a] = column[b]!
  column[b] = value
}
