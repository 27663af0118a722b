// What the one value of the offload's map holds, declared once: the program (program.ts) takes its offsets from here,
// JavaScript its views (slots.ts, hops.ts). Pure.
//
//   | configuration words, a page | hops, 1024 of 32 bytes | buckets of 4 slots of 128 bytes |
//
// Everything is words of 32 bits in the host's order; addresses and ports are as loaded from a packet. A slot is two
// cache lines: in the first the shard writes and the program reads, in the second the program writes and, while the
// slot is nobody's or rests, its shard. The shard's own three words there (taken, rest) lie where nobody else writes.

import { layout } from '../memory/layout.ts'

/** Words at the value's begin. */
export const CONFIGURATION = layout(16, {
  /** Of routes and links: a slot with another one is not followed. Raised by whoever changes them. */
  version: 0,
  /** The shards' clock. */
  seconds: 1,
  /** Key of the hash that chooses a bucket; drawn by the coordinator before there is a program. */
  seed: 2,
  /** How many buckets follow; for listings. */
  buckets: 3,
})

/** Where a packet goes: an interface, and on Ethernet the addresses. */
export const HOP_WORDS = 8
export const HOP = layout(HOP_WORDS, {
  /** Even: may be followed, by slots that have the same one. Odd: is being written. 0: never was. */
  generation: 0,
  interfaceIndex: 1,
  mtu: 2,
  /** HOP_PEER */
  flags: 3,
  /** The first twelve bytes of a frame: destination and source. */
  addresses: 4,
})
/** The other end of a veth gets the packet, past the queueing discipline (bpf_redirect_peer). */
export const HOP_PEER = 1

export const SLOT_WORDS = 32
export const SLOT = layout(SLOT_WORDS, {
  src: 0,
  dst: 1,
  ports: 2,
  /** keyOf(): last written, first erased. 0: no packet finds the slot. */
  key: 3,
  newSrc: 4,
  newDst: 5,
  newPorts: 6,
  hop: 7,
  /** What addresses and ports add to a checksum (RFC 1624), the time to live not counted. */
  addressDelta: 8,
  portDelta: 9,
  version: 10,
  hopGeneration: 11,
  /** Counts the slot's lives; raised before its key is erased. */
  generation: 12,
  /** PENDING or ACTIVE */
  state: 13,
  /** Which shard has it: its number + 1. 0: free. By compare-and-swap. */
  owner: 14,
  /** The owner's row and direction. */
  row: 15,

  /** 64 bits each; bytes of the IPv4 packets. */
  packets: 16,
  bytes: 18,
  /** By the shards' clock. */
  lastSeen: 20,
  /** TCP flags seen, ORed. */
  flags: 21,
  /** Packets that have gone to the shard while the slot was PENDING. */
  pending: 22,
  /** Of TCP, as of the packets seen: the highest end of data, the highest ACK, the window in it, the largest window. */
  end: 23,
  ack: 24,
  window: 25,
  maxWindow: 26,
  /** How much of packets and bytes the shard has taken, modulo 2^32; bytes have 64 bits. */
  takenPackets: 27,
  takenBytes: 28,
  /** While the slot rests: the next one that does, plus 1; and when it has rested enough. */
  restNext: 30,
  restUntil: 31,
})

export const PENDING = 1
export const ACTIVE = 2

/** Set in every key, so that none is 0. */
const VALID = 1 << 16
const SIDE_SHIFT = 8
/** What a slot's key word is for this protocol, of packets that come in by this side (conntrack/terms.ts). */
export const keyOf = (protocol: number, side: number): number => protocol | (side << SIDE_SHIFT) | VALID

export const WAYS = 4
export const HOPS = 1024
export const SLOT_BYTES = SLOT_WORDS * 4
export const HOP_BYTES = HOP_WORDS * 4
export const HOPS_AT = 4096
export const SLOTS_AT = HOPS_AT + HOPS * HOP_BYTES
const BUCKET_BYTES = WAYS * SLOT_BYTES
/** The verifier takes no offset from 2^29 on (BPF_MAX_VAR_OFF), and arrays of 1 GiB are refused. */
const MAX_BYTES = 512 << 20
const MAX_BUCKETS = Math.floor((MAX_BYTES - SLOTS_AT) / BUCKET_BYTES)
export const MAX_SLOTS = MAX_BUCKETS * WAYS

/** Buckets for so many slots. RangeError if there can't be as many. */
export function bucketsFor(slots: number): number {
  if (!Number.isInteger(slots) || slots < 1 || slots > MAX_SLOTS)
    throw new RangeError(`${slots} slots: from 1 to ${MAX_SLOTS} are allowed, for two of each flow`)
  return Math.ceil(slots / WAYS)
}

/** In whole pages, as it is mapped. */
export const valueBytes = (buckets: number): number => Math.ceil((SLOTS_AT + buckets * BUCKET_BYTES) / 4096) * 4096

// --- the hash that chooses a bucket ---
//
// Words of the tuple are mixed one after another by multiplication and shift, in 32 bits, as the program does too. The
// seed keeps others from filling a bucket on purpose; full ones cost no more than the offload of a flow.

export const HASH_FACTOR = 0x2c1b3c6d
export const HASH_SHIFT = 15

const mixed = (hash: number, word: number): number => {
  const product = Math.imul(hash ^ word, HASH_FACTOR)
  return product ^ (product >>> HASH_SHIFT)
}

/** One more round, by which a slot's second bucket is found. */
export const SECOND = 0x3f4a9b1
export const secondHash = (hash: number): number => mixed(hash, SECOND)

/** The hash's place among `buckets`: the upper half of a product of 64 bits. */
export const bucketOf = (hash: number, buckets: number): number => Math.floor(((hash >>> 0) * buckets) / 0x1_0000_0000)

export const hashOf = (seed: number, src: number, dst: number, ports: number, key: number): number =>
  mixed(mixed(mixed(mixed(seed, src), dst), ports), key)
