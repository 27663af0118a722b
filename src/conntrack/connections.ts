// The connection table: a row a connection, found by the tuple of either direction. Like netfilter's conntrack, the
// original tuple is that of the first packet, the reply tuple is what its answer will look like; the difference
// between one and the inverse of the other is the translation.
//
// A row is one cache line for what each packet touches, with columns beside it for what only slow paths read; two
// cells of the index lead to it, tagged with the direction. Measured in bench/functions.ts.
//
// Owner: the shard. It alone writes; anyone may read rows by the rules of memory/rows.ts. Byte and packet counts are
// 32 bits in the row and wrap; the columns count the wraps.

import { HashIndex } from '../memory/hash-index.ts'
import { type Columns, columns, layout } from '../memory/layout.ts'
import type { Region } from '../memory/region.ts'
import { LIVE, Rows } from '../memory/rows.ts'
import { hashTuple } from './tuple.ts'

/** Words of a row; a shift finds it. */
export const CONN_WORDS = 16
export const CONN_SHIFT = 4

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
  /** What translating a packet adds to its checksums: IP header in the low half (TTL included), transport in the high. */
  checksumDelta: 12,
  checksumDeltaReply: 13,
  /** Seconds without traffic that the row outlives. */
  timeout: 14,
  generation: 15,
})

// The state word: bits 0-7 protocol, bit 8 side that the original direction comes by, bits 9-12 TCP state, bit 15 LIVE.
/** With the direction's bit 8 turned over for replies, these bits equal a packet's key word. */
export const KEY_MASK = 0x1ff
export const TCP_STATE_SHIFT = 9
export const TCP_STATE_MASK = 15 << TCP_STATE_SHIFT
/** A packet has passed in the reply direction (IPS_SEEN_REPLY). */
export const SEEN_REPLY = 1 << 16
/** Two-way traffic that the protocol's tracker believes (IPS_ASSURED). */
export const ASSURED = 1 << 17
/** Both ends sent a SYN before either had one: an ACK from either establishes. */
export const SIMULTANEOUS_OPEN = 1 << 18

const COLD = {
  /** The mapping it goes by, 0 for protocols without ports. */
  mapping: 'i32',
  /** The permission it counts in, 0 as long as the inside end hasn't sent. */
  permission: 'i32',
  /** Place in the queue of recyclable connections. */
  queue: 'i32',
  queueNext: 'i32',
  queuePrevious: 'i32',
  created: 'i32',
  packetWraps: 'i32',
  packetWrapsReply: 'i32',
  byteWraps: 'i32',
  byteWrapsReply: 'i32',
} as const

export let connections: Rows
/** The rows' words: row r begins at r << CONN_SHIFT. */
export let hot: Int32Array = new Int32Array(0)
export let cold: Columns<typeof COLD>
export let connectionIndex: HashIndex

export function seatConnections(region: Region, capacity: number): void {
  connections = new Rows(region, {
    capacity,
    width: CONN_WORDS,
    flagsWord: CONN.state,
    generationWord: CONN.generation,
  })
  hot = connections.words
  cold = columns(region, capacity + 1, COLD)
  connectionIndex = new HashIndex(region, capacity * 2)
}

const { origSrc: ORIG_SRC, origDst: ORIG_DST, origPorts: ORIG_PORTS, state: STATE } = CONN
const { replySrc: REPLY_SRC, replyDst: REPLY_DST, replyPorts: REPLY_PORTS } = CONN
/** From a direction's tuple to the other's. */
export const TUPLE_WORDS = 3

/** The row is live and this direction of it has this tuple. */
export function matches(row: number, direction: number, src: number, dst: number, ports: number, key: number): boolean {
  const base = row << CONN_SHIFT
  const tuple = base + direction * TUPLE_WORDS
  const state = hot[base + STATE]!
  return (
    hot[tuple] === src &&
    hot[tuple + 1] === dst &&
    hot[tuple + 2] === ports &&
    ((state ^ (direction << 8)) & KEY_MASK) === key &&
    (state & LIVE) !== 0
  )
}

/** row << 1 | direction of the connection that a packet with this tuple belongs to, 0 if there is none. */
export function findConnection(src: number, dst: number, ports: number, key: number, hash: number): number {
  const index = connectionIndex
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const ref = index.refAt(at)
    if (matches(ref >> 1, ref & 1, src, dst, ports, key)) return ref
  }
  return 0
}

/** Makes a row whose fields are written visible: to readers, then to lookups, as confirmation does in netfilter. */
export function confirm(row: number): void {
  connections.commit(row)
  connectionIndex.insert(hashOf(row, 0), (row << 1) | 0)
  connectionIndex.insert(hashOf(row, 1), (row << 1) | 1)
}

/** Takes a row out of the table. What it refers to is the caller's to release, afterwards. */
export function remove(row: number): void {
  const original = hashOf(row, 0)
  const reply = hashOf(row, 1)
  connectionIndex.remove(original, (row << 1) | 0)
  connectionIndex.remove(reply, (row << 1) | 1)
  connections.retire(row)
}

function hashOf(row: number, direction: number): number {
  const base = row << CONN_SHIFT
  const key = (hot[base + STATE]! ^ (direction << 8)) & KEY_MASK
  return direction === 0
    ? hashTuple(hot[base + ORIG_SRC]!, hot[base + ORIG_DST]!, hot[base + ORIG_PORTS]!, key)
    : hashTuple(hot[base + REPLY_SRC]!, hot[base + REPLY_DST]!, hot[base + REPLY_PORTS]!, key)
}

export const protocolOf = (row: number): number => hot[(row << CONN_SHIFT) + STATE]! & 0xff
/** Side by which the first packet came. */
export const originOf = (row: number): number => (hot[(row << CONN_SHIFT) + STATE]! >> 8) & 1
