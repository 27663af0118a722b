// Who goes when there is no room: which connection gives its row to a new one, which TCP mapping its external port.
// Only the choice is made here; bindings.shard.ts ends what was chosen. Authority: RFC 6888 REQ-11 (what is in use
// stays), nf_conntrack_core.c (early_drop: what is not assured goes).
//
//   1. a closed connection                                the oldest
//   2. what is opened unasked from outside, as long as there is more than its share
//        that is not assured                              the oldest
//        renewable                                        a silent one if there is one near
//   3. not assured, whoever opened it, or half-closed and long silent
//                                                         the oldest
//   4. renewable                                          as above
// By the second rule a flood from outside recycles its own rows: of the inside's handshakes none goes for it, however
// old they are. As long as those from outside are few, age decides, so that in a full table without any flood a
// handshake of either side is not what goes first. What is renewable loses nothing but its counts, and whoever sends
// twice in another's name can have as much of it as he likes: so it is not spared as other connections in use are.
//
// Anybody outside may open, with as many sources as he likes, and the inside may answer him: what is opened unasked
// from outside has at most MOST_FROM_OUTSIDE of the rows. The rest is the inside's. Beyond that, and then only at the
// cost of another one from outside, a newcomer is let in. Ports need no such reserve: nothing that is opened from
// outside takes one.
//
// Each choice is O(1) in connections, mappings and addresses. Owner: the shard.

import { baseOf, CONN, SEEN_REPLY } from '../conntrack/connection-table.ts'
import { cold, connections, hot, insideHostOf, openedUnasked } from '../conntrack/connections.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import { mapping, mappingBase } from '../conntrack/mappings.shard.ts'
import {
  CLOSED,
  enqueue,
  FROM_OUTSIDE,
  HALF_CLOSED,
  kindOf,
  lengthOf,
  nextInQueue,
  oldest,
  type Queue,
  queueOf,
  RENEWABLE,
  UNASSURED,
} from '../conntrack/queues.shard.ts'
import type { Entry, Row, Seconds } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Addr } from '../wire/address.ts'
import {
  comesFree,
  type Freeable,
  oldestFreeable,
  portIndexOf,
  putLast,
  SEVERAL,
  SOLE_CLOSED,
  SOLE_UNASSURED,
} from './freeable-mappings.shard.ts'

/** One row in so many is the inside's, whatever comes from outside. */
const RESERVED_ONE_IN = 8
/** One row in so many may be from outside and unassured, or renewable, before age no longer decides. */
const SHARE_ONE_IN = 8
/** Seconds in which a handshake may be under way, lost segments included. */
const YOUNG_UNTIL: Seconds = 10
/** So many times what the other side has. */
const FAR_MORE = 4
/** Without a packet for so long, a half-closed connection may be ended, and a renewable one goes before others. */
const SILENT_AFTER: Seconds = 60
/** How many of them are looked at, each time: who is not silent is put last. */
const SILENT_LOOKS = 2
/** Mappings of a class, or connections of a host, looked at before giving up: mappings that may not go are put last. */
const LOOKS = 8

const { lastSeen: LAST_SEEN } = CONN

/** Rows that connections opened unasked from outside may have. */
const mostFromOutside = connections.capacity - Math.floor(connections.capacity / RESERVED_ONE_IN)
const shareOfOutside = Math.floor(connections.capacity / SHARE_ONE_IN)

/** Which of the states of the metric connections_recycled a connection is counted as. */
export function recycledAs(row: Row): number {
  const kind = kindOf(queueOf(row))
  if (kind === CLOSED) return 0
  if (kind === UNASSURED) return (hot[baseOf(row) + CONN.state]! & SEEN_REPLY) === 0 ? 1 : 2
  return kind === HALF_CLOSED ? 3 : 4
}

/** True if another connection may begin, opened unasked from outside or not, without one being ended. */
export const hasRoom = (unasked: boolean): boolean =>
  !connections.full && !(unasked && openedUnasked >= mostFromOutside)

/** The row that is to go for a new connection, opened unasked from outside or not; 0 if none may. */
export function rowToRecycle(unasked: boolean): Row {
  if (unasked && openedUnasked >= mostFromOutside) return oneFromOutside()
  return oldestClosed() || beyondItsShare() || oldestOfTheRest() || anyIn(RENEWABLE + FROM_OUTSIDE)
}

const oneFromOutside = (): Row =>
  oldest(CLOSED + FROM_OUTSIDE) ||
  oldest(UNASSURED + FROM_OUTSIDE) ||
  silentIn(HALF_CLOSED + FROM_OUTSIDE) ||
  anyIn(RENEWABLE + FROM_OUTSIDE)

/**
 * The row that is to go for another connection to the same host, at whose limit outsiders are; 0 if there is none among
 * the oldest. Where one host is flooded they are nearly all its own, and where several are, one in few.
 */
export const rowToRecycleAt = (host: Addr): Row =>
  oldestAt(host, CLOSED + FROM_OUTSIDE) ||
  oldestAt(host, UNASSURED + FROM_OUTSIDE) ||
  oldestAt(host, RENEWABLE + FROM_OUTSIDE)

function oldestAt(host: Addr, queue: Queue): Row {
  let row = oldest(queue)
  for (let looks = 0; looks < LOOKS && row !== 0; looks++) {
    if (insideHostOf(row) === host) return row
    row = nextInQueue(row)
  }
  return 0
}

function oldestClosed(): Row {
  const fromInside = oldest(CLOSED)
  const fromOutside = oldest(CLOSED + FROM_OUTSIDE)
  if (fromInside === 0 || fromOutside === 0) return fromInside || fromOutside
  return lastSeenOf(fromInside) < lastSeenOf(fromOutside) ? fromInside : fromOutside
}

/** Of what is opened unasked from outside, while there is too much of it. */
function beyondItsShare(): Row {
  if (lengthOf(UNASSURED + FROM_OUTSIDE) > shareOfOutside) return oldest(UNASSURED + FROM_OUTSIDE)
  return lengthOf(RENEWABLE + FROM_OUTSIDE) > shareOfOutside ? anyIn(RENEWABLE + FROM_OUTSIDE) : 0
}

function oldestOfTheRest(): Row {
  const unassured = oldestUnassured()
  const silent = silentIn(HALF_CLOSED + FROM_OUTSIDE) || silentIn(HALF_CLOSED)
  if (unassured === 0 || silent === 0) return unassured || silent
  return lastSeenOf(silent) < cold.created[unassured]! ? silent : unassured
}

/**
 * The older one of both sides' oldest. If even that is young, none has been given the time for its handshake: then a
 * side that has far more of them makes room, so that its flood doesn't cost the other side its handshakes.
 */
function oldestUnassured(): Row {
  const fromInside = oldest(UNASSURED)
  const fromOutside = oldest(UNASSURED + FROM_OUTSIDE)
  if (fromInside === 0 || fromOutside === 0) return fromInside || fromOutside
  const older = cold.created[fromInside]! < cold.created[fromOutside]! ? fromInside : fromOutside
  if (now - cold.created[older]! >= YOUNG_UNTIL) return older
  const inside = lengthOf(UNASSURED)
  const outside = lengthOf(UNASSURED + FROM_OUTSIDE)
  if (outside > FAR_MORE * inside) return fromOutside
  return inside > FAR_MORE * outside ? fromInside : older
}

/** One that is still in use keeps its row: the queue is in the order of closing, not of packets. */
function silentIn(queue: Queue): Row {
  for (let looks = 0; looks < SILENT_LOOKS; looks++) {
    const row = oldest(queue)
    if (row === 0 || now - lastSeenOf(row) >= SILENT_AFTER) return row
    enqueue(row, queue)
  }
  return 0
}

const anyIn = (queue: Queue): Row => silentIn(queue) || oldest(queue)

const lastSeenOf = (row: Row): Seconds => hot[baseOf(row) + LAST_SEEN]!

// --- ports ---

/**
 * The TCP mapping of an external address that is to go for another one, with all of its connections; 0 if there is
 * none. One that has several is chosen if no other is left, and may need more than one try: it is put last.
 */
export function mappingToRecycle(entry: Entry): Row {
  const sole = freeableIn(entry, SOLE_CLOSED) || freeableIn(entry, SOLE_UNASSURED)
  if (sole !== 0) return sole
  let best: Row = 0
  for (let looks = 0; looks < LOOKS; looks++) {
    const bound = freeableIn(entry, SEVERAL)
    if (bound === 0) break
    if (best === 0 || connectionsOf(bound) < connectionsOf(best)) best = bound
    putLast(bound)
  }
  return best
}

/** The oldest of a class whose port is free as soon as it is given back. */
function freeableIn(entry: Entry, of: Freeable): Row {
  for (let looks = 0; looks < LOOKS; looks++) {
    const bound = oldestFreeable(entry, of)
    if (bound === 0 || comesFree(portIndexOf(bound))) return bound
    putLast(bound)
  }
  return 0
}

const connectionsOf = (bound: Row): number => mapping[mappingBase(bound) + MAPPING.rows]!
