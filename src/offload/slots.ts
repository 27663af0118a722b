// The slots of the offload's map as a shard uses them: claimed, filled, shown to the program, read back, freed. What of
// a flow is offloaded and taken back follows nf_flow_table_core.c. Nothing here allocates or reads a clock; times are
// milliseconds of the shards' clock.
//
// Owner: a slot belongs to the shard whose number is in its owner word, which several shards take by compare-and-swap;
// the program counts in the second line. One direction of a flow has one slot; which two belong together the owner's
// row knows.
//
//   a slot is   owner    key    the program                          the owner
//   free        0        0      passes it by                         anybody claims it
//   claimed     shard+1  0      passes it by                         writes the first line, zeroes the second
//   pending     shard+1  key    counts its packets, which go slow    still has packets of the flow in its ring
//   active      shard+1  key    translates and sends                 reads the second line
//   resting     shard+1  0      ends what it has begun               waits 10 ms, then takes the last counts
//
// The program reads the generation, compares the key, reads the rest and the generation again. Since a slot rests, no
// packet that has found it counts in its next life. Never: a field of the first line that the program reads is changed
// while there is a key, but for the state, and version, hop and its generation as renew() does it.

import { delta16, delta32 } from '../wire/checksum.ts'
import { fold } from '../wire/ones-complement.ts'
import {
  ACTIVE,
  bucketOf,
  CONFIGURATION,
  hashOf,
  keyOf,
  PENDING,
  SLOT,
  SLOT_WORDS,
  SLOTS_AT,
  secondHash,
  WAYS,
} from './layout.ts'

const { version: VERSION, seconds: SECONDS, seed: SEED, buckets: BUCKETS } = CONFIGURATION
const {
  src: SRC,
  dst: DST,
  ports: PORTS,
  key: KEY,
  newSrc: NEW_SRC,
  newDst: NEW_DST,
  newPorts: NEW_PORTS,
  hop: HOP,
  addressDelta: ADDRESS_DELTA,
  portDelta: PORT_DELTA,
  version: SLOT_VERSION,
  hopGeneration: HOP_GENERATION,
  generation: GENERATION,
  state: STATE,
  owner: OWNER,
  row: ROW,
  packets: PACKETS,
  bytes: BYTES,
  lastSeen: LAST_SEEN,
  flags: FLAGS,
  pending: PENDING_PACKETS,
  end: END,
  ack: ACK,
  window: WINDOW,
  maxWindow: MAX_WINDOW,
  takenPackets: TAKEN_PACKETS,
  takenBytes: TAKEN_BYTES,
  restNext: REST_NEXT,
  restUntil: REST_UNTIL,
} = SLOT

/** How long a freed slot rests: far longer than a packet is in the program. */
export const REST_MS = 10
/** Instead of a slot: both buckets are full, and the flow stays slow. */
export const NO_SLOT = -1

const SLOTS_WORD = SLOTS_AT >> 2
const TWO_32 = 0x1_0000_0000

/** Configuration and all slots of one map, as one shard sees them. */
export class Slots {
  readonly #words: Int32Array
  readonly #owner: number
  readonly #seed: number
  readonly #buckets: number
  /** The queue of resting slots goes through the slots; numbers + 1, 0: none. */
  #restFirst = 0
  #restLast = 0
  /** What take() has found. */
  packets = 0
  bytes = 0

  /** `value` is the map's (bpf.ts), prepared by prepareValue(). */
  constructor(value: ArrayBufferLike, shard: number) {
    this.#words = new Int32Array(value)
    this.#owner = shard + 1
    this.#seed = this.#words[SEED]!
    this.#buckets = this.#words[BUCKETS]!
  }

  /** Slots are numbered from 0. */
  get count(): number {
    return this.#buckets * WAYS
  }

  // --- for all slots ---

  /** Once a turn; the program stamps what it sees with it. */
  setSeconds(seconds: number): void {
    if (this.#words[SECONDS] !== seconds) this.#words[SECONDS] = seconds
  }

  /** Of routes and links. Read it before the route is asked for that is then given to renew(). */
  version(): number {
    return Atomics.load(this.#words, VERSION)
  }

  /** From now on no slot is followed until it is renewed. */
  raiseVersion(): void {
    Atomics.add(this.#words, VERSION, 1)
  }

  // --- a life of a slot ---

  /**
   * A slot for packets with this tuple, claimed; NO_SLOT if both of its buckets are full. The second one is looked at
   * when the first is nearly full, and the emptier one has it.
   */
  claim(src: number, dst: number, ports: number, protocol: number, side: number): number {
    const words = this.#words
    const key = keyOf(protocol, side)
    const hash = hashOf(this.#seed, src, dst, ports, key)
    const first = bucketOf(hash, this.#buckets) * WAYS
    let slot = NO_SLOT
    if (this.#freeIn(first) > 1) slot = this.#claimIn(first)
    if (slot === NO_SLOT) {
      const second = bucketOf(secondHash(hash), this.#buckets) * WAYS
      const isFirstEmptier = this.#freeIn(first) > this.#freeIn(second)
      slot = this.#claimIn(isFirstEmptier ? first : second)
      if (slot === NO_SLOT) slot = this.#claimIn(isFirstEmptier ? second : first)
    }
    if (slot === NO_SLOT) return NO_SLOT
    const at = SLOTS_WORD + slot * SLOT_WORDS
    words[at + SRC] = src
    words[at + DST] = dst
    words[at + PORTS] = ports
    for (let word = PACKETS; word < SLOT_WORDS; word++) words[at + word] = 0
    return slot
  }

  #freeIn(bucket: number): number {
    let free = 0
    for (let at = SLOTS_WORD + bucket * SLOT_WORDS + OWNER, way = 0; way < WAYS; way++, at += SLOT_WORDS)
      if (this.#words[at] === 0) free++
    return free
  }

  /** Of several shards that take the same slot one has it. */
  #claimIn(bucket: number): number {
    const words = this.#words
    for (let slot = bucket; slot < bucket + WAYS; slot++) {
      const at = SLOTS_WORD + slot * SLOT_WORDS + OWNER
      if (words[at] === 0 && Atomics.compareExchange(words, at, 0, this.#owner) === 0) return slot
    }
    return NO_SLOT
  }

  /** What the packets leave with. */
  translate(slot: number, src: number, dst: number, ports: number): void {
    const words = this.#words
    const at = SLOTS_WORD + slot * SLOT_WORDS
    words[at + NEW_SRC] = src
    words[at + NEW_DST] = dst
    words[at + NEW_PORTS] = ports
    words[at + ADDRESS_DELTA] = fold(delta32(words[at + SRC]!, src) + delta32(words[at + DST]!, dst))
    words[at + PORT_DELTA] = fold(
      delta16(words[at + PORTS]! & 0xffff, ports & 0xffff) + delta16(words[at + PORTS]! >>> 16, ports >>> 16),
    )
  }

  /** TCP's numbers as the shard knows them: the highest end of what has been sent, the last ACK, and its window. */
  setWindow(slot: number, end: number, ack: number, window: number): void {
    const at = SLOTS_WORD + slot * SLOT_WORDS
    this.#words[at + END] = end
    this.#words[at + ACK] = ack
    this.#words[at + WINDOW] = window
    this.#words[at + MAX_WINDOW] = window
  }

  /**
   * Which way the packets leave: before publish(), and whenever a version or generation has been raised. `version` and
   * `hopGeneration` are what they were before the route was looked up, so that a change meanwhile isn't missed.
   */
  renew(slot: number, version: number, hop: number, hopGeneration: number): void {
    const words = this.#words
    const at = SLOTS_WORD + slot * SLOT_WORDS
    if (words[at + KEY] === 0) {
      words[at + HOP] = hop
      words[at + SLOT_VERSION] = version
      words[at + HOP_GENERATION] = hopGeneration
      return
    }
    // No hop has generation 0: nobody follows the slot between the stores.
    Atomics.store(words, at + HOP_GENERATION, 0)
    Atomics.store(words, at + HOP, hop)
    Atomics.store(words, at + SLOT_VERSION, version)
    Atomics.store(words, at + HOP_GENERATION, hopGeneration)
  }

  /** Shows the slot to the program, PENDING: its packets go slow and are counted until activate(). */
  publish(slot: number, protocol: number, side: number, row: number): void {
    const words = this.#words
    const at = SLOTS_WORD + slot * SLOT_WORDS
    words[at + ROW] = row
    words[at + STATE] = PENDING
    Atomics.store(words, at + KEY, keyOf(protocol, side))
  }

  /** From now on the program forwards: none of the flow's packets waits in the shard's ring any more. */
  activate(slot: number): void {
    Atomics.store(this.#words, SLOTS_WORD + slot * SLOT_WORDS + STATE, ACTIVE)
  }

  /** Ends it at `now`; its last counts are to be had from rested(). */
  free(slot: number, now: number): void {
    const words = this.#words
    const at = SLOTS_WORD + slot * SLOT_WORDS
    Atomics.add(words, at + GENERATION, 1)
    Atomics.store(words, at + KEY, 0)
    words[at + REST_NEXT] = 0
    words[at + REST_UNTIL] = (now + REST_MS) | 0
    if (this.#restLast !== 0) words[SLOTS_WORD + (this.#restLast - 1) * SLOT_WORDS + REST_NEXT] = slot + 1
    else this.#restFirst = slot + 1
    this.#restLast = slot + 1
  }

  /**
   * A slot that has rested enough, or NO_SLOT. It has still its row and counts; the caller takes them, and then
   * release()s it before it asks again.
   */
  rested(now: number): number {
    const slot = this.#restFirst - 1
    if (slot < 0) return NO_SLOT
    const isOver = ((now - this.#words[SLOTS_WORD + slot * SLOT_WORDS + REST_UNTIL]!) | 0) >= 0
    return isOver ? slot : NO_SLOT
  }

  /** Gives back what rested() has said. */
  release(slot: number): void {
    const at = SLOTS_WORD + slot * SLOT_WORDS
    this.#restFirst = this.#words[at + REST_NEXT]!
    if (this.#restFirst === 0) this.#restLast = 0
    Atomics.store(this.#words, at + OWNER, 0)
  }

  // --- what the program has counted and seen ---

  /** Packets and bytes since the last time, into `packets` and `bytes`; true if there are any. */
  take(slot: number): boolean {
    const words = this.#words
    const at = SLOTS_WORD + slot * SLOT_WORDS
    const packets = Atomics.load(words, at + PACKETS)
    this.packets = (packets - words[at + TAKEN_PACKETS]!) >>> 0
    let high = Atomics.load(words, at + BYTES + 1)
    let low = Atomics.load(words, at + BYTES)
    // The lower half may overflow between two loads; then the upper one has become another.
    for (let again = Atomics.load(words, at + BYTES + 1); again !== high; ) {
      high = again
      low = Atomics.load(words, at + BYTES)
      again = Atomics.load(words, at + BYTES + 1)
    }
    const takenLow = words[at + TAKEN_BYTES]!
    const takenHigh = words[at + TAKEN_BYTES + 1]!
    this.bytes = ((high - takenHigh) | 0) * TWO_32 + (low >>> 0) - (takenLow >>> 0)
    words[at + TAKEN_PACKETS] = packets
    words[at + TAKEN_BYTES] = low
    words[at + TAKEN_BYTES + 1] = high
    return this.packets !== 0 || this.bytes !== 0
  }

  lastSeen(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + LAST_SEEN]!
  }

  /** TCP flags seen since the slot was claimed. */
  flags(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + FLAGS]!
  }

  /** How many packets have gone slow because the slot was pending. */
  pendingPackets(slot: number): number {
    return Atomics.load(this.#words, SLOTS_WORD + slot * SLOT_WORDS + PENDING_PACKETS)
  }

  end(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + END]!
  }

  ack(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + ACK]!
  }

  window(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + WINDOW]!
  }

  maxWindow(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + MAX_WINDOW]!
  }

  rowOf(slot: number): number {
    return this.#words[SLOTS_WORD + slot * SLOT_WORDS + ROW]!
  }

  /** Packets with its tuple find it. */
  isLive(slot: number): boolean {
    return Atomics.load(this.#words, SLOTS_WORD + slot * SLOT_WORDS + KEY) !== 0
  }

  /**
   * The first slot from `from` on that this shard has, or NO_SLOT: for the successor of a dead one, which keeps those
   * whose rows live and frees the others, resting ones among them.
   */
  nextOwned(from: number): number {
    for (let slot = from; slot < this.count; slot++)
      if (this.#words[SLOTS_WORD + slot * SLOT_WORDS + OWNER] === this.#owner) return slot
    return NO_SLOT
  }
}

/** A fresh map's value, by whoever makes the map, before programs and shards get it. */
export function prepareValue(value: ArrayBufferLike, options: { seed: number; buckets: number }): void {
  const words = new Int32Array(value, 0, SLOTS_WORD)
  words[SEED] = options.seed
  words[BUCKETS] = options.buckets
  words[VERSION] = 1
}
