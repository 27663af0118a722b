// The connection table: a row a connection, found by the tuple of either direction. Like netfilter's conntrack, the
// original tuple is that of the first packet, the reply tuple is what its answer will look like; the difference
// between one and the inverse of the other is the translation.
//
// A row is one cache line for what each packet touches, a second one for the windows of TCP and the row's place in a
// queue (tcp-window-table.ts), with columns beside them for what only slow paths read, and side tables for what only
// few rows have; two cells of the index lead to it, tagged with the direction. Measured in bench/pipeline.ts; what all
// of it takes is held to a bound by test/datapath/bytes-a-flow.test.ts.
//
// Owner: the shard. It alone writes; anyone may cut the same memory and read rows by the rules of memory/rows.ts. Byte
// and packet counts are 32 bits in the row and wrap; the columns count the wraps.

import type { Brand, Row } from '../memory/brand.ts'
import { HashIndex } from '../memory/hash-index.ts'
import { type Columns, columns, layout } from '../memory/layout.ts'
import type { Region } from '../memory/region.ts'
import { Rows } from '../memory/rows.ts'
import { WINDOW_WORDS } from './tcp-window-table.ts'

/** Words of a row; a shift finds it. */
export const CONN_WORDS = 16
export const CONN_SHIFT = 4

/** Where a row's words begin: no row, and to be had from one by baseOf() alone. */
export type Base = Brand<'Base'>
export const baseOf = (row: Row): Base => row << CONN_SHIFT
export const rowAt = (base: Base): Row => base >> CONN_SHIFT

export const CONN = layout(CONN_WORDS, {
  origSrc: 0,
  origDst: 1,
  origPorts: 2,
  replySrc: 3,
  replyDst: 4,
  replyPorts: 5,
  /** Protocol, side of the original direction, TCP state, flags: see below. */
  state: 6,
  /** Seconds of the clock; with `timeout` it tells when the row has expired. */
  lastSeen: 7,
  packets: 8,
  packetsReply: 9,
  bytes: 10,
  bytesReply: 11,
  /**
   * What translating a packet adds to its checksums: to the IP header's in the low half, with the TTL's change, to the
   * transport's in the high half.
   */
  checksumDelta: 12,
  checksumDeltaReply: 13,
  /** Seconds without traffic that the row outlives. */
  timeout: 14,
  generation: 15,
})

/** Words from one direction's tuple to the other's. */
export const TUPLE_WORDS = 3

// The state word: bits 0-7 protocol, bit 8 side that the original direction comes by, bits 9-12 TCP state, bit 15 LIVE.
/** With the direction's bit 8 turned over for replies, these bits equal a packet's key word. */
export const KEY_MASK = 0x1ff
export const TCP_STATE_SHIFT = 9
export const TCP_STATE_MASK = 15 << TCP_STATE_SHIFT
/** TCP's state out of a state word (tcp-state.ts). */
export const stateOf = (word: number): number => (word & TCP_STATE_MASK) >> TCP_STATE_SHIFT
/** By the side bit: the original direction comes from outside (terms.ts). */
const FROM_OUTSIDE = 1 << 8
/** A packet has passed in the reply direction (IPS_SEEN_REPLY). */
export const SEEN_REPLY = 1 << 16
/** Two-way traffic that the protocol's tracker believes (IPS_ASSURED). */
export const ASSURED = 1 << 17
/** Both ends sent a SYN before either had one: an ACK from either establishes. */
export const SIMULTANEOUS_OPEN = 1 << 18
/** Its packets take the slow way: a helper reads them, or their sequence numbers are adjusted. */
export const HELPED = 1 << 19
/** An expectation let it in (IPS_EXPECTED): its first packets are RELATED instead of NEW. */
export const EXPECTED = 1 << 20
/** Of a helped one: an announcement that its helper can't rewrite must not go out (`onHelperFailure: reset`). */
export const GUARDED = 1 << 21
/** Its helper has asked for lines: what it reads is text, and an address in it is written in digits. */
export const READS_LINES = 1 << 22
/** Such an announcement has ended it: nothing of it goes on any more. */
export const ENDED_BY_RESET = 1 << 23
/** One half of a hairpin: its outside end is an external endpoint of ours, and nothing of it comes from outside. */
export const HAIRPINNED = 1 << 24
/** Of a guarded one that no helper reads: why, as the place of the reason in HELPER_RESETS plus 1; 0: not known. */
export const UNREAD_SHIFT = 26
export const UNREAD_MASK = 15 << UNREAD_SHIFT
/** It counts in the row of all hosts that have none in the host table (host-table.ts). */
export const COUNTED_AS_OTHERS = 1 << 30

/** True if the original direction of a connection with this state word comes from outside. */
export const isFromOutside = (word: number): boolean => (word & FROM_OUTSIDE) !== 0

/** True if somebody outside has opened the connection with this state word, and nobody inside has announced it. */
export const isUnasked = (word: number): boolean => (word & (FROM_OUTSIDE | EXPECTED)) === FROM_OUTSIDE

const COLD = {
  /** The mapping it goes by, 0 for protocols without ports. */
  mapping: 'i32',
  /** The permission it counts in, 0 as long as the inside end hasn't sent. */
  permission: 'i32',
  created: 'i32',
  packetWraps: 'i32',
  packetWrapsReply: 'i32',
  byteWraps: 'i32',
  byteWrapsReply: 'i32',
  /** Number of the helper that reads it, or will (helpers/registry.shard.ts), 0 for none. */
  helper: 'u8',
  /** Its row in the table of sequence edits (nat/sequence-table.ts), 0 for none. */
  sequences: 'i32',
  /**
   * Of a helped one: the segment sizes that its SYNs have announced; when bytes have gone on and it is guarded, its row
   * in the table of what has gone on last (datapath/helped/gone-bytes.shard.ts).
   */
  gone: 'i32',
  /** Of a connection that was expected: where its master is, and by which generation of that row; row 0 for none. */
  masterShard: 'u8',
  masterRow: 'i32',
  masterGeneration: 'i32',
} as const

export interface ConnectionTable {
  readonly rows: Rows
  readonly cold: Columns<typeof COLD>
  readonly index: HashIndex
  /** A window line a row (tcp-window-table.ts), by the same base. */
  readonly windows: Int32Array
}

/** The same memory for a reader: without free list and index, which are the owner's. */
export interface ConnectionView {
  readonly words: Int32Array
  readonly cold: Columns<typeof COLD>
}

export function cutConnections(region: Region, capacity: number): ConnectionTable {
  const rows = new Rows(region, {
    capacity,
    width: CONN_WORDS,
    flagsWord: CONN.state,
    generationWord: CONN.generation,
  })
  return {
    rows,
    cold: columns(region, capacity + 1, COLD),
    index: new HashIndex(region, capacity * 2),
    windows: region.i32((capacity + 1) * WINDOW_WORDS),
  }
}

/** Row 0 counts, and is never used. */
export const viewConnections = (region: Region, capacity: number): ConnectionView => ({
  words: region.i32((capacity + 1) * CONN_WORDS),
  cold: columns(region, capacity + 1, COLD),
})
