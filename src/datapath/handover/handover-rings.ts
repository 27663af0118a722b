// Rings by which packets go from one thread to another: one for each pair of a producer (a shard, or the dispatcher)
// and a consumer (a shard; a shard's ring to itself carries hairpins). Single producer, single consumer; a full ring
// refuses, so no thread ever waits for another. An entry is a few words; the frame lies in the part of the packet
// memory that all threads share, or, lent, where it was received. Entries are published once a burst: publishing each
// on its own costs ten times as much (docs/decisions/0004).
//
//   word      written by  is                                     also
//   HEAD      producer    entries before it are written          stored once a burst, after the entries
//   NEXT      consumer    entries before it are listed           stored before the first of them is touched
//   TAIL      consumer    entries before it are done with        stored after the last of them; TAIL <= NEXT <= HEAD
//   DOORBELL  producers   changes with any HEAD of the consumer  one word a consumer: it looks at no ring in vain
//   ASLEEP    both        the consumer sleeps or is about to     consumer: stores 1, looks at DOORBELL again, sleeps;
//                                                                producer: changes DOORBELL, takes ASLEEP to 0, wakes
// Never: an entry written at or after TAIL + the ring's slots; an entry read at or after HEAD; a lent frame given back
// by two threads.
//
// Who must give back a lent frame (a receive ring stops for good at a frame that is not given back):
//   written, HEAD not stored             its lender            the entry was never there
//   HEAD stored, not released            the consumer          that of the ring where the entry lies
//   passed on, HEAD there not stored     who passes it on      the entry says to whom and as which (passedTo, passedAt)
//   passed on, HEAD there stored         the next consumer     it lies in two rings until the first is released
//   released                             no thread             it was given back before TAIL was stored
//
// A thread that died leaves all of it as it was. As a consumer its successor goes on at NEXT: what lies between TAIL
// and NEXT may be half rewritten, so it is dropped, and its lent frames are given back unless they were passed on. As a
// producer the successor goes on at HEAD: what was written behind it was never there; it rings every doorbell, since
// its predecessor may have stored HEAD and died before it rang. As a lender it gives back all frames that lie in no
// ring: the token in a released slot proves nothing, since frames are lent again. All counts run on and wrap at 2^32.
// Owner: as the first table says.

import type { Shard } from '../../memory/brand.ts'
import { CACHE_LINE_WORDS, type Region } from '../../memory/region.ts'
import type { Ports } from '../../wire/address.ts'
import { fault } from '../fault-points.ts'
import type { At, Ingress } from '../packet/burst.ts'

/**
 * Entries of a ring, a power of two. A shard's rings carry what came to the wrong one; a dispatcher's carry everything,
 * and must hold what comes while the consumer isn't scheduled (measured with the lab: 256 lose packets).
 */
const SHARD_SLOTS = 512
const DISPATCHER_SLOTS = 4096
/** Hand-overs of one packet (packet/burst.ts): a lent frame may come into so many rings, one after the other. */
const MOST_HANDOVERS = 3

const NEXT = 0
const TAIL = 1
const DOORBELL = 0
const ASLEEP = 1

/** An entry's words. */
export const ENTRY = {
  /** Where the frame begins, an offset in the packet memory, and its bytes from there. */
  at: 0,
  length: 1,
  /** The ingress word (packet/burst.ts): entries of one burst have the same. */
  ingress: 2,
  /** Of a later fragment, which shows no ports: those that its datagram's first fragment has shown. */
  ports: 3,
  /** 0: the frame's bytes were copied; of a lent frame its token (Driver.lend()), plus 1. */
  lent: 4,
  /** Written by a consumer that passes a lent frame on: the next consumer, plus 1, and the entry's count there. */
  passedTo: 5,
  passedAt: 6,
  /** Of a fragment with its ports: the identification that it leaves with. */
  identification: 7,
} as const
const ENTRY_WORDS = 8
/** In place of a token: the frame's bytes were copied. */
export const NOT_LENT = -1

/** A frame's place in the shared part of the packet memory. No power of two, so that they spread over cache sets. */
export const SLOT_BYTES = 2112

/** Bytes of the packet memory's shared part. */
export const handoverFrameBytes = (shards: number): number => slotCount(shards) * SLOT_BYTES

const slotCount = (shards: number): number => shards * (shards * SHARD_SLOTS + DISPATCHER_SLOTS)

const producers = (shards: number): number => shards + 1
const ringCount = (shards: number): number => producers(shards) * shards

/** The rings' memory as views; threads use it by Outbox and Inbox. Producer number `shards` is the dispatcher. */
export class HandoverRings {
  readonly shards: number
  readonly heads: Int32Array
  /** NEXT and TAIL. */
  readonly consumed: Int32Array
  /** DOORBELL and ASLEEP, a cache line a consumer. */
  readonly doors: Int32Array
  /** By ring, slot and word: entryAt() finds it. */
  readonly entries: Int32Array

  constructor(region: Region, shards: number) {
    this.shards = shards
    this.heads = region.i32(ringCount(shards) * CACHE_LINE_WORDS)
    this.consumed = region.i32(ringCount(shards) * CACHE_LINE_WORDS)
    this.doors = region.i32(shards * CACHE_LINE_WORDS)
    this.entries = region.i32(slotCount(shards) * ENTRY_WORDS)
  }

  ring(producer: Shard, consumer: Shard): number {
    return producer * this.shards + consumer
  }

  /** How many entries a producer's rings have. */
  slots(producer: Shard): number {
    return producer === this.shards ? DISPATCHER_SLOTS : SHARD_SLOTS
  }

  /** Where the words of a ring's entry begin, by its count. */
  entryAt(ring: number, count: number): number {
    return this.#slot(ring, count) * ENTRY_WORDS
  }

  /** Where the same entry's place begins, from the shared part's. */
  slotAt(ring: number, count: number): number {
    return this.#slot(ring, count) * SLOT_BYTES
  }

  /** True if some ring to this consumer holds entries that it is not done with. */
  hasMail(consumer: Shard): boolean {
    for (let producer = 0; producer < producers(this.shards); producer++) {
      const ring = this.ring(producer, consumer)
      const tail = Atomics.load(this.consumed, ring * CACHE_LINE_WORDS + TAIL)
      if (Atomics.load(this.heads, ring * CACHE_LINE_WORDS) !== tail) return true
    }
    return false
  }

  /**
   * Tokens of all lent frames that lie in some ring. Threads go on meanwhile: a frame that is handed on lies in two
   * rings for a moment, then in the second, which may have been looked at before. It is handed on twice at most, so one
   * of three looks sees it.
   */
  tokensLent(): Set<number> {
    const tokens = new Set<number>()
    for (let look = 0; look < MOST_HANDOVERS; look++)
      for (let ring = 0; ring < ringCount(this.shards); ring++) this.#addTokens(ring, tokens)
    tokens.delete(NOT_LENT)
    return tokens
  }

  #addTokens(ring: number, tokens: Set<number>): void {
    const tail = Atomics.load(this.consumed, ring * CACHE_LINE_WORDS + TAIL)
    const head = Atomics.load(this.heads, ring * CACHE_LINE_WORDS)
    for (let count = tail; count !== head; count = (count + 1) | 0)
      tokens.add(Atomics.load(this.entries, this.entryAt(ring, count) + ENTRY.lent) - 1)
  }

  /** The dispatcher's rings come last. */
  #slot(ring: number, count: number): number {
    const first = this.shards * this.shards
    return ring < first
      ? ring * SHARD_SLOTS + (count & (SHARD_SLOTS - 1))
      : first * SHARD_SLOTS + (ring - first) * DISPATCHER_SLOTS + (count & (DISPATCHER_SLOTS - 1))
  }
}

/** A producer's end of its rings, one to each shard. */
export class Outbox {
  readonly #rings: HandoverRings
  readonly #producer: Shard
  readonly #slots: number
  /** By consumer: HEAD as it will be, and TAIL as it was when last looked at. */
  readonly #head: Int32Array
  readonly #tail: Int32Array
  /** By consumer: written since the last publish(). */
  readonly #written: Uint8Array
  #anyWritten = false

  constructor(rings: HandoverRings, producer: Shard) {
    this.#rings = rings
    this.#producer = producer
    this.#slots = rings.slots(producer)
    this.#head = new Int32Array(rings.shards)
    this.#tail = new Int32Array(rings.shards)
    this.#written = new Uint8Array(rings.shards)
    for (let consumer = 0; consumer < rings.shards; consumer++) {
      const ring = rings.ring(producer, consumer)
      this.#head[consumer] = Atomics.load(rings.heads, ring * CACHE_LINE_WORDS)
      this.#tail[consumer] = Atomics.load(rings.consumed, ring * CACHE_LINE_WORDS + TAIL)
    }
  }

  /** False if the ring is full: put() may not be called. */
  hasRoom(consumer: Shard): boolean {
    const head = this.#head[consumer]!
    if (((head - this.#tail[consumer]!) | 0) < this.#slots) return true
    const { consumed } = this.#rings
    const tail = Atomics.load(consumed, this.#rings.ring(this.#producer, consumer) * CACHE_LINE_WORDS + TAIL)
    this.#tail[consumer] = tail
    return ((head - tail) | 0) < this.#slots
  }

  /** The next entry's place, from where the shared part begins. */
  slotFor(consumer: Shard): number {
    return this.#rings.slotAt(this.#rings.ring(this.#producer, consumer), this.#head[consumer]!)
  }

  /** Which entry of the ring to a consumer the next put() writes. */
  nextOf(consumer: Shard): number {
    return this.#head[consumer]!
  }

  /** Writes an entry whose frame was copied; lend() after it says that the frame is lent. */
  put(consumer: Shard, at: At, length: number, ingress: Ingress, ports: Ports): void {
    const { entries } = this.#rings
    const entry = this.#rings.entryAt(this.#rings.ring(this.#producer, consumer), this.#head[consumer]!)
    entries[entry + ENTRY.at] = at
    entries[entry + ENTRY.length] = length
    entries[entry + ENTRY.ingress] = ingress
    entries[entry + ENTRY.ports] = ports
    entries[entry + ENTRY.lent] = 0
    entries[entry + ENTRY.passedTo] = 0
    this.#head[consumer]! += 1
    this.#written[consumer] = 1
    this.#anyWritten = true
  }

  /** The packet of the entry that was put last is a fragment that leaves with this identification. */
  identify(consumer: Shard, identification: number): void {
    const { entries } = this.#rings
    const last = (this.#head[consumer]! - 1) | 0
    const entry = this.#rings.entryAt(this.#rings.ring(this.#producer, consumer), last)
    entries[entry + ENTRY.identification] = identification
  }

  /** The frame of the entry that was put last is not a copy: it is lent by this token. */
  lend(consumer: Shard, token: number): void {
    const { entries } = this.#rings
    const last = (this.#head[consumer]! - 1) | 0
    entries[this.#rings.entryAt(this.#rings.ring(this.#producer, consumer), last) + ENTRY.lent] = token + 1
  }

  /** Publishes what was put; `wake` is called with each shard that sleeps. Once a burst. */
  publish(wake: (shard: Shard) => void): void {
    if (!this.#anyWritten) return
    this.#anyWritten = false
    fault('burst not shown')
    const { heads, doors, shards } = this.#rings
    for (let consumer = 0; consumer < shards; consumer++) {
      if (this.#written[consumer] === 0) continue
      this.#written[consumer] = 0
      Atomics.store(heads, this.#rings.ring(this.#producer, consumer) * CACHE_LINE_WORDS, this.#head[consumer]!)
      fault('head shown, doorbell not rung')
      Atomics.add(doors, consumer * CACHE_LINE_WORDS + DOORBELL, 1)
      if (Atomics.load(doors, consumer * CACHE_LINE_WORDS + ASLEEP) === 0) continue
      if (Atomics.exchange(doors, consumer * CACHE_LINE_WORDS + ASLEEP, 0) === 1) wake(consumer)
    }
  }

  /** For a successor: makes every consumer look, since a dead predecessor may have stored HEAD and not rung. */
  ringAll(wake: (shard: Shard) => void): void {
    this.#written.fill(1)
    this.#anyWritten = true
    this.publish(wake)
  }
}

/** A consumer's end of its rings, one from each producer. */
export class Inbox {
  readonly producers: number
  /** Most entries that waited in one ring since this was last set to zero. */
  fullest = 0
  readonly #rings: HandoverRings
  readonly #consumer: Shard
  readonly #next: Int32Array
  readonly #door: number
  #heard: number
  /** Something was left in a ring when it was last looked at. */
  #left = true

  constructor(rings: HandoverRings, consumer: Shard) {
    this.producers = producers(rings.shards)
    this.#rings = rings
    this.#consumer = consumer
    this.#door = consumer * CACHE_LINE_WORDS
    this.#next = new Int32Array(this.producers)
    for (let producer = 0; producer < this.producers; producer++)
      this.#next[producer] = Atomics.load(rings.consumed, rings.ring(producer, consumer) * CACHE_LINE_WORDS + NEXT)
    this.#heard = Atomics.load(rings.doors, this.#door + DOORBELL)
  }

  /** Something may be in a ring. One atomic load: to be asked each turn. */
  hasMail(): boolean {
    const doorbell = Atomics.load(this.#rings.doors, this.#door + DOORBELL)
    if (doorbell === this.#heard && !this.#left) return false
    this.#heard = doorbell
    this.#left = false
    return true
  }

  /** Lists at most `most` entries of a ring that have one ingress; how many. entry() finds them until release(). */
  receive(producer: Shard, most: number): number {
    const { heads, consumed, entries } = this.#rings
    const ring = this.#rings.ring(producer, this.#consumer)
    const first = this.#next[producer]!
    const ready = (Atomics.load(heads, ring * CACHE_LINE_WORDS) - first) | 0
    if (ready === 0) return 0
    if (ready > this.fullest) this.fullest = ready
    const ingress = entries[this.#rings.entryAt(ring, first) + ENTRY.ingress]
    let count = 1
    while (count < most && count < ready) {
      if (entries[this.#rings.entryAt(ring, first + count) + ENTRY.ingress] !== ingress) break
      count++
    }
    if (count < ready) this.#left = true
    this.#next[producer] = first + count
    consumed[ring * CACHE_LINE_WORDS + NEXT] = first + count
    return count
  }

  /** How many entries of a producer's ring are not released: those in hand, and those that wait. */
  waiting(producer: Shard): number {
    const { heads, consumed } = this.#rings
    const ring = this.#rings.ring(producer, this.#consumer)
    return (Atomics.load(heads, ring * CACHE_LINE_WORDS) - consumed[ring * CACHE_LINE_WORDS + TAIL]!) | 0
  }

  /** Where the words of the i-th of `count` entries that were listed last begin, in HandoverRings.entries. */
  entry(producer: Shard, count: number, i: number): number {
    return this.#rings.entryAt(this.#rings.ring(producer, this.#consumer), this.#next[producer]! - count + i)
  }

  /** The i-th of the entries that were listed last is handed on with its lent frame, as entry `next` to a consumer. */
  passOn(producer: Shard, count: number, i: number, consumer: Shard, next: number): void {
    const { entries } = this.#rings
    const entry = this.entry(producer, count, i)
    entries[entry + ENTRY.passedAt] = next
    entries[entry + ENTRY.passedTo] = consumer + 1
  }

  /** The listed entries are done with; what was lent among them has been given back or passed on before. */
  release(producer: Shard): void {
    const ring = this.#rings.ring(producer, this.#consumer)
    Atomics.store(this.#rings.consumed, ring * CACHE_LINE_WORDS + TAIL, this.#next[producer]!)
  }

  /**
   * What a dead predecessor had listed is dropped; `each` is told the tokens of lent frames that it had not passed on.
   * Before this thread puts anything into a ring. Returns how many entries.
   */
  takeOver(each: (token: number) => void): number {
    const { consumed, entries } = this.#rings
    let dropped = 0
    for (let producer = 0; producer < this.producers; producer++) {
      const ring = this.#rings.ring(producer, this.#consumer)
      for (
        let count = Atomics.load(consumed, ring * CACHE_LINE_WORDS + TAIL);
        count !== this.#next[producer];
        count = (count + 1) | 0
      ) {
        const entry = this.#rings.entryAt(ring, count)
        const token = entries[entry + ENTRY.lent]! - 1
        if (token !== NOT_LENT && !this.#wasPassedOn(entry)) each(token)
        dropped++
        fault("predecessor's entry dropped")
      }
      this.release(producer)
    }
    return dropped
  }

  /** The next consumer sees the entry: one that was written and not published is not there. */
  #wasPassedOn(entry: number): boolean {
    const { entries, heads } = this.#rings
    const to = entries[entry + ENTRY.passedTo]! - 1
    if (to < 0) return false
    const head = Atomics.load(heads, this.#rings.ring(this.#consumer, to) * CACHE_LINE_WORDS)
    return ((head - entries[entry + ENTRY.passedAt]!) | 0) > 0
  }

  /** Says that this thread is about to sleep; false if something has come meanwhile, and it must not sleep. */
  fallAsleep(): boolean {
    Atomics.store(this.#rings.doors, this.#door + ASLEEP, 1)
    if (!this.#left && Atomics.load(this.#rings.doors, this.#door + DOORBELL) === this.#heard) return true
    this.wakeUp()
    return false
  }

  wakeUp(): void {
    Atomics.store(this.#rings.doors, this.#door + ASLEEP, 0)
  }
}
