// The host table: what each inside host has of what all hosts share, in memory that all shards share, since a host's
// connections lie in any of them. A row has the host's address and, for each shard, one cache line of counts that only
// this shard writes. Whoever wants to know how much a host has adds its lines up; two shards that do so at once may
// both find room for one more, so what a host has is exact to the number of shards less one.
//
//   name       mark      the row is                   changed by, to
//   0          0         nobody's                     any shard: the host's address, by compare-and-swap
//   address    0         a host's                     the coordinator: mark = the number of its look, if all is zero
//   address    > 0       a host's, perhaps idle       any shard that counts in it: mark 0; the coordinator: ENDING
//   address    ENDING    about to be nobody's         the coordinator: counts 0, name 0, then mark 0
// A row is ended only if it was marked at an earlier look, still is, all that it counts is zero, and each shard has
// ended a turn in between: so none is just about to count in it.
//
// A row lies in the bucket that the keyed hash of its address names. If all of the bucket's rows are other hosts', the
// host shares the last row of the table with all others that have none: whoever sends from many addresses, forged ones
// among them, gets no more than a row each, and then what one host gets. What was counted there says so itself
// (COUNTED_AS_OTHERS).
//
// Two rows of a bucket may name one host, if an earlier row of it became free while two shards were looking for one.
// From then on both find the earlier row, and what was counted in the later one is taken back there.
//
// A crash leaves counts that are off by what was just done: the shard's successor makes its own lines again from its
// rows (host-recovery.shard.ts), before anything else of it runs; expectations, whose slots are nobody's, the
// coordinator counts anew (coordinator/expectations/expectation-gc.ts). Never: a count of one shard written by
// another; a name changed but from 0, or by the coordinator.
// Owner: as above.

import type { HostLimit } from '../counters/host-limits.ts'
import type { Brand, Seconds, Shard } from '../memory/brand.ts'
import { layout } from '../memory/layout.ts'
import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'
import { type Addr, formatAddress } from '../wire/address.ts'

/** A row of the table, from 0 on; the last one is that of all hosts without a row. */
export type HostRow = Brand<'HostRow'>
/** A word of a shard's line in a row, by its place. */
export type HostWord = Brand<'HostWord' | 'HostLimit'>

/** Words of one shard's line. Those of limits that count what there is have their limits' numbers. */
export const HOST = layout(CACHE_LINE_WORDS, {
  connections: 0,
  /** External ports of mappings. */
  ports: 1,
  /** Connections begun in a second (rateWord), of even seconds and of odd ones. */
  begunEven: 2,
  begunOdd: 3,
  /** External ports in quarantine. */
  resting: 4,
  /** What was refused, and the limit and second of the last time (refusalWord). */
  refused: 5,
  lastRefusal: 6,
  /**
   * Expectations published less those ended, which another thread may do than has published them: a line may be below
   * zero, all of them together are what stands.
   */
  expectations: 7,
  waiting: 8,
  edits: 9,
  /** ICMP errors and resets, as connections begun. */
  errorsEven: 10,
  errorsOdd: 11,
  /** Connections that a helper reads, and of what their bytes are kept in (datapath/helped/host-share.ts). */
  helped: 12,
  helpedBlocks: 13,
  helpedPieces: 14,
  /** Records of fragmented packets (datapath/packet/fragment-table.ts). */
  fragments: 15,
})

/** Words that say what there is. All others are zero, or don't matter, when these are. */
const HELD_WORDS: readonly HostWord[] = [
  HOST.connections,
  HOST.ports,
  HOST.resting,
  HOST.expectations,
  HOST.waiting,
  HOST.edits,
  HOST.helped,
  HOST.helpedBlocks,
  HOST.helpedPieces,
  HOST.fragments,
]

/** Rows of a bucket: their names are one cache line. */
export const BUCKET = CACHE_LINE_WORDS
const ENDING = -1

// Of a rate: bits 0-19 the count, 20-31 the second.
const COUNT_BITS = 20
const COUNT_MASK = (1 << COUNT_BITS) - 1
const SECOND_MASK = 0xfff
/** What was counted in a second by a word: 0 if the word is of another one. */
const countOfSecond = (word: number, second: Seconds): number =>
  word >>> COUNT_BITS === (second & SECOND_MASK) ? word & COUNT_MASK : 0
/** The word that has counted one more in this second. */
export const countedIn = (word: number, second: Seconds): number =>
  ((second & SECOND_MASK) << COUNT_BITS) | Math.min(COUNT_MASK, countOfSecond(word, second) + 1)

// Of a refusal: bits 0-3 the limit, and the second above them.
export const refusalWord = (limit: HostLimit, second: Seconds): number => limit | (second << 4)
export const refusedLimit = (word: number): HostLimit => word & 15
export const refusedAt = (word: number): Seconds => word >>> 4

export interface HostTableOptions {
  /** Hosts with a row of their own: a multiple of BUCKET. */
  readonly hosts: number
  readonly shards: number
}

/** Hosts with a row of their own, for so many connections: more hosts than those share a row. */
export const hostsFor = (connections: number): number =>
  2 ** Math.ceil(Math.log2(Math.min(MOST_HOSTS, Math.max(FEWEST_HOSTS, connections / CONNECTIONS_A_HOST))))

const FEWEST_HOSTS = 1024
const MOST_HOSTS = 65_536
const CONNECTIONS_A_HOST = 8

export class HostTable {
  readonly hosts: number
  readonly shards: number
  /** The row of all hosts without one. */
  readonly others: HostRow
  readonly buckets: number
  /** By row: the host's address, 0 for none. */
  readonly names: Int32Array
  readonly marks: Int32Array
  /** By row and shard, a line each; behind the shards' one for the coordinator, which ends expectations, too. */
  readonly counts: Int32Array
  readonly #lines: number

  constructor(region: Region, { hosts, shards }: HostTableOptions) {
    this.hosts = hosts
    this.shards = shards
    this.others = hosts
    this.buckets = hosts / BUCKET
    this.names = region.i32(hosts)
    this.marks = region.i32(hosts)
    this.#lines = shards + 1
    this.counts = region.i32((hosts + 1) * this.#lines * CACHE_LINE_WORDS)
  }

  /** Where a shard's line of a row begins. */
  line(row: HostRow, shard: Shard): number {
    return (row * this.#lines + shard) * CACHE_LINE_WORDS
  }

  /** A word of all lines together. */
  sum(row: HostRow, word: HostWord): number {
    let sum = 0
    let at = this.line(row, 0) + word
    for (let line = 0; line < this.#lines; line++, at += CACHE_LINE_WORDS) sum += this.counts[at]!
    return sum
  }

  /** What all shards have counted in this second by a rate's word of even seconds, and the one behind it. */
  sumIn(row: HostRow, even: HostWord, second: Seconds): number {
    let sum = 0
    let at = this.line(row, 0) + even + (second & 1)
    for (let shard = 0; shard < this.shards; shard++, at += CACHE_LINE_WORDS)
      sum += countOfSecond(this.counts[at]!, second)
    return sum
  }

  /** True if nothing that there is counts for the host. */
  isIdle(row: HostRow): boolean {
    for (const word of HELD_WORDS) if (this.sum(row, word) !== 0) return false
    return true
  }

  /** A shard is about to count in a row that has the host's name; false if the row is ending. */
  keep(row: HostRow): boolean {
    const mark = this.marks[row]!
    if (mark === 0) return true
    if (mark === ENDING) return false
    return Atomics.compareExchange(this.marks, row, mark, 0) !== ENDING
  }

  /** A shard gives a row that is nobody's to a host; false if another shard was faster. */
  claim(row: HostRow, host: Addr): boolean {
    return Atomics.compareExchange(this.names, row, 0, host) === 0
  }

  // --- the coordinator ---

  /** Changes a count of the coordinator's own line. */
  count(row: HostRow, word: HostWord, by: number): void {
    this.counts[this.line(row, this.shards) + word]! += by
  }

  /** Marks a row as idle; `look` is above 0. */
  mark(row: HostRow, look: number): void {
    Atomics.compareExchange(this.marks, row, 0, look)
  }

  /** Makes a row nobody's, if it is still marked by this look. */
  end(row: HostRow, look: number): boolean {
    if (Atomics.compareExchange(this.marks, row, look, ENDING) !== look) return false
    this.counts.fill(0, this.line(row, 0), this.line(row + 1, 0))
    Atomics.store(this.names, row, 0)
    Atomics.store(this.marks, row, 0)
    return true
  }
}

/** Of a row, for people: its host's address, or `others` of that of all hosts without one. */
export const hostName = (table: HostTable, row: HostRow): string =>
  row === table.others ? 'others' : formatAddress(table.names[row]!)
