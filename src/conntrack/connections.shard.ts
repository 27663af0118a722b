// This shard's connections: finding, confirming and removing rows of its table (connection-table.ts). Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Generation, Row } from '../memory/brand.ts'
import { LIVE } from '../memory/rows.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import {
  type Base,
  baseOf,
  CONN,
  COUNTED_AS_OTHERS,
  cutConnections,
  isUnasked,
  KEY_MASK,
  TUPLE_WORDS,
} from './connection-table.ts'
import { fault } from './fault-points.ts'
import { HOST } from './host-table.ts'
import { countConnection, countDown, isOthers } from './hosts.shard.ts'
import type { Direction, KeyWord, Ref, Side } from './terms.ts'
import { directionOf, hashTuple, INSIDE, refOf, rowOf } from './terms.ts'

export const {
  rows: connections,
  cold,
  index: connectionIndex,
  windows,
} = cutConnections(attached().connections, attached().capacity)
/** The rows' words: row r begins at baseOf(r). */
export const hot = connections.words

const { state: STATE, generation: GENERATION } = CONN

/** How many of them were opened from outside, unasked. Derived. */
export let openedUnasked = 0

/** True if the row of `ref` is live and its direction in `ref` has this tuple. */
export function matches(ref: Ref, key: KeyWord, src: Addr, dst: Addr, ports: Ports): boolean {
  const direction = directionOf(ref)
  const base = baseOf(rowOf(ref))
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

/** The connection that a packet with this tuple belongs to, and the packet's direction; 0 if there is none. */
export function findConnection(key: KeyWord, src: Addr, dst: Addr, ports: Ports, hash: number): Ref {
  const index = connectionIndex
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) {
    const ref: Ref = index.refAt(at)
    if (matches(ref, key, src, dst, ports)) return ref
  }
  return 0
}

/** Makes a row whose fields are written visible: to readers, then to lookups, as confirmation does in netfilter. */
export function confirm(row: Row): void {
  const unasked = isUnasked(hot[baseOf(row) + STATE]!)
  if (isOthers(countConnection(insideHostOf(row), unasked))) hot[baseOf(row) + STATE]! |= COUNTED_AS_OTHERS
  fault('host counted, no connection')
  connections.commit(row)
  if (unasked) openedUnasked++
  connectionIndex.insert(hashOf(row, 0), refOf(row, 0))
  fault('connection found by its original tuple only')
  connectionIndex.insert(hashOf(row, 1), refOf(row, 1))
}

/** Takes a row out of the table. What it refers to is the caller's to release, afterwards. */
export function remove(row: Row): void {
  const host = insideHostOf(row)
  const asOthers = (hot[baseOf(row) + STATE]! & COUNTED_AS_OTHERS) !== 0
  const original = hashOf(row, 0)
  const reply = hashOf(row, 1)
  connectionIndex.remove(original, refOf(row, 0))
  fault('connection lost by its original tuple only')
  connectionIndex.remove(reply, refOf(row, 1))
  fault('connection lost by both tuples')
  if (isUnasked(hot[baseOf(row) + STATE]!)) openedUnasked--
  connections.retire(row)
  fault('connection gone, its host counted')
  countDown(host, HOST.connections, asOthers)
}

/** On a dead shard's memory: rows and index as its live rows say. */
export function recoverConnections(): void {
  connections.recover()
  connectionIndex.clear()
  openedUnasked = 0
  for (let row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row)) continue
    if (isUnasked(hot[baseOf(row) + STATE]!)) openedUnasked++
    connectionIndex.insert(hashOf(row, 0), refOf(row, 0))
    connectionIndex.insert(hashOf(row, 1), refOf(row, 1))
  }
}

/** The rows of a side table that live connections name in this column: all others are free (memory/free-rows.ts). */
export function sideRowsNamed(column: Int32Array): ReadonlySet<Row> {
  const named = new Set<Row>()
  for (let row = 1; row <= connections.highest; row++)
    if (connections.isLive(row) && column[row]! > 0) named.add(column[row]!)
  return named
}

function hashOf(row: Row, direction: Direction): number {
  const base = baseOf(row)
  const key = (hot[base + STATE]! ^ (direction << 8)) & KEY_MASK
  return hashTuple(key, srcOf(base, direction), dstOf(base, direction), portsWordOf(base, direction))
}

// --- what a row says ---

/** Of a direction: the tuple that its packets arrive with. They leave with the inverse of the other direction's. */
export const srcOf = (base: Base, direction: Direction): Addr => hot[base + direction * TUPLE_WORDS]!
export const dstOf = (base: Base, direction: Direction): Addr => hot[base + direction * TUPLE_WORDS + 1]!
export const portsWordOf = (base: Base, direction: Direction): Ports => hot[base + direction * TUPLE_WORDS + 2]!

export const stateWordOf = (base: Base): number => hot[base + STATE]!
export const protocolOf = (row: Row): ProtocolNumber => hot[baseOf(row) + STATE]! & 0xff
/** Side by which the first packet came. */
export const originOf = (row: Row): Side => ((hot[baseOf(row) + STATE]! >> 8) & 1) as Side
/** The inside end's address, untranslated: whose connection it is. */
export const insideHostOf = (row: Row): Addr =>
  originOf(row) === INSIDE ? hot[baseOf(row) + CONN.origSrc]! : hot[baseOf(row) + CONN.replySrc]!
/** The generation by which this use of the row is known. */
export const generationOf = (row: Row): Generation => hot[baseOf(row) + GENERATION]!
