// The external addresses, their port blocks and who leases each: what the coordinator decides and shards read.
//
//   entry    address (as loaded), kind, and a generation that changes when the entry gets another address
//   block    `blockSize` consecutive ports of one address and protocol; one ownership word each
//
// Ownership word: in its low byte 0 for nobody, shard + 1, or FROZEN while the coordinator takes a block back; above it
// a count of its leases, so that a block which has been away and is back is known for another lease. To take a port a
// shard changes its port word, then reads the ownership word again and undoes the taking if that changed
// (nat/ports.shard.ts).
//
// Intent words, two for each shard: the port that it is about to take or to free, and the word that the port has while
// it is taken. Between the change of a port's word and that of the mapping table no table tells of the port; if the
// shard dies there and its block is taken from it, only these tell its successor.
//
// Owner: the coordinator is the only writer of everything here but the port words, which any shard changes by
// compare-and-swap, the intents, each its shard's, the marks of blocks that are read, which their lessees set, and the
// requests, as below. Port words cover all ports of all entries; memory is taken from the system only for pages that
// are written, so for ports that were given.
//
// There may be millions of blocks, so nobody looks through all of them to find what has changed: changes are in a log
// (lease-log.ts), a block is marked once its lessee has read its ports' words (blocks.shard.ts), so that a successor
// knows what there is to read again, and each request sets a bit besides its word, by which it is found.
//
// Request words, one for each shard, entry and space:
//
//   word       means                              stored by
//   NONE       nothing is asked                   coordinator, with a grant (after the ownership word)
//   ASKED      the shard wants one block more     the shard, or another one in its name (block-requests.shard.ts)
//   DENIED     there was none to be had           coordinator
// Asked twice before the first is answered it is one request.

import type { Brand, Entry, PortIndex, Shard } from '../memory/brand.ts'
import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'
import type { Addr, PortHost, ProtocolNumber } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { changeOfAddress, LeaseLog } from './lease-log.ts'
import { isSameWord, isTaken, type PortWord, setHostBound } from './port-words.ts'

/** Spaces of ports: TCP, UDP and ICMP identifiers are given independently of each other. */
export type Space = Brand<'Space'>
export const TCP_SPACE: Space = 0
export const UDP_SPACE: Space = 1
export const ICMP_SPACE: Space = 2
export const SPACES = 3
export const spaceOf = (protocol: ProtocolNumber): Space =>
  protocol === PROTO_TCP ? TCP_SPACE : protocol === PROTO_UDP ? UDP_SPACE : ICMP_SPACE

/** Number of a block within its entry and space, and among the blocks of all. */
export type Block = Brand<'Block'>
export type BlockIndex = Brand<'BlockIndex'>

const PORTS = 65536

/** An entry's kind. */
export const VACANT = 0
/** The host's own address: ports outside the NAT's blocks are the host's. */
export const SHARED = 1
/** An address that natloom has to itself. */
export const POOL = 2

const ENTRY_WORDS = 4
const ADDRESS = 0
const KIND = 1
const GENERATION = 2

const LESSEE_MASK = 0xff
const FROZEN = 0xff
const LEASES_SHIFT = 8

const NONE = 0
const ASKED = 1
const DENIED = 2
/** More than any gateway has. */
const MOST_SHARDS = 64

/** Bits in a word. */
const BITS = 32
const BITS_SHIFT = 5
const BITS_MASK = BITS - 1

/** Of a port index (Externals.portIndex): its external address's entry, its space, and the port. */
export const entryOfPort = (at: PortIndex): Entry => Math.floor(at / PORTS / SPACES)
export const spaceAt = (at: PortIndex): Space => Math.floor(at / PORTS) % SPACES
export const portOfIndex = (at: PortIndex): PortHost => at % PORTS

/** The shard that an ownership word names, -1 for nobody. */
function lesseeIn(word: number): Shard {
  const lessee = word & LESSEE_MASK
  return lessee === FROZEN ? -1 : lessee - 1
}

/** The blocks of `size` ports that lie within a range of ports, its end included; one that an end cuts is left out. */
export function wholeBlocks({ from, to }: { readonly from: PortHost; readonly to: PortHost }, size: number): Block[] {
  const first = Math.ceil(from / size)
  const end = Math.floor((to + 1) / size)
  return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i)
}

export class Externals {
  readonly capacity: number
  readonly blockSize: number
  readonly blocksPerSpace: number
  readonly #entries: Int32Array
  readonly #owners: Int32Array
  /** CAS 1: a word a port, by portIndex(). */
  readonly portWords: Int32Array
  /** What has changed of the leases. */
  readonly log: LeaseLog
  /** [0] counts changes of entries. */
  readonly #addressesVersion: Int32Array
  /** Blocks that a shard leases in a space, by shard * SPACES + space. */
  readonly #leasedBlocks: Int32Array
  /** A bit by block index. */
  readonly #marks: Int32Array
  /**
   * [shard * CACHE_LINE_WORDS] port index + 1 or 0 for none, [shard * CACHE_LINE_WORDS + 1] its word while it is taken.
   */
  readonly #intents: Int32Array
  readonly #requests: Int32Array
  /** A bit by number of request. */
  readonly #asked: Int32Array
  /** By address, as it was at a version; this thread's. */
  readonly #entryOf = new Map<Addr, Entry>()
  #mappedVersion = -1

  /** `capacity` addresses at most; `blockSize` a power of two from 16 to 1024. */
  constructor(region: Region, options: { capacity: number; blockSize: number }) {
    this.capacity = options.capacity
    this.blockSize = options.blockSize
    this.blocksPerSpace = PORTS / options.blockSize
    const blocks = options.capacity * SPACES * this.blocksPerSpace
    const requests = MOST_SHARDS * options.capacity * SPACES
    this.log = new LeaseLog(region)
    this.#addressesVersion = region.i32(CACHE_LINE_WORDS)
    this.#entries = region.i32(options.capacity * ENTRY_WORDS)
    this.#owners = region.i32(blocks)
    this.#leasedBlocks = region.i32(MOST_SHARDS * SPACES)
    this.#marks = region.i32(Math.ceil(blocks / BITS))
    this.portWords = region.i32(options.capacity * SPACES * PORTS)
    this.#intents = region.i32(MOST_SHARDS * CACHE_LINE_WORDS)
    this.#requests = region.i32(requests)
    this.#asked = region.i32(Math.ceil(requests / BITS))
  }

  /** Another number after each change of addresses or leases. */
  version(): number {
    return this.log.head()
  }

  /** Another number after each change of addresses. */
  addressesVersion(): number {
    return Atomics.load(this.#addressesVersion, 0)
  }

  addressOf(entry: Entry): Addr {
    return this.#entries[entry * ENTRY_WORDS + ADDRESS]!
  }

  kindOf(entry: Entry): number {
    return this.#entries[entry * ENTRY_WORDS + KIND]!
  }

  generationOf(entry: Entry): number {
    return this.#entries[entry * ENTRY_WORDS + GENERATION]!
  }

  /**
   * The entry of an address, -1 if it is none of ours. By a map that follows the addresses' version, since owners are
   * asked for with many addresses too; the look at the version is a plain load, because it is one for each packet.
   */
  find(address: Addr): Entry {
    if (this.#addressesVersion[0] !== this.#mappedVersion) this.#mapEntries()
    return this.#entryOf.get(address) ?? -1
  }

  #mapEntries(): void {
    // Before the entries: what changes meanwhile is mapped once more.
    this.#mappedVersion = this.addressesVersion()
    this.#entryOf.clear()
    for (let entry = this.capacity - 1; entry >= 0; entry--)
      if (this.kindOf(entry) !== VACANT) this.#entryOf.set(this.addressOf(entry), entry)
  }

  blockIndex(entry: Entry, space: Space, block: Block): BlockIndex {
    return (entry * SPACES + space) * this.blocksPerSpace + block
  }

  /** Where the word of a port of an entry lies. */
  portIndex(entry: Entry, space: Space, port: PortHost): PortIndex {
    return (entry * SPACES + space) * PORTS + port
  }

  /** A block's ownership word: the same as long as the lease is. */
  leaseOf(entry: Entry, space: Space, block: Block): number {
    return Atomics.load(this.#owners, this.blockIndex(entry, space, block))
  }

  /** The shard that leases a block, -1 for nobody. */
  ownerOfBlock(entry: Entry, space: Space, block: Block): Shard {
    return lesseeIn(this.leaseOf(entry, space, block))
  }

  /** How many blocks of a space, on all addresses, the shard leases. */
  leasedBlocks(shard: Shard, space: Space): number {
    return Atomics.load(this.#leasedBlocks, shard * SPACES + space)
  }

  /** Marks of blocks: bit b of word w is that of the block with the index w * 32 + b. */
  get markWords(): number {
    return this.#marks.length
  }
  marksIn(word: number): number {
    return Atomics.load(this.#marks, word)
  }

  // --- a shard's side ---

  /** The shard is about to take or to free a port; `taken` is the word that it has while it is taken. */
  intend(shard: Shard, at: PortIndex, taken: PortWord): void {
    this.#intents[shard * CACHE_LINE_WORDS] = 0
    this.#intents[shard * CACHE_LINE_WORDS + 1] = taken
    this.#intents[shard * CACHE_LINE_WORDS] = at + 1
  }

  /**
   * The shard could not take the port that it was about to. Another one may have taken it from the same word, and has
   * set the same word then: with the intent it would look like this shard's.
   */
  intendNothing(shard: Shard): void {
    this.#intents[shard * CACHE_LINE_WORDS] = 0
  }

  /**
   * The port (by portIndex()) that the shard was last about to take or to free, and its word while taken; -1 for none.
   */
  intentOf(shard: Shard): readonly [at: PortIndex, taken: PortWord] {
    return [this.#intents[shard * CACHE_LINE_WORDS]! - 1, this.#intents[shard * CACHE_LINE_WORDS + 1]!]
  }

  /** Another shard than this one has set the port's word, or is about to free it. */
  isIntendedByOther(shard: Shard, at: PortIndex, word: PortWord): boolean {
    for (let other = 0; other < MOST_SHARDS; other++) {
      const [intended, taken] = this.intentOf(other)
      if (other !== shard && intended === at && isSameWord(taken, word)) return true
    }
    return false
  }

  /** The block's lessee has read the words of its ports. */
  mark(block: BlockIndex): void {
    Atomics.or(this.#marks, block >>> BITS_SHIFT, 1 << (block & BITS_MASK))
  }

  /** Asks for one more block of a space. If that is asked already, the request is sure to be found. */
  ask(shard: Shard, entry: Entry, space: Space): void {
    const request = this.#request(shard, entry, space)
    Atomics.store(this.#requests, request, ASKED)
    Atomics.or(this.#asked, request >>> BITS_SHIFT, 1 << (request & BITS_MASK))
  }

  /** The coordinator hasn't answered yet. */
  isAsking(shard: Shard, entry: Entry, space: Space): boolean {
    return Atomics.load(this.#requests, this.#request(shard, entry, space)) === ASKED
  }

  /** The coordinator had none to give. */
  isDenied(shard: Shard, entry: Entry, space: Space): boolean {
    return Atomics.load(this.#requests, this.#request(shard, entry, space)) === DENIED
  }

  #request(shard: Shard, entry: Entry, space: Space): number {
    return (shard * this.capacity + entry) * SPACES + space
  }

  // --- the coordinator's side ---

  /** Puts an address in a vacant entry and returns its number; -1 if all are taken. Its blocks are nobody's yet. */
  add(address: Addr, kind: typeof SHARED | typeof POOL): Entry {
    for (let entry = 0; entry < this.capacity; entry++) {
      if (this.kindOf(entry) !== VACANT) continue
      const base = entry * ENTRY_WORDS
      this.#entries[base + ADDRESS] = address
      this.#entries[base + GENERATION]! += 1
      this.#entries[base + KIND] = kind
      this.#addressChanged(entry)
      return entry
    }
    return -1
  }

  /** Takes an address away: its leases end, shards end the mappings on it. */
  remove(entry: Entry): void {
    const first = this.blockIndex(entry, 0, 0)
    for (let i = 0; i < SPACES * this.blocksPerSpace; i++) this.#setLessee(first + i, 0)
    this.#entries[entry * ENTRY_WORDS + KIND] = VACANT
    this.#entries[entry * ENTRY_WORDS + GENERATION]! += 1
    this.#addressChanged(entry)
  }

  /** The host has a socket on this port of the entry's address, or has none any longer. */
  setHostBound(entry: Entry, space: Space, port: PortHost, bound: boolean): void {
    setHostBound(this.portWords, this.portIndex(entry, space, port), bound)
  }

  lease(entry: Entry, space: Space, block: Block, shard: Shard): void {
    const at = this.blockIndex(entry, space, block)
    this.#lease(at, shard)
    this.log.add(at)
  }

  /** Leases blocks of an address, each to a shard by its number, unless it is leased already. */
  leaseAll(entry: Entry, space: Space, blocks: readonly Block[], shardOf: (block: Block) => Shard): void {
    for (const block of blocks) {
      const at = this.blockIndex(entry, space, block)
      if (lesseeIn(this.#owners[at]!) < 0) this.#lease(at, shardOf(block))
    }
    this.log.add(changeOfAddress(entry))
  }

  /** Takes a leased block back if none of its ports is in use; false (and the lease as before) otherwise. */
  takeBack(entry: Entry, space: Space, block: Block): boolean {
    const at = this.blockIndex(entry, space, block)
    const lease = Atomics.load(this.#owners, at)
    if ((lease & LESSEE_MASK) === 0) return true
    this.#setLessee(at, FROZEN)
    const first = this.portIndex(entry, space, block * this.blockSize)
    for (let port = 0; port < this.blockSize; port++) {
      if (!isTaken(Atomics.load(this.portWords, first + port))) continue
      this.#setOwner(at, lease)
      // A shard that has looked meanwhile believes it lost.
      this.log.add(at)
      return false
    }
    this.#setLessee(at, 0)
    this.log.add(at)
    return true
  }

  #lease(at: BlockIndex, shard: Shard): void {
    const leases = this.#owners[at]! >>> LEASES_SHIFT
    // The mark is of the lessee before: of this lease nobody has read anything.
    if (leases > 0) Atomics.and(this.#marks, at >>> BITS_SHIFT, ~(1 << (at & BITS_MASK)))
    this.#setOwner(at, ((leases + 1) << LEASES_SHIFT) | (shard + 1))
  }

  #setLessee(at: BlockIndex, lessee: number): void {
    this.#setOwner(at, (this.#owners[at]! & ~LESSEE_MASK) | lessee)
  }

  #setOwner(at: BlockIndex, word: number): void {
    const space: Space = Math.floor(at / this.blocksPerSpace) % SPACES
    const [before, after] = [lesseeIn(this.#owners[at]!), lesseeIn(word)]
    Atomics.store(this.#owners, at, word)
    if (before >= 0) this.#leasedBlocks[before * SPACES + space]! -= 1
    if (after >= 0) this.#leasedBlocks[after * SPACES + space]! += 1
  }

  /** Requests without an answer. */
  requests(): { shard: Shard; entry: Entry; space: Space }[] {
    const asked: { shard: Shard; entry: Entry; space: Space }[] = []
    for (let word = 0; word < this.#asked.length; word++) {
      const bits = Atomics.load(this.#asked, word)
      for (let bit = 0; bits >>> bit !== 0 && bit < BITS; bit++) {
        if (((bits >>> bit) & 1) === 0) continue
        const request = word * BITS + bit
        const [shard, list] = [Math.floor(request / (this.capacity * SPACES)), request % (this.capacity * SPACES)]
        const [entry, space] = [Math.floor(list / SPACES), list % SPACES]
        if (this.#isAsked(request)) asked.push({ shard, entry, space })
      }
    }
    return asked
  }

  /** True if the request has no answer; if it has, its bit goes. */
  #isAsked(request: number): boolean {
    if (Atomics.load(this.#requests, request) === ASKED) return true
    const bit = 1 << (request & BITS_MASK)
    Atomics.and(this.#asked, request >>> BITS_SHIFT, ~bit)
    // It may have been made between our two looks: then its bit was set before we cleared it, perhaps.
    if (Atomics.load(this.#requests, request) !== ASKED) return false
    Atomics.or(this.#asked, request >>> BITS_SHIFT, bit)
    return true
  }

  /** Denied ones hold until leases change or the shard asks again. */
  answer(shard: Shard, entry: Entry, space: Space, granted: boolean): void {
    Atomics.store(this.#requests, this.#request(shard, entry, space), granted ? NONE : DENIED)
  }

  #addressChanged(entry: Entry): void {
    Atomics.add(this.#addressesVersion, 0, 1)
    this.log.add(changeOfAddress(entry))
  }
}
