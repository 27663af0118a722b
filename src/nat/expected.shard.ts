// Expectations as NAT makes and meets them (nf_nat_helper.c, nf_nat_ftp.c): which external endpoint an inside end's
// announcement becomes, and the connection that comes by it, translated as its master was.
//
// Of an inside end, the announced endpoint gets an external port: the one that it has already, by a mapping or by another
// expectation, else one that is reserved for it, in a block of the shard that owns that endpoint's flows. So the
// expected connection and its answers have one owner, whichever shard announces (ownership/ownership-rule.ts). Of an outside end,
// or where nothing is translated, the announced endpoint stays what it is: the expectation only relates.
//
// When the connection has come, the reservation turns into a mapping. Owner: the shard.

import { CONN, CONN_SHIFT, EXPECTED, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { cold, hot, originOf } from '../conntrack/connections.shard.ts'
import { flowNew } from '../conntrack/events.shard.ts'
import { claim, consume, putBack, reservedFor } from '../conntrack/expectation-matching.shard.ts'
import { expectCount, field, isPermanent } from '../conntrack/expectation-slots.shard.ts'
import { EXPECTATION } from '../conntrack/expectation-table.ts'
import { expect, refuse } from '../conntrack/expectations.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import { findByExternal, findByInside, insertMapping, mapping, mappingBase } from '../conntrack/mappings.shard.ts'
import type { Direction, Side } from '../conntrack/terms.ts'
import { INSIDE, keyWord, OUTSIDE, otherSide } from '../conntrack/terms.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Handle, Row } from '../memory/brand.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import { swap16 } from '../wire/address.ts'
import { externalEntry, isFree, makeConnection, makeRoomForRow } from './bindings.shard.ts'
import { reserveExisting } from './existing-mappings.shard.ts'
import { type Externals, entryOfPort, portOfIndex, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import { openFromInside } from './opening.shard.ts'
import { forwardFrom } from './port-forwards.shard.ts'
import { askFor, takeReserved } from './ports.shard.ts'
import { reserveFor, reserveTaken, unreserveAt } from './reservations.ts'
import { DEFAULT_NAT, dependsOnAddress, type NatSettings } from './settings.ts'

let externals: Externals
let settings: NatSettings = DEFAULT_NAT
/** The shard that owns the flows of an inside endpoint; port as loaded. */
let ownerOf: (protocol: ProtocolNumber, address: Addr, port: number) => number = () => 0

export function attachExpected(shared: Externals, wanted: NatSettings, ownerOfInside: typeof ownerOf): void {
  externals = shared
  settings = wanted
  ownerOf = ownerOfInside
}

/** What a helper announces; addresses and ports as loaded. */
export interface Announce {
  readonly protocol: ProtocolNumber
  readonly port: number
  /** Another address than the sender's own, 0 for that. */
  readonly address: Addr
  readonly fromAnyone: boolean
  /** 0 for any. */
  readonly fromPort: number
  readonly flags: number
  readonly class: number
  readonly helper: number
  readonly childHelper: number
  readonly maxExpected: number
  readonly timeout: number
}

/** The owner of the endpoint has no free port, and will be given some. */
export const WAIT = 0
/** Below the complements of all reasons for which expectations are refused. */
export const NOT_ALLOWED = -4096

/**
 * The sender of packets in `direction` of a connection announces an endpoint. Returns the expectation's handle, above
 * zero: what the peer is to be told are its fields dst and dstPort. WAIT; or why not: NOT_ALLOWED, or the complement of
 * a reason that is counted (counters/expect-refusals.ts).
 */
export function announce(row: Row, direction: Direction, wanted: Announce): number {
  const base = row << CONN_SHIFT
  const own = base + direction * TUPLE_WORDS
  const other = base + (1 - direction) * TUPLE_WORDS
  const sender = hot[own]!
  const seenAs = hot[other + 1]!
  const side = (originOf(row) ^ direction) as Side
  const isThirdParty = wanted.address !== 0 && wanted.address !== sender
  // What is behind the NAT is opened by its owner only.
  if (isThirdParty && side === INSIDE) return NOT_ALLOWED
  const isTranslated = !isThirdParty && sender !== seenAs && side === INSIDE
  const dictated = isTranslated ? forwardFrom(wanted.protocol, sender, swap16(wanted.port)) : undefined
  const reservation = isTranslated && dictated === undefined ? reservationFor(wanted, sender, seenAs) : 0
  if (reservation === PENDING_LEASE) return WAIT
  if (reservation < 0) return refuse('no-port')
  return expect({
    key: keyWord(wanted.protocol, otherSide(side)),
    src: wanted.fromAnyone ? 0 : hot[other]!,
    srcMask: wanted.fromAnyone ? 0 : -1,
    srcPort: wanted.fromPort,
    dst: isThirdParty ? wanted.address : seenAs,
    dstPort: reservation !== 0 ? swap16(portOfIndex(reservation - 1)) : dictated ? swap16(dictated.port) : wanted.port,
    savedAddress: isThirdParty ? wanted.address : sender,
    savedPort: wanted.port,
    flags: wanted.flags,
    helper: wanted.helper,
    childHelper: wanted.childHelper,
    class: wanted.class,
    maxExpected: wanted.maxExpected,
    timeout: wanted.timeout,
    masterRow: row,
    masterGeneration: hot[base + CONN.generation]!,
    direction,
    reservation,
  })
}

const PENDING_LEASE = -1
const NO_PORT = -2

/** Port index + 1 of a port that is now reserved once more for an inside endpoint; PENDING_LEASE, NO_PORT. */
function reservationFor({ protocol, port }: Announce, inside: Addr, external: number): number {
  const entry = externalEntry(external)
  if (entry < 0) return NO_PORT
  const owner = ownerOf(protocol, inside, port)
  const existing = existingPort(owner, protocol, inside, port, entry)
  if (existing >= 0) return existing + 1
  const space = spaceOf(protocol)
  const at = reserveFor(externals, owner, entry, space, swap16(port), settings.preservePorts, settings.parity)
  if (at >= 0) return at + 1
  return askFor(owner, entry, space) ? PENDING_LEASE : NO_PORT
}

/** The port index of the endpoint, if another expectation or a mapping has one: reserved once more; -1 if there is none. */
function existingPort(owner: number, protocol: ProtocolNumber, inside: Addr, port: number, entry: number): number {
  const named = expectCount() > 0 ? reservedFor(protocol, inside, port) : -1
  const isNamedStill = (): boolean => reservedFor(protocol, inside, port) === named
  if (named >= 0 && entryOfPort(named) === entry && reserveTaken(externals, named, isNamedStill)) return named
  return dependsOnAddress(settings.mapping) ? -1 : reserveExisting(owner, protocol, inside, port, entry)
}

/** An expectation for this tuple, claimed; 0 if there is none. */
export const claimFor = (protocol: ProtocolNumber, side: Side, src: Addr, dst: Addr, ports: Ports): number =>
  expectCount() === 0 ? 0 : claim(keyWord(protocol, side), src, dst, ports)

/**
 * The first packet of an expected connection: its row, or the complement of a drop reason. The claim is settled either
 * way.
 */
export function openExpected(
  handle: Handle,
  protocol: ProtocolNumber,
  side: Side,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
): number {
  const row =
    side === INSIDE
      ? openFromInside(protocol, src, dst, ports, tcpState, EXPECTED)
      : openToSaved(handle, protocol, src, dst, ports, tcpState)
  if (row <= 0) {
    putBack(handle)
    return row
  }
  cold.masterShard[row] = field(handle, EXPECTATION.masterShard)
  cold.masterGeneration[row] = field(handle, EXPECTATION.masterGeneration)
  cold.masterRow[row] = field(handle, EXPECTATION.masterRow)
  fault('expectation met, not consumed')
  settle(handle)
  flowNew(row)
  return row
}

/** It has done its work: a permanent one stays, another one's reservation is ours now, and isn't needed any more. */
function settle(handle: Handle): void {
  if (isPermanent(handle)) {
    putBack(handle, true)
    return
  }
  const reservation = field(handle, EXPECTATION.reservation)
  consume(handle)
  if (reservation !== 0) unreserveAt(externals, reservation - 1)
}

function openToSaved(
  handle: Handle,
  protocol: ProtocolNumber,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
): number {
  const inside = field(handle, EXPECTATION.savedAddress)
  const insidePort = field(handle, EXPECTATION.savedPort)
  const answer = insidePort | ((ports & 0xffff) << 16)
  if (!isFree(inside, src, answer, keyWord(protocol, INSIDE))) return ~DROP['no-free-tuple']
  const reservation = field(handle, EXPECTATION.reservation)
  const bound = reservation === 0 ? 0 : mappingFor(reservation - 1, protocol, inside, insidePort, dst)
  if (bound < 0) return bound
  return makeConnection(protocol, OUTSIDE, bound, tcpState, src, dst, ports, inside, src, answer, EXPECTED)
}

/** The mapping of an inside endpoint at the port that was reserved for it, made if need be. */
function mappingFor(at: number, protocol: ProtocolNumber, inside: Addr, insidePort: number, external: number): number {
  const port = swap16(portOfIndex(at))
  const there = findByExternal(protocol, external, port)
  if (there !== 0) {
    const base = mappingBase(there)
    const isItsOwn =
      mapping[base + MAPPING.insideAddress] === inside && (mapping[base + MAPPING.ports]! & 0xffff) === insidePort
    return isItsOwn ? there : ~DROP['no-mapping']
  }
  if (!makeRoomForRow()) return ~DROP['table-full']
  const entry = entryOfPort(at)
  if (!takeReserved(entry, spaceOf(protocol), portOfIndex(at))) return ~DROP['no-mapping']
  fault('port without mapping')
  // The endpoint may have got another mapping since: that one stays what new flows of it find.
  const isSecond = dependsOnAddress(settings.mapping) || findByInside(protocol, inside, insidePort, 0, 0) !== 0
  const bound = insertMapping(protocol, inside, insidePort, 0, 0, external, port, entry, isSecond)
  counters[CELL.mappings + protocolCell(protocol)]! += 1
  return bound
}
