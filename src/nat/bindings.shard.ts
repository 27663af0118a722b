// Binding connections to mappings: how a connection is made, who holds a mapping, and how all of it ends. The one place
// where ports, mappings, permissions and connections meet, so that their order holds everywhere:
//
//   begin   port, mapping, connection, permission          end   connection, permission, mapping, port
//
// Which mapping a connection gets is opening.ts's and expected.ts's. The translation is the difference between the two
// tuples of the row; its effect on checksums is computed here, once. Owner: the shard.
//
// Functions that make a connection return its row (above zero), or the complement (~) of a drop reason.

import { CONN, CONN_SHIFT, EXPECTED, HELPED, SEEN_REPLY, TCP_STATE_SHIFT } from '../conntrack/connection-table.ts'
import {
  cold,
  confirm,
  connections,
  findConnection,
  hot,
  originOf,
  protocolOf,
  remove,
} from '../conntrack/connections.shard.ts'
import { flowEnd, flowNew } from '../conntrack/events.shard.ts'
import { expectCount } from '../conntrack/expectation-slots.shard.ts'
import { endMaster } from '../conntrack/expectations.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import { endMapping, hasEnded, mapping, mappingBase, removeMapping } from '../conntrack/mappings.shard.ts'
import { permissions, permit, withdraw } from '../conntrack/permissions.shard.ts'
import {
  CLOSED_OTHERS,
  closedQueue,
  dequeue,
  enqueue,
  isClosedQueue,
  oldest,
  queueCount,
  UNREPLIED_OTHERS,
  unrepliedQueue,
} from '../conntrack/queues.shard.ts'
import type { KeyWord } from '../conntrack/terms.ts'
import { hashTuple, INSIDE, invertPorts, keyWord, type Side } from '../conntrack/terms.ts'
import { firstTimeout, hasExpired } from '../conntrack/track.shard.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Row } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import { swap16 } from '../wire/address.ts'
import { addDeltas, delta32 } from '../wire/checksum.ts'
import { type Externals, spaceOf, VACANT } from './externals.ts'
import { fault } from './fault-points.ts'
import { followLeases, freePort, intendToFree } from './ports.shard.ts'
import { DEFAULT_NAT, dependsOnPort, type NatSettings } from './settings.ts'

const TCP = 6
const UDP = 17
const ICMP = 1
/** What one less in the time-to-live byte adds to the header's checksum, as loaded. */
const TTL_DELTA = 0xfffe

let externals: Externals
let settings: NatSettings = DEFAULT_NAT
/** Entries in use, and the entry of an address: copies of what the coordinator has decided. */
let active: number[] = []
let entryOf = new Map<number, number>()

export function attachBindings(shared: Externals, wanted: NatSettings): void {
  externals = shared
  settings = wanted
  active = []
  entryOf = new Map()
}

/** Follows the coordinator's decisions; connections on an address that was lost end. To be called once a turn. */
export function followExternals(): void {
  if (!followLeases()) return
  const before = entryOf
  active = Array.from({ length: externals.capacity }, (_, entry) => entry).filter(
    (entry) => externals.kindOf(entry) !== VACANT,
  )
  entryOf = new Map(active.map((entry) => [externals.addressOf(entry), entry]))
  // What a dead predecessor knew is not known: `before` is empty, and its connections are looked at all the same.
  const lost = [...before].some(([address, entry]) => entryOf.get(address) !== entry)
  if (lost || before.size === 0) endWhere(isOnLostAddress)
}

/** Its external address is gone, or has come back as another entry with port words of its own. */
function isOnLostAddress(row: Row): boolean {
  const entry = entryOf.get(externalAddressOf(row))
  const bound = cold.mapping[row]!
  return entry === undefined || (bound !== 0 && mapping[mappingBase(bound) + MAPPING.external] !== entry)
}

/** The entries in use. */
export const activeEntries = (): readonly number[] => active

/** The entry of one of NAT's addresses, -1 for any other. */
export const externalEntry = (address: Addr): number => entryOf.get(address) ?? -1

/** The external end of a connection: where the outside sends to. */
function externalAddressOf(row: Row): number {
  const base = row << CONN_SHIFT
  return originOf(row) === INSIDE ? hot[base + CONN.replyDst]! : hot[base + CONN.origDst]!
}

/** No connection has this tuple; one whose time is over ends here. */
export function isFree(src: Addr, dst: Addr, ports: Ports, key: KeyWord): boolean {
  const ref = findConnection(src, dst, ports, key, hashTuple(src, dst, ports, key))
  if (ref === 0) return true
  if (!hasExpired(ref >> 1)) return false
  endConnection(ref >> 1)
  return true
}

export function makeConnection(
  protocol: ProtocolNumber,
  origin: Side,
  bound: number,
  tcpState: number,
  src: Addr,
  dst: Addr,
  ports: Ports,
  replySrc: number,
  replyDst: number,
  replyPorts: number,
  flags = 0,
): number {
  const holder = origin === INSIDE || flags === EXPECTED
  // Held before anything is recycled, or its last connection's end could take the mapping away under our hands.
  if (bound !== 0) holdMapping(bound, holder)
  fault('mapping held')
  if (connections.full && !recycleRow()) {
    if (bound !== 0) releaseMapping(bound, holder)
    return ~DROP['table-full']
  }
  // What was recycled may have been the inside end's last connection: its mapping lets nobody in any more.
  if (bound !== 0 && hasEnded(bound)) {
    releaseMapping(bound, false)
    return ~DROP['no-mapping']
  }
  const row = connections.begin()
  const base = row << CONN_SHIFT
  hot[base + CONN.origSrc] = src
  hot[base + CONN.origDst] = dst
  hot[base + CONN.origPorts] = ports
  hot[base + CONN.replySrc] = replySrc
  hot[base + CONN.replyDst] = replyDst
  hot[base + CONN.replyPorts] = replyPorts
  hot[base + CONN.state] = keyWord(protocol, origin) | (tcpState << TCP_STATE_SHIFT) | flags
  hot[base + CONN.lastSeen] = now
  hot[base + CONN.timeout] = firstTimeout(protocol, ports)
  hot[base + CONN.packets] = 0
  hot[base + CONN.packetsReply] = 0
  hot[base + CONN.bytes] = 0
  hot[base + CONN.bytesReply] = 0
  hot[base + CONN.checksumDelta] = deltas(protocol, src, dst, ports, replyDst, replySrc, invertPorts(replyPorts))
  hot[base + CONN.checksumDeltaReply] = deltas(protocol, replySrc, replyDst, replyPorts, dst, src, invertPorts(ports))
  cold.mapping[row] = bound
  cold.permission[row] = 0
  cold.queue[row] = 0
  cold.created[row] = now
  cold.packetWraps[row] = 0
  cold.packetWrapsReply[row] = 0
  cold.byteWraps[row] = 0
  cold.byteWrapsReply[row] = 0
  cold.helper[row] = 0
  cold.masterRow[row] = 0
  cold.sequences[row] = 0
  confirm(row)
  fault('connection without permission')
  if (origin === INSIDE) permitRemote(row)
  fault('connection in no queue')
  enqueue(row, unrepliedQueueOf(row))
  fault('connection inserted, not counted')
  counters[CELL.connections + protocolCell(protocol)]! += 1
  counters[CELL.connectionsInserted + protocolCell(protocol)]! += 1
  counters[CELL.permissions] = permissions.used
  // Of one that was expected nat/expected.shard.ts tells, when it knows its master.
  if (flags !== EXPECTED) flowNew(row)
  return row
}

/** What translating adds to the IP header's checksum (low half, TTL included) and the transport's (high half). */
function deltas(
  protocol: ProtocolNumber,
  src: Addr,
  dst: Addr,
  ports: Ports,
  newSrc: number,
  newDst: number,
  newPorts: number,
): number {
  const addresses = addDeltas(delta32(src, newSrc), delta32(dst, newDst))
  let transport = 0
  if (protocol === TCP || protocol === UDP) transport = addDeltas(addresses, delta32(ports, newPorts))
  // No pseudo header; the type stands in the ports word on both sides and adds nothing.
  else if (protocol === ICMP) transport = delta32(ports, newPorts)
  return addDeltas(addresses, TTL_DELTA) | (transport << 16)
}

/** The inside end has sent: the remote end may answer. */
export function permitRemote(row: Row): void {
  const bound = cold.mapping[row]!
  if (bound === 0) return
  const base = row << CONN_SHIFT
  const opened = originOf(row) === INSIDE
  const remote = opened ? hot[base + CONN.origDst]! : hot[base + CONN.origSrc]!
  const remotePort = opened ? hot[base + CONN.origPorts]! >>> 16 : hot[base + CONN.origPorts]! & 0xffff
  cold.permission[row] = permit(bound, remote, dependsOnPort(settings.filtering) ? remotePort : 0)
}

/** Tracking has noted the first packet in the reply direction: from the inside end, it holds the mapping. */
export function onReplySeen(row: Row): void {
  const bound = cold.mapping[row]!
  if (originOf(row) === INSIDE || bound === 0) return
  fault('reply not answered')
  if (!wasExpected(row)) mapping[mappingBase(bound) + MAPPING.holders]! += 1
  permitRemote(row)
}

/** A closed connection may be recycled. */
export function onClosed(row: Row): void {
  if (isClosedQueue(cold.queue[row]!)) return
  enqueue(row, closedQueueOf(row))
}

/** By the address whose port a connection's end frees at once, if there is one. */
export function closedQueueOf(row: Row): number {
  const bound = cold.mapping[row]!
  return bound === 0 ? CLOSED_OTHERS : closedQueue(mapping[mappingBase(bound) + MAPPING.external]!)
}

export function unrepliedQueueOf(row: Row): number {
  const bound = cold.mapping[row]!
  if (bound === 0 || protocolOf(row) !== TCP) return UNREPLIED_OTHERS
  return unrepliedQueue(mapping[mappingBase(bound) + MAPPING.external]!)
}

let endHelp: (row: Row) => void = () => {}

/** `end` is called with each helped connection that is about to end. */
export function onHelpedEnd(end: (row: Row) => void): void {
  endHelp = end
}

/** Ends a connection and whatever lived by it only. */
export function endConnection(row: Row): void {
  const protocol = protocolOf(row)
  const bound = cold.mapping[row]!
  const permission = cold.permission[row]!
  const holder = holds(row)
  if ((hot[(row << CONN_SHIFT) + CONN.state]! & HELPED) !== 0) endHelp(row)
  // Its helper may have left it before.
  else if (expectCount() > 0) endMaster(row, hot[(row << CONN_SHIFT) + CONN.generation]!)
  flowEnd(row)
  dequeue(row)
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

/** The inside end has taken part in the connection: it has sent, or announced it. */
export const holds = (row: Row): boolean => hasSent(row) || wasExpected(row)

/** The inside end has sent. */
export const hasSent = (row: Row): boolean => originOf(row) === INSIDE || hasReply(row)

const wasExpected = (row: Row): boolean => (hot[(row << CONN_SHIFT) + CONN.state]! & EXPECTED) !== 0

/** A packet has passed in the reply direction. */
export const hasReply = (row: Row): boolean => (hot[(row << CONN_SHIFT) + CONN.state]! & SEEN_REPLY) !== 0

export function holdMapping(bound: number, holder: boolean): void {
  const base = mappingBase(bound)
  mapping[base + MAPPING.rows]! += 1
  if (holder) mapping[base + MAPPING.holders]! += 1
}

function releaseMapping(bound: number, holder: boolean): void {
  const base = mappingBase(bound)
  const rows = mapping[base + MAPPING.rows]! - 1
  mapping[base + MAPPING.rows] = rows
  if (holder) mapping[base + MAPPING.holders]! -= 1
  fault('mapping released')
  if (mapping[base + MAPPING.holders] === 0) endMapping(bound)
  if (rows > 0) return
  const protocol = mapping[base + MAPPING.flags]! & 0xff
  const entry = mapping[base + MAPPING.external]!
  const port = swap16(mapping[base + MAPPING.ports]! >>> 16)
  intendToFree(entry, spaceOf(protocol), port)
  removeMapping(bound)
  fault('mapping gone, port left')
  counters[CELL.mappings + protocolCell(protocol)]! -= 1
  // Also if the entry has another address by now: the words are the entry's.
  freePort(entry, spaceOf(protocol), port)
}

const RECYCLABLE = [
  [closedQueue, CLOSED_OTHERS],
  [unrepliedQueue, UNREPLIED_OTHERS],
] as const

/** There is a free row for a connection, or has become one. */
export const makeRoomForRow = (): boolean => !connections.full || recycleRow()

/** Makes room in the table: the oldest closed connection goes, else the oldest that nobody has answered. */
function recycleRow(): boolean {
  for (const [kind, others] of RECYCLABLE) {
    for (const entry of active) if (recycle(oldest(kind(entry)))) return true
    if (recycle(oldest(others))) return true
  }
  return false
}

/** Frees a TCP port of an address in the same order. */
export const recyclePort = (entry: number): boolean =>
  recycle(oldest(closedQueue(entry))) || recycle(oldest(unrepliedQueue(entry)))

function recycle(row: Row): boolean {
  if (row === 0) return false
  counters[CELL.connectionsRecycled + (isClosedQueue(cold.queue[row]!) ? 0 : 1)]! += 1
  endConnection(row)
  return true
}

let sweepAt = 1

/** Looks at the next `rows` rows of the table and ends what has expired. */
export function sweep(rows: number): void {
  for (let i = 0; i < rows; i++) {
    if (sweepAt > connections.highest) sweepAt = 1
    if (connections.isLive(sweepAt) && isOver(sweepAt)) {
      endConnection(sweepAt)
      fault('connection expired')
    }
    sweepAt++
  }
}

function isOver(row: Row): boolean {
  const bound = cold.mapping[row]!
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

/** How many queues the tables of this many addresses need. */
export const queuesFor = (addresses: number): number => queueCount(addresses)
