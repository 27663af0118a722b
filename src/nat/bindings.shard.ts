// Binding connections to mappings: how a connection is made, who holds a mapping, and how all of it ends. The one place
// where ports, mappings, permissions and connections meet, so that their order holds everywhere:
//
//   begin   port, mapping, connection, permission          end   connection, permission, mapping, port
//
// Which mapping a connection gets is decided in opening.shard.ts and expected.shard.ts. The translation is the
// difference between the two tuples of the row; its effect on checksums is computed here, once. Owner: the shard.
//
// A function that makes a connection returns its row; 0 if there is none, and refusal.ts says why.

import { baseOf, CONN, EXPECTED, HELPED, isUnasked, SEEN_REPLY } from '../conntrack/connection-table.ts'
import {
  cold,
  confirm,
  connections,
  dstOf,
  findConnection,
  generationOf,
  hot,
  originOf,
  portsWordOf,
  protocolOf,
  remove,
  srcOf,
  stateWordOf,
} from '../conntrack/connections.shard.ts'
import { flowEnd, flowNew } from '../conntrack/events.shard.ts'
import { expectCount } from '../conntrack/expectation-slots.shard.ts'
import { endMaster } from '../conntrack/expectations.shard.ts'
import { hasConnectionsLeft, mayOpenNow, refuseConnection } from '../conntrack/hosts.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import {
  endMapping,
  externalOf,
  hasEnded,
  mapping,
  mappingBase,
  mappingProtocol,
  removeMapping,
} from '../conntrack/mappings.shard.ts'
import { permissions, permit, withdraw } from '../conntrack/permissions.shard.ts'
import { dequeue, enqueue, NO_QUEUE, queueFor, queueOf } from '../conntrack/queues.shard.ts'
import { beginWindows } from '../conntrack/tcp-window.shard.ts'
import type { KeyWord, Side } from '../conntrack/terms.ts'
import { dstPortIn, hashTuple, INSIDE, invertPorts, protocolIn, rowOf, sideIn, srcPortIn } from '../conntrack/terms.ts'
import { firstState, firstTimeout, hasExpired } from '../conntrack/track.shard.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Entry, Row } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import { addDeltas, delta32 } from '../wire/checksum.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { hasPseudoHeader } from '../wire/portless.ts'
import { attachAddresses, externalEntry, followAddresses } from './addresses.shard.ts'
import { followLeases } from './blocks.shard.ts'
import type { Externals } from './externals.ts'
import { fault } from './fault-points.ts'
import { isLiberal } from './filter.shard.ts'
import {
  classify,
  firstConnectionOf,
  followQueue,
  joinMapping,
  leaveMapping,
  portIndexOf,
} from './freeable-mappings.shard.ts'
import { freePort, intendToFree } from './ports.shard.ts'
import { hasRoom, mappingToRecycle, recycledAs, rowToRecycle, rowToRecycleAt } from './recycling.shard.ts'
import { refuse } from './refusal.ts'
import { DEFAULT_NAT, dependsOnPort, type NatSettings } from './settings.ts'

const TABLE_FULL = DROP['table-full']
const NO_MAPPING = DROP['no-mapping']
/** Connections ended for one new port at most, each in the time of the same packet. */
const MOST_RECYCLED = 64
/** What one less in the time-to-live byte adds to the header's checksum, as loaded. */
const TTL_DELTA = 0xfffe

let settings: NatSettings = DEFAULT_NAT
/** The row that the sweep looks at next. */
let sweepAt: Row = 1

export function attachBindings(shared: Externals, wanted: NatSettings): void {
  settings = wanted
  attachAddresses(shared)
  sweepAt = 1
}

/** Follows the coordinator's decisions; connections on an address that was lost end. To be called once a turn. */
export function followExternals(): void {
  // What a dead predecessor knew is not known: its connections are looked at all the same.
  if (followLeases() && followAddresses()) endWhere(isOnLostAddress)
}

/** True if a row's external address is gone, or has come back as another entry with port words of its own. */
function isOnLostAddress(row: Row): boolean {
  const entry = externalEntry(externalEndOf(row))
  const bound: Row = cold.mapping[row]!
  return entry < 0 || (bound !== 0 && externalOf(bound) !== entry)
}

/** The external end of a connection: where the outside sends to. */
function externalEndOf(row: Row): Addr {
  const base = baseOf(row)
  return dstOf(base, originOf(row) === INSIDE ? 1 : 0)
}

/** True if no connection has this tuple; one whose time is over ends here. */
export function isFree(key: KeyWord, src: Addr, dst: Addr, ports: Ports): boolean {
  const ref = findConnection(key, src, dst, ports, hashTuple(key, src, dst, ports))
  if (ref === 0) return true
  if (!hasExpired(rowOf(ref))) return false
  endConnection(rowOf(ref))
  return true
}

/** A connection to be made. */
export interface NewConnection {
  /** Of its first packet: protocol and side, and the tuple that it arrives with. */
  readonly key: KeyWord
  readonly src: Addr
  readonly dst: Addr
  readonly ports: Ports
  /** The tuple that answers arrive with. */
  readonly replySrc: Addr
  readonly replyDst: Addr
  readonly replyPorts: Ports
  /** The mapping that it goes by, 0 for none. */
  readonly mapping: Row
  /** EXPECTED if an expectation has let it in, else 0. */
  readonly flags: number
}

/** The row of the new connection; 0 if there can be none (refusal.ts). */
export function makeConnection(made: NewConnection): Row {
  const { key, src, dst, ports, replySrc, replyDst, replyPorts, flags } = made
  const protocol = protocolIn(key)
  const bound = made.mapping
  const isFromInside = sideIn(key) === INSIDE
  const holder = isFromInside || flags === EXPECTED
  // Held before anything is recycled, or its last connection's end could take the mapping away under our hands.
  if (bound !== 0) holdMapping(bound, holder)
  fault('mapping held')
  if (!makeRoomForRow(isUnasked(key | flags))) {
    if (bound !== 0) releaseMapping(bound, holder)
    return refuse(TABLE_FULL)
  }
  // What was recycled may have been the inside end's last connection: its mapping lets nobody in any more.
  if (bound !== 0 && hasEnded(bound)) {
    releaseMapping(bound, false)
    return refuse(NO_MAPPING)
  }
  const row = connections.begin()
  const base = baseOf(row)
  hot[base + CONN.origSrc] = src
  hot[base + CONN.origDst] = dst
  hot[base + CONN.origPorts] = ports
  hot[base + CONN.replySrc] = replySrc
  hot[base + CONN.replyDst] = replyDst
  hot[base + CONN.replyPorts] = replyPorts
  hot[base + CONN.state] = key | firstState(protocol) | flags
  hot[base + CONN.lastSeen] = now
  hot[base + CONN.timeout] = firstTimeout(protocol, ports)
  hot[base + CONN.packets] = 0
  hot[base + CONN.packetsReply] = 0
  hot[base + CONN.bytes] = 0
  hot[base + CONN.bytesReply] = 0
  // What arrives with one tuple leaves with the inverse of the other.
  const there = addDeltas(delta32(src, replyDst), delta32(dst, replySrc))
  const back = addDeltas(delta32(replySrc, dst), delta32(replyDst, src))
  hot[base + CONN.checksumDelta] = checksumDelta(protocol, there, delta32(ports, invertPorts(replyPorts)))
  hot[base + CONN.checksumDeltaReply] = checksumDelta(protocol, back, delta32(replyPorts, invertPorts(ports)))
  cold.mapping[row] = bound
  cold.permission[row] = 0
  cold.created[row] = now
  cold.packetWraps[row] = 0
  cold.packetWrapsReply[row] = 0
  cold.byteWraps[row] = 0
  cold.byteWrapsReply[row] = 0
  cold.helper[row] = 0
  cold.masterRow[row] = 0
  cold.sequences[row] = 0
  cold.gone[row] = 0
  hot[base + CONN.state]! |= helpBits(row)
  beginWindows(base, isLiberal)
  confirm(row)
  fault('connection without permission')
  if (isFromInside) permitRemote(row)
  fault('connection in no queue')
  joinMapping(row)
  requeue(row)
  fault('connection inserted, not counted')
  counters[CELL.connections + protocolCell(protocol)]! += 1
  counters[CELL.connectionsInserted + protocolCell(protocol)]! += 1
  counters[CELL.permissions] = permissions.used
  // Of one that was expected nat/expected.shard.ts tells, when it knows its master.
  if (flags !== EXPECTED) flowNew(row)
  return row
}

/**
 * What translating adds to the IP header's checksum (low half, TTL included) and the transport's (high half), from what
 * the change of the addresses and of the ports word adds to a sum.
 */
function checksumDelta(protocol: ProtocolNumber, addresses: number, ports: number): number {
  let transport = hasPseudoHeader(protocol) ? addresses : 0
  if (protocol === PROTO_TCP || protocol === PROTO_UDP) transport = addDeltas(addresses, ports)
  // No pseudo header; the type stands in the ports word on both sides and adds nothing.
  else if (protocol === PROTO_ICMP) transport = ports
  return addDeltas(addresses, TTL_DELTA) | (transport << 16)
}

/** The inside end has sent: the remote end may answer. */
export function permitRemote(row: Row): void {
  const bound: Row = cold.mapping[row]!
  if (bound === 0) return
  const base = baseOf(row)
  const opened = originOf(row) === INSIDE
  const remote = opened ? dstOf(base, 0) : srcOf(base, 0)
  const remotePort = opened ? dstPortIn(portsWordOf(base, 0)) : srcPortIn(portsWordOf(base, 0))
  cold.permission[row] = permit(bound, remote, dependsOnPort(settings.filtering) ? remotePort : 0)
}

/** Tracking has noted the first packet in the reply direction: from the inside end, it holds the mapping. */
export function onReplySeen(row: Row): void {
  const bound: Row = cold.mapping[row]!
  if (originOf(row) === INSIDE || bound === 0) return
  fault('reply not answered')
  if (!wasExpected(row)) mapping[mappingBase(bound) + MAPPING.holders]! += 1
  permitRemote(row)
}

/** The connection stands in the queue that its state word asks for: whether, and when, it may be recycled. */
export function requeue(row: Row): void {
  const from = queueOf(row)
  const to = queueFor(stateWordOf(baseOf(row)), cold.mapping[row]!)
  if (from === to) return
  if (to === NO_QUEUE) dequeue(row)
  else enqueue(row, to)
  followQueue(row, from, to)
}

let helpBits: (row: Row) => number = () => 0
let endHelp: (row: Row) => void = () => {}

/**
 * `bits` says which bits of the state word a connection has because a helper should read it. It has them as soon as
 * anybody can find it: if the thread ends before help has begun, its successor must know.
 */
export function onHelpedBegin(bits: (row: Row) => number): void {
  helpBits = bits
}

/** `end` is called with each helped connection that is about to end. */
export function onHelpedEnd(end: (row: Row) => void): void {
  endHelp = end
}

/** Ends a connection and whatever lived by it only. */
export function endConnection(row: Row): void {
  const protocol = protocolOf(row)
  const bound: Row = cold.mapping[row]!
  const permission: Row = cold.permission[row]!
  const holder = holds(row)
  if ((stateWordOf(baseOf(row)) & HELPED) !== 0) endHelp(row)
  // Its helper may have left it before.
  else if (expectCount() > 0) endMaster(row, generationOf(row))
  flowEnd(row)
  const queue = queueOf(row)
  dequeue(row)
  followQueue(row, queue, NO_QUEUE)
  leaveMapping(row)
  fault('connection out of its queue')
  remove(row)
  fault('connection ended, permission left')
  if (permission !== 0) withdraw(permission)
  fault('connection ended, mapping left')
  if (bound !== 0) releaseMapping(bound, holder)
  counters[CELL.connections + protocolCell(protocol)]! -= 1
  counters[CELL.connectionsExpired + protocolCell(protocol)]! += 1
  counters[CELL.permissions] = permissions.used
}

/** True if the inside end has taken part in the connection: it has sent, or announced it. */
export const holds = (row: Row): boolean => hasSent(row) || wasExpected(row)

/** True if the inside end has sent. */
export const hasSent = (row: Row): boolean => originOf(row) === INSIDE || hasReply(row)

const wasExpected = (row: Row): boolean => (stateWordOf(baseOf(row)) & EXPECTED) !== 0

/** True if a packet has passed in the reply direction. */
const hasReply = (row: Row): boolean => (stateWordOf(baseOf(row)) & SEEN_REPLY) !== 0

export function holdMapping(bound: Row, holder: boolean): void {
  const base = mappingBase(bound)
  mapping[base + MAPPING.rows]! += 1
  if (holder) mapping[base + MAPPING.holders]! += 1
  if (mappingProtocol(bound) === PROTO_TCP) classify(bound)
}

function releaseMapping(bound: Row, holder: boolean): void {
  const base = mappingBase(bound)
  const rows = mapping[base + MAPPING.rows]! - 1
  mapping[base + MAPPING.rows] = rows
  if (holder) mapping[base + MAPPING.holders]! -= 1
  fault('mapping released')
  if (mapping[base + MAPPING.holders] === 0) endMapping(bound)
  const protocol = mappingProtocol(bound)
  if (protocol === PROTO_TCP) classify(bound)
  if (rows > 0) return
  const port = portIndexOf(bound)
  intendToFree(port)
  const host = removeMapping(bound)
  fault('mapping gone, port left')
  counters[CELL.mappings + protocolCell(protocol)]! -= 1
  freePort(port, host)
}

/** True if there is a row for a connection, opened unasked from outside or not; recycling may have freed one. */
export const makeRoomForRow = (unasked: boolean): boolean => hasRoom(unasked) || recycle(rowToRecycle(unasked))

/** Frees a TCP port of an address by the end of all connections of a mapping, if there is one without a live one. */
export function recyclePort(entry: Entry): boolean {
  const bound = mappingToRecycle(entry)
  for (let ended = 0; ended < MOST_RECYCLED && bound !== 0; ended++) {
    recycle(firstConnectionOf(bound))
    if (firstConnectionOf(bound) === 0) return true
  }
  return false
}

/**
 * Whether the host may have one connection more, opened from this side: at its limit at the cost of one that outsiders
 * have opened to it unasked, as where the table is full. So a flood at a port forward recycles its own.
 */
export const makeRoomAt = (host: Addr, side: Side): boolean =>
  hasConnectionsLeft(host, side) || recycle(rowToRecycleAt(host)) || refuseConnection(host)

/** Whether the host may open one connection more, now. */
export const mayOpen = (host: Addr): boolean => makeRoomAt(host, INSIDE) && mayOpenNow(host)

function recycle(row: Row): boolean {
  if (row === 0) return false
  counters[CELL.connectionsRecycled + recycledAs(row)]! += 1
  counters[CELL.recycledOrigins + originOf(row)]! += 1
  endConnection(row)
  return true
}

/**
 * Looks at the next `rows` rows of the table and ends what has expired, `ends` of them at most; how many more it might
 * have ended. If none, the next sweep goes on there.
 */
export function sweep(rows: number, ends = Number.POSITIVE_INFINITY): number {
  let left = ends
  for (let i = 0; i < rows && left > 0; i++) {
    if (sweepAt > connections.highest) sweepAt = 1
    if (connections.isLive(sweepAt) && isOver(sweepAt)) {
      left--
      endConnection(sweepAt)
      fault('connection expired')
    }
    sweepAt++
  }
  return left
}

function isOver(row: Row): boolean {
  const bound: Row = cold.mapping[row]!
  // Opened from outside, never answered, and the mapping that let it in is over.
  return hasExpired(row) || (bound !== 0 && hasEnded(bound) && !holds(row))
}

function endWhere(over: (row: Row) => boolean): void {
  for (let row = 1; row <= connections.highest; row++) {
    if (!connections.isLive(row) || !over(row)) continue
    endConnection(row)
    fault('connection of a lost address ended')
  }
}
