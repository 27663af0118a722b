// Which TCP mapping can give its external port back at once: one of which every connection may be recycled. Ending
// connections that share their mapping with a live one would free nothing, so the mappings stand in queues of their
// own, the oldest first, and the connections of each are chained. UDP's and ICMP's have none of this: their ports go
// into quarantine (RFC 6888 REQ-8), so nothing is ended for one.
//
//   sole closed      one connection, which is closed
//   sole unassured   one connection, which is not assured
//   several          more than one connection, all of them closed or not assured
// A half-closed connection keeps its port: only a row may cost it its life (recycling.shard.ts).
//
// Every change is O(1). Derived, and private to the thread: made again from the rows when a shard starts again.
// Owner: the shard.

import { cold, protocolOf } from '../conntrack/connections.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import { externalOf, externalPortOf, mapping, mappingBase, mappingProtocol } from '../conntrack/mappings.shard.ts'
import { CLOSED, kindOf, type Queue, queueOf, UNASSURED } from '../conntrack/queues.shard.ts'
import { attached } from '../memory/attached.ts'
import type { Brand, Entry, PortIndex, Row } from '../memory/brand.ts'
import { ntohs } from '../wire/address.ts'
import { PROTO_TCP } from '../wire/ipv4.ts'
import { blockOf, isOurs } from './blocks.shard.ts'
import { type Externals, spaceOf } from './externals.ts'
import { isHostBound, RESERVATIONS } from './port-words.ts'

// Of a mapping: its first connection; which class it stands in, and above that how many of its connections are in a
// queue that counts here; its neighbours in the class.
const SHIFT = 2
const FIRST = 0
const QUEUED_AND_CLASS = 1
const NEXT = 2
const PREVIOUS = 3
const CLASS_MASK = 3
const QUEUED_SHIFT = 2

/** How soon a mapping's port is to be had; 0: not at all. */
export type Freeable = Brand<'Freeable'>
const PINNED: Freeable = 0
export const SOLE_CLOSED: Freeable = 1
export const SOLE_UNASSURED: Freeable = 2
export const SEVERAL: Freeable = 3
const CLASSES = CLASS_MASK + 1

const chains = new Int32Array((attached().mappingCapacity + 1) << SHIFT)

/** Of a connection: the next one of its mapping, and the one before. */
const siblings = new Int32Array(2 * (attached().capacity + 1))

let externals: Externals
let heads = new Int32Array(0)
let tails = new Int32Array(0)

export function attachFreeableMappings(shared: Externals): void {
  externals = shared
  heads = new Int32Array(CLASSES * shared.capacity)
  tails = new Int32Array(CLASSES * shared.capacity)
  chains.fill(0)
}

/** A mapping's port is TCP's, so its end can free one at once. */
const isChained = (row: Row): boolean => cold.mapping[row]! !== 0 && protocolOf(row) === PROTO_TCP

/** A queue in which a connection waits whose end may free a port. */
const counts = (queue: Queue): number => (kindOf(queue) === CLOSED || kindOf(queue) === UNASSURED ? 1 : 0)

/** The connection is one of its mapping from now on. */
export function joinMapping(row: Row): void {
  if (!isChained(row)) return
  const bound: Row = cold.mapping[row]!
  const first = chains[(bound << SHIFT) + FIRST]!
  siblings[2 * row] = first
  siblings[2 * row + 1] = 0
  if (first !== 0) siblings[2 * first + 1] = row
  chains[(bound << SHIFT) + FIRST] = row
}

/** The connection is about to end, and out of its queue. */
export function leaveMapping(row: Row): void {
  if (!isChained(row)) return
  const next = siblings[2 * row]!
  const previous = siblings[2 * row + 1]!
  if (previous === 0) chains[(cold.mapping[row]! << SHIFT) + FIRST] = next
  else siblings[2 * previous] = next
  if (next !== 0) siblings[2 * next + 1] = previous
}

/** The connection has gone from one queue into another. */
export function followQueue(row: Row, from: Queue, to: Queue): void {
  if (!isChained(row)) return
  const bound: Row = cold.mapping[row]!
  chains[(bound << SHIFT) + QUEUED_AND_CLASS]! += (counts(to) - counts(from)) << QUEUED_SHIFT
  classify(bound)
}

/** The mapping has one connection more or less, or one has changed its queue: it stands where it belongs. */
export function classify(bound: Row): void {
  const is = freeableAs(bound)
  const should = classOf(bound)
  if (is === should) return
  if (is !== PINNED) unlink(bound, is)
  if (should !== PINNED) link(bound, should)
}

function classOf(bound: Row): Freeable {
  const rows = mapping[mappingBase(bound) + MAPPING.rows]!
  if (rows === 0 || chains[(bound << SHIFT) + QUEUED_AND_CLASS]! >> QUEUED_SHIFT !== rows) return PINNED
  if (rows > 1) return SEVERAL
  return kindOf(queueOf(firstConnectionOf(bound))) === CLOSED ? SOLE_CLOSED : SOLE_UNASSURED
}

function link(bound: Row, into: Freeable): void {
  const base = bound << SHIFT
  const at = externalOf(bound) * CLASSES + into
  const last = tails[at]!
  chains[base + QUEUED_AND_CLASS]! |= into
  chains[base + PREVIOUS] = last
  chains[base + NEXT] = 0
  if (last === 0) heads[at] = bound
  else chains[(last << SHIFT) + NEXT] = bound
  tails[at] = bound
}

function unlink(bound: Row, from: Freeable): void {
  const base = bound << SHIFT
  const at = externalOf(bound) * CLASSES + from
  const previous = chains[base + PREVIOUS]!
  const next = chains[base + NEXT]!
  if (previous === 0) heads[at] = next
  else chains[(previous << SHIFT) + NEXT] = next
  if (next === 0) tails[at] = previous
  else chains[(next << SHIFT) + PREVIOUS] = previous
  chains[base + QUEUED_AND_CLASS]! &= ~CLASS_MASK
}

/** The mapping of an external address that has been in a class longest, 0 if there is none. */
export const oldestFreeable = (entry: Entry, of: Freeable): Row => heads[entry * CLASSES + of]!

/** The mapping behind this one in its class, 0 if it is the last. */
export const nextFreeable = (bound: Row): Row => chains[(bound << SHIFT) + NEXT]!

/** The class that a mapping stands in, 0 for none. */
export const freeableAs = (bound: Row): Freeable => chains[(bound << SHIFT) + QUEUED_AND_CLASS]! & CLASS_MASK

/** The mapping goes last in its class. */
export function putLast(bound: Row): void {
  const from = freeableAs(bound)
  unlink(bound, from)
  link(bound, from)
}

/** One of a mapping's connections, of TCP; 0 if it has none. */
export const firstConnectionOf = (bound: Row): Row => chains[(bound << SHIFT) + FIRST]!

/** The external port of a mapping. Also if its entry has another address by now: the words are the entry's. */
export const portIndexOf = (bound: Row): PortIndex =>
  externals.portIndex(externalOf(bound), spaceOf(mappingProtocol(bound)), ntohs(externalPortOf(bound)))

/** A mapping's port may be given to another one as soon as it is freed: nobody else has named it or is there. */
export function comesFree(at: PortIndex): boolean {
  const word = Atomics.load(externals.portWords, at)
  return isOurs(blockOf(at)) && (word & RESERVATIONS) === 0 && !isHostBound(word)
}
