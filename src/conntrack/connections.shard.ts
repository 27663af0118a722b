// This shard's connections: finding, confirming and removing rows of its table (connection-table.ts). Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { LIVE } from '../memory/rows.ts'
import type { Addr, Ports } from '../wire/address.ts'
import { CONN, CONN_SHIFT, cutConnections, KEY_MASK, TUPLE_WORDS } from './connection-table.ts'
import { fault } from './fault-points.ts'
import type { Direction, KeyWord } from './terms.ts'
import { directionOf, hashTuple, rowOf } from './terms.ts'

export const {
  rows: connections,
  cold,
  index: connectionIndex,
} = cutConnections(attached().connections, attached().capacity)
/** The rows' words: row r begins at r << CONN_SHIFT. */
export const hot = connections.words

const { origSrc: ORIG_SRC, origDst: ORIG_DST, origPorts: ORIG_PORTS, state: STATE } = CONN
const { replySrc: REPLY_SRC, replyDst: REPLY_DST, replyPorts: REPLY_PORTS } = CONN

/** The row is live and this direction of it has this tuple. */
export function matches(row: Row, direction: Direction, src: Addr, dst: Addr, ports: Ports, key: KeyWord): boolean {
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
export function findConnection(src: Addr, dst: Addr, ports: Ports, key: KeyWord, hash: number): number {
  const index = connectionIndex
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const ref = index.refAt(at)
    if (matches(rowOf(ref), directionOf(ref), src, dst, ports, key)) return ref
  }
  return 0
}

/** Makes a row whose fields are written visible: to readers, then to lookups, as confirmation does in netfilter. */
export function confirm(row: Row): void {
  connections.commit(row)
  connectionIndex.insert(hashOf(row, 0), (row << 1) | 0)
  fault('connection found by its original tuple only')
  connectionIndex.insert(hashOf(row, 1), (row << 1) | 1)
}

/** Takes a row out of the table. What it refers to is the caller's to release, afterwards. */
export function remove(row: Row): void {
  const original = hashOf(row, 0)
  const reply = hashOf(row, 1)
  connectionIndex.remove(original, (row << 1) | 0)
  fault('connection lost by its original tuple only')
  connectionIndex.remove(reply, (row << 1) | 1)
  fault('connection lost by both tuples')
  connections.retire(row)
}

/** On a dead shard's memory: rows and index as its live rows say. */
export function recoverConnections(): void {
  connections.recover()
  connectionIndex.clear()
  for (let row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row)) continue
    connectionIndex.insert(hashOf(row, 0), (row << 1) | 0)
    connectionIndex.insert(hashOf(row, 1), (row << 1) | 1)
  }
}

function hashOf(row: Row, direction: Direction): number {
  const base = row << CONN_SHIFT
  const key = (hot[base + STATE]! ^ (direction << 8)) & KEY_MASK
  return direction === 0
    ? hashTuple(hot[base + ORIG_SRC]!, hot[base + ORIG_DST]!, hot[base + ORIG_PORTS]!, key)
    : hashTuple(hot[base + REPLY_SRC]!, hot[base + REPLY_DST]!, hot[base + REPLY_PORTS]!, key)
}

export const protocolOf = (row: Row): number => hot[(row << CONN_SHIFT) + STATE]! & 0xff
/** Side by which the first packet came. */
export const originOf = (row: Row): number => (hot[(row << CONN_SHIFT) + STATE]! >> 8) & 1
