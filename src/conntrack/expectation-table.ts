// The expectation table: connections that helpers have announced (struct nf_conntrack_expect), in memory that all
// shards share, since the connection may come to any of them. Each slot has a state word that is only ever changed as a
// whole (CAS 2); the thread that has changed it may read or write the fields that belong to it.
//
//   state      means                                     changed by, to
//   FREE       nothing                                   any shard: BUSY, next generation
//   BUSY       its holder writes the fields              its holder: SETTLING, FREE
//   SETTLING   written; its holder looks for overlaps    its holder: PENDING, INACTIVE, FREE
//   PENDING    in force                                  any shard: CLAIMED; its master's shard: INACTIVE, ENDING; the
//                                                        coordinator: ENDING
//   INACTIVE   stands, and lets nothing in               its master's shard: PENDING, ENDING; the coordinator: ENDING
//   CLAIMED    being matched                             its holder: FREE, PENDING
//   ENDING     over, not matched                         its holder: FREE; the coordinator, as holder: what it was
// The coordinator settles what is BUSY, SETTLING, CLAIMED or ENDING for a holder whose thread has ended, and only then:
// CLAIMED becomes PENDING, all others FREE.
// Never: a field, but for the deadline, which tells its generation, written in a slot that its writer does not hold as
// BUSY; a field believed before the state word was found unchanged after it; FREE after the reservation was given back;
// two slots in force that one packet matches and that have different masters.
//
// A slot lies in the bucket of its destination, which is always exact, so nothing is linked that a crash could leave
// half linked. One with a reservation is found by its inside endpoint too: entries of that second array name a slot and
// its generation, and one whose slot has gone on is free for the next.
//
// Owner: as above. `count` is what is not FREE, or more, never less: it is raised before a slot is taken and lowered
// after it is free.

import type { Brand, Generation, Handle, HelperId, PortIndex, Row, Seconds, Shard } from '../memory/brand.ts'
import { layout } from '../memory/layout.ts'
import { CACHE_LINE_WORDS, type Region } from '../memory/region.ts'
import type { Addr, Port, Ports } from '../wire/address.ts'
import type { HostRow } from './host-table.ts'
import type { Direction, KeyWord } from './terms.ts'

/**
 * Slots for each expectation: if all stand, a bucket of eight has two on average, and one announcement in 900 finds its
 * bucket full.
 */
const SLOTS_EACH = 4
export const BUCKET = 8
const BUCKET_SHIFT = 3
/** Slot and generation make a handle of 31 bits. */
const MOST_SLOTS = 1 << 16

export const WIDTH = 32
/** Words of a slot. Addresses and ports as loaded (terms.ts). */
export const EXPECTATION = layout(WIDTH, {
  /** Protocol | side << 8: the side by which the expected packet arrives. */
  key: 0,
  src: 1,
  /** 0: anyone; -1: `src` only; or a netmask. */
  srcMask: 2,
  /** 0: any. */
  srcPort: 3,
  dst: 4,
  dstPort: 5,
  /** The endpoint as it was announced, before translation: the inside one where it is translated. */
  savedAddress: 6,
  savedPort: 7,
  /** PERMANENT, ANY_SOURCE; that it is INACTIVE its state says. */
  flags: 8,
  /**
   * Number of the helper that has announced it (helpers/registry.shard.ts), and of the one that will read it; 0 for
   * none.
   */
  helper: 9,
  childHelper: 10,
  class: 11,
  /** Of its master and class, 1 to 255. */
  maxExpected: 12,
  /** Seconds that it waits, 1 to 65535. */
  timeout: 13,
  /** Second of the shards' clock and generation: deadlineWord(). */
  deadline: 14,
  /** Order of publication. */
  ticket: 15,
  masterShard: 16,
  /** 0: it has none. */
  masterRow: 17,
  masterGeneration: 18,
  /** Of the master, in which it was announced: 0 original, 1 reply. */
  direction: 19,
  /** The port that is reserved for it: a Reservation. */
  reservation: 20,
  /** The master's original tuple. */
  masterSrc: 21,
  masterDst: 22,
  masterPorts: 23,
  masterKey: 24,
  /** The row of its inside host in the host table (host-table.ts), and 1; 0 for none. */
  host: 25,
})

/** What each word is. */
export interface ExpectationFields {
  readonly key: KeyWord
  readonly src: Addr
  readonly srcMask: number
  readonly srcPort: Port
  readonly dst: Addr
  readonly dstPort: Port
  readonly savedAddress: Addr
  readonly savedPort: Port
  readonly flags: number
  readonly helper: HelperId
  readonly childHelper: HelperId
  readonly class: number
  readonly maxExpected: number
  readonly timeout: Seconds
  readonly deadline: Deadline
  readonly ticket: number
  readonly masterShard: Shard
  readonly masterRow: Row
  readonly masterGeneration: Generation
  readonly direction: Direction
  readonly reservation: Reservation
  readonly masterSrc: Addr
  readonly masterDst: Addr
  readonly masterPorts: Ports
  readonly masterKey: KeyWord
  readonly host: HostRow
}

/** A port that is reserved for an expectation: its index (nat/externals.ts) + 1, 0 for none. */
export type Reservation = Brand<'Reservation'>
export const reservationOf = (port: PortIndex): Reservation => port + 1
export const portReserved = (reservation: Reservation): PortIndex => reservation - 1

/** A connection that it lets in doesn't use it up (NF_CT_EXPECT_PERMANENT). */
export const PERMANENT = 1
/** It lets nothing in until it is activated (NF_CT_EXPECT_INACTIVE). */
export const INACTIVE = 2
/** From anyone: said by the helper, not by the mask. */
export const ANY_SOURCE = 4

// The state word: bits 0-2 state, 3-9 holder, 10-16 holder's epoch, 17-31 generation.
export const STATE = { free: 0, busy: 1, settling: 2, pending: 3, inactive: 4, claimed: 5, ending: 6 } as const
/** One of STATE; a state word; a slot's number, and that of its bucket. */
export type State = Brand<'State'>
export type StateWord = Brand<'StateWord'>
export type Slot = Brand<'Slot'>
export type Bucket = Brand<'Bucket'>
const STATE_MASK = 7
const HOLDER_SHIFT = 3
const HOLDER_MASK = 0x7f
const EPOCH_SHIFT = 10
const EPOCH_MASK = 0x7f
const GENERATION_SHIFT = 17
const GENERATIONS = 0x7fff
/** The coordinator as a holder; shards have their numbers. */
export const COORDINATOR = HOLDER_MASK

export const stateOf = (word: StateWord): State => word & STATE_MASK
export const holderOf = (word: StateWord): Shard => (word >>> HOLDER_SHIFT) & HOLDER_MASK
export const generationOf = (word: StateWord): Generation => word >>> GENERATION_SHIFT

/** Of a slot that nobody holds. */
export const unheld = (state: State, generation: Generation): StateWord => state | (generation << GENERATION_SHIFT)
export const held = (state: State, generation: Generation, holder: Shard, epoch: number): StateWord =>
  state | (holder << HOLDER_SHIFT) | ((epoch & EPOCH_MASK) << EPOCH_SHIFT) | (generation << GENERATION_SHIFT)
/** From 1 on, so that no handle is 0. */
export const generationAfter = (generation: Generation): Generation => (generation % GENERATIONS) + 1

/** True if the expectation stands: in force, or inactive. */
export const stands = (word: StateWord): boolean => stateOf(word) === STATE.pending || stateOf(word) === STATE.inactive

/** True if the expectation stands, or is being matched and may stand again. */
export const isKept = (word: StateWord): boolean => stands(word) || stateOf(word) === STATE.claimed

// A handle (> 0) names a slot and which use of it.
export const handleOf = (slot: Slot, generation: Generation): Handle => slot | (generation << 16)
export const slotOf = (handle: Handle): Slot => handle & 0xffff
export const generationIn = (handle: Handle): Generation => handle >>> 16

export const bucketOfSlot = (slot: Slot): Bucket => slot >> BUCKET_SHIFT

// A deadline is refreshed in place: so that no store of a slow thread ends up in the slot's next use, it is compared
// and swapped together with ten bits of the generation. 22 bits of seconds go round in 48 days; a deadline is at most
// 18 hours ahead, and looked at every second.
const SECONDS_MASK = 0x3fffff
const SECONDS_BITS = 22

export type Deadline = Brand<'Deadline'>
export const deadlineWord = (second: Seconds, generation: Generation): Deadline =>
  (second & SECONDS_MASK) | (generation << SECONDS_BITS)
/** Seconds that are left at this second, 0 or less if its time is over. */
export const secondsLeft = (deadline: Deadline, second: Seconds): Seconds => ((deadline - second) << 10) >> 10

const COUNT = 0
const TICKET = CACHE_LINE_WORDS
const LIMIT = 2 * CACHE_LINE_WORDS
const GLOBAL_WORDS = 3 * CACHE_LINE_WORDS

export interface ExpectationOptions {
  /** Expectations at a time, 1 to 16384. */
  readonly capacity: number
  readonly shards: number
}

export class ExpectationTable {
  readonly capacity: number
  readonly shards: number
  readonly slots: number
  readonly buckets: number
  /** By slot. */
  readonly states: Int32Array
  /** Slot s begins at s * WIDTH. */
  readonly fields: Int32Array
  /** Handles, BUCKET for each bucket, by inside endpoint. */
  readonly inside: Int32Array
  readonly #globals: Int32Array
  /** By shard, a line each: odd while it changes what is counted. */
  readonly #changing: Int32Array

  constructor(region: Region, { capacity, shards }: ExpectationOptions) {
    this.capacity = capacity
    this.shards = shards
    this.slots = Math.max(BUCKET, 2 ** Math.ceil(Math.log2(capacity * SLOTS_EACH)))
    if (this.slots > MOST_SLOTS) throw new RangeError(`${capacity} expectations, at most ${MOST_SLOTS / SLOTS_EACH}`)
    this.buckets = this.slots / BUCKET
    this.#globals = region.i32(GLOBAL_WORDS)
    this.#changing = region.i32(shards * CACHE_LINE_WORDS)
    this.states = region.i32(this.slots)
    this.inside = region.i32(this.slots)
    this.fields = region.i32(this.slots * WIDTH)
  }

  /** Expectations that stand, and a few more while a crash's leavings are not mended. */
  count(): number {
    return Atomics.load(this.#globals, COUNT)
  }

  /** How many may stand. */
  limit(): number {
    return Atomics.load(this.#globals, LIMIT) || this.capacity
  }

  /** Set by the coordinator alone: 1 to `capacity`. */
  setLimit(limit: number): void {
    Atomics.store(this.#globals, LIMIT, Math.min(limit, this.capacity))
  }

  /** Room for one more; false if as many stand as may. */
  countUp(): boolean {
    if (Atomics.add(this.#globals, COUNT, 1) < this.limit()) return true
    this.countDown(1)
    return false
  }

  countDown(by: number): void {
    Atomics.sub(this.#globals, COUNT, by)
  }

  nextTicket(): number {
    return Atomics.add(this.#globals, TICKET, 1)
  }

  /**
   * Around each change of the count: a reader that finds all shards' words even, and later unchanged, has seen a count
   * that nobody was changing.
   */
  beginChange(shard: Shard): void {
    Atomics.store(this.#changing, shard * CACHE_LINE_WORDS, this.#changing[shard * CACHE_LINE_WORDS]! | 1)
  }

  endChange(shard: Shard): void {
    Atomics.store(this.#changing, shard * CACHE_LINE_WORDS, (this.#changing[shard * CACHE_LINE_WORDS]! | 1) + 1)
  }

  changeWord(shard: Shard): number {
    return Atomics.load(this.#changing, shard * CACHE_LINE_WORDS)
  }

  word(slot: Slot): StateWord {
    return Atomics.load(this.states, slot)
  }

  /** Changes a slot's state word; false if it isn't `from` any more. */
  change(slot: Slot, from: StateWord, to: StateWord): boolean {
    return Atomics.compareExchange(this.states, slot, from, to) === from
  }

  /** Stores a slot's state word: called by its holder alone, from whom nobody takes the slot. */
  settle(slot: Slot, word: StateWord): void {
    Atomics.store(this.states, slot, word)
  }

  /** Copies a slot that stands, or is being matched; false if there is none, or it goes meanwhile. By anyone. */
  copy(slot: Slot, into: Int32Array): boolean {
    const word = this.word(slot)
    if (!isKept(word)) return false
    const base = slot * WIDTH
    for (let i = 0; i < WIDTH; i++) into[i] = this.fields[base + i]!
    if (stateOf(word) === STATE.inactive) into[EXPECTATION.flags]! |= INACTIVE
    const after = this.word(slot)
    return generationOf(after) === generationOf(word) && isKept(after)
  }
}
