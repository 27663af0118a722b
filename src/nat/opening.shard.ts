// The first packet of a connection, from either side: which mapping it goes by (nf_nat_core.c: get_unique_tuple).
//
// One opened from inside gets the mapping of its inside endpoint, or a new one on the external address that belongs to
// its inside address (paired pooling, RFC 4787 REQ-2). One from outside needs a mapping and passes its filter. Where a
// forward dictates the external endpoint, neither mapping nor port is needed from either side. What was expected goes
// before all of this (expected.shard.ts). Owner: the shard.
//
// Functions that make a connection return its row (above zero), or the complement (~) of a drop reason.

import { reservedFor } from '../conntrack/expectation-matching.shard.ts'
import { expectCount } from '../conntrack/expectation-slots.shard.ts'
import { MAPPING } from '../conntrack/mapping-table.ts'
import { findByExternal, findByInside, insertMapping, mapping, mappingBase } from '../conntrack/mappings.shard.ts'
import { findPermission } from '../conntrack/permissions.shard.ts'
import { INSIDE, invertPorts, keyWord, OUTSIDE, otherSide, type Side } from '../conntrack/terms.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import { hash4 } from '../memory/siphash.ts'
import type { Addr, Ports, ProtocolNumber } from '../wire/address.ts'
import { swap16 } from '../wire/address.ts'
import { activeEntries, externalEntry, isFree, makeConnection, makeRoomForRow, recyclePort } from './bindings.shard.ts'
import { type Externals, entryOfPort, portOfIndex, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import type { PortForward } from './port-forward-rules.ts'
import { forwardFrom, forwardTo } from './port-forwards.shard.ts'
import { isLeasePending, takePort, takeReserved } from './ports.shard.ts'
import { DEFAULT_NAT, dependsOnAddress, dependsOnPort, type NatSettings } from './settings.ts'

const TCP = 6
const UDP = 17
const ICMP = 1
/** Keeps the pairing of inside and external addresses apart from other uses of the hash. */
const PAIRING = 0x500
/** Closed or unreplied connections ended for one new port before giving up: their mapping may serve others still. */
const RECYCLE_TRIES = 8

let externals: Externals
let settings: NatSettings = DEFAULT_NAT

export function attachOpening(shared: Externals, wanted: NatSettings): void {
  externals = shared
  settings = wanted
}

/** False: connections are tracked only. */
export const translates = (): boolean => settings.translate

export const hasTransportPorts = (protocol: ProtocolNumber): boolean =>
  protocol === TCP || protocol === UDP || protocol === ICMP

/** The first packet of a connection from inside; ports word as conntrack/terms.ts has it, or 0; flags of the state word. */
export function openFromInside(
  protocol: ProtocolNumber,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
  flags = 0,
): number {
  if (!settings.translate) return openUntranslated(protocol, INSIDE, src, dst, ports, tcpState, flags)
  if (!hasTransportPorts(protocol)) return openWithoutPorts(protocol, src, dst)
  const insidePort = ports & 0xffff
  const remotePort = ports >>> 16
  const dictated = forwardFrom(protocol, src, swap16(insidePort))
  if (dictated !== undefined) return openDictated(dictated, src, dst, ports, tcpState, flags)
  const remoteKey = dependsOnAddress(settings.mapping) ? dst : 0
  const remotePortKey = dependsOnPort(settings.mapping) ? remotePort : 0
  let bound = findByInside(protocol, src, insidePort, remoteKey, remotePortKey)
  if (bound === 0) {
    bound = makeMapping(protocol, src, insidePort, remoteKey, remotePortKey)
    if (bound < 0) return bound
  }
  const base = mappingBase(bound)
  const externalPort = mapping[base + MAPPING.ports]! >>> 16
  const external = mapping[base + MAPPING.externalAddress]!
  return makeConnection(
    protocol,
    INSIDE,
    bound,
    tcpState,
    src,
    dst,
    ports,
    dst,
    external,
    remotePort | (externalPort << 16),
    flags,
  )
}

/** A flow that a forward's inside endpoint opens itself leaves by the forward's external endpoint. */
function openDictated(
  dictated: PortForward,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
  flags: number,
): number {
  const { protocol, port } = dictated
  const entry = dictated.address === null ? pairedEntry(src) : externalEntry(dictated.address)
  if (entry < 0) return ~DROP['no-external-address']
  const external = externals.addressOf(entry)
  const answer = (ports >>> 16) | (swap16(port) << 16)
  if (!isFree(dst, external, answer, keyWord(protocol, OUTSIDE))) return ~DROP['no-free-tuple']
  return makeConnection(protocol, INSIDE, 0, tcpState, src, dst, ports, dst, external, answer, flags)
}

/** The first packet from outside to an external endpoint. */
export function openFromOutside(
  protocol: ProtocolNumber,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
): number {
  if (!settings.translate) return openUntranslated(protocol, OUTSIDE, src, dst, ports, tcpState, 0)
  const dictated = forwardTo(protocol, dst, swap16(ports >>> 16))
  if (dictated !== undefined) return openForwarded(dictated, src, dst, ports, tcpState)
  const bound = hasTransportPorts(protocol) ? findByExternal(protocol, dst, ports >>> 16) : 0
  if (bound === 0) return ~DROP['no-mapping']
  if (!mayEnter(bound, src, ports & 0xffff)) return ~DROP.filtered
  const base = mappingBase(bound)
  const inside = mapping[base + MAPPING.insideAddress]!
  const insidePort = mapping[base + MAPPING.ports]! & 0xffff
  const answer = insidePort | ((ports & 0xffff) << 16)
  // Where mapping depends on the remote endpoint, the inside end may talk to this one by another mapping.
  if (!isFree(inside, src, answer, keyWord(protocol, INSIDE))) return ~DROP['no-free-tuple']
  return makeConnection(protocol, OUTSIDE, bound, tcpState, src, dst, ports, inside, src, answer)
}

/** Whoever sends to a forwarded endpoint gets to the server: a forward asks for no mapping and no permission. */
function openForwarded(dictated: PortForward, src: Addr, dst: Addr, ports: Ports, tcpState: number): number {
  const { protocol, toAddress, toPort } = dictated
  const answer = swap16(toPort) | ((ports & 0xffff) << 16)
  // The server may have opened it itself, or be reached by another forward.
  if (!isFree(toAddress, src, answer, keyWord(protocol, INSIDE))) return ~DROP['no-free-tuple']
  return makeConnection(protocol, OUTSIDE, 0, tcpState, src, dst, ports, toAddress, src, answer)
}

/** The answer is the tuple turned round, whoever has begun. */
function openUntranslated(
  protocol: ProtocolNumber,
  origin: Side,
  src: Addr,
  dst: Addr,
  ports: Ports,
  tcpState: number,
  flags: number,
): number {
  const answer = invertPorts(ports)
  if (!isFree(dst, src, answer, keyWord(protocol, otherSide(origin)))) return ~DROP['no-free-tuple']
  return makeConnection(protocol, origin, 0, tcpState, src, dst, ports, dst, src, answer, flags)
}

function mayEnter(bound: number, remote: Addr, remotePort: number): boolean {
  if (!dependsOnAddress(settings.filtering)) return true
  return findPermission(bound, remote, dependsOnPort(settings.filtering) ? remotePort : 0) !== 0
}

/** GRE, ESP and the like: there is nothing to tell two inside hosts apart by, so the first has the remote address. */
function openWithoutPorts(protocol: ProtocolNumber, src: Addr, dst: Addr): number {
  if (!settings.protocols.includes(protocol)) return ~DROP['protocol-not-translated']
  const entry = pairedEntry(src)
  if (entry < 0) return ~DROP['no-external-address']
  const external = externals.addressOf(entry)
  if (!isFree(dst, external, 0, keyWord(protocol, OUTSIDE))) return ~DROP['no-free-tuple']
  return makeConnection(protocol, INSIDE, 0, 0, src, dst, 0, dst, external, 0)
}

function makeMapping(protocol: ProtocolNumber, src: Addr, port: number, remote: Addr, remotePort: number): number {
  const entry = pairedEntry(src)
  if (entry < 0) return ~DROP['no-external-address']
  const space = spaceOf(protocol)
  // A mapping lives by its connections: no free row for one, no use of a port for the other.
  if (!makeRoomForRow()) return ~DROP['table-full']
  const wanted = swap16(port)
  let taken = takeNamed(protocol, src, port, entry)
  if (taken < 0) taken = takePort(entry, space, wanted, settings.preservePorts, settings.parity)
  for (let tries = 0; taken < 0 && tries < RECYCLE_TRIES && protocol === TCP && recyclePort(entry); tries++)
    taken = takePort(entry, space, wanted, settings.preservePorts, settings.parity)
  if (taken < 0) return ~(isLeasePending(entry, space) ? DROP['port-lease-pending'] : DROP['no-port'])
  fault('port without mapping')
  const bound = insertMapping(protocol, src, port, remote, remotePort, externals.addressOf(entry), swap16(taken), entry)
  fault('mapping without connection')
  counters[CELL.mappings + protocolCell(protocol)]! += 1
  return bound
}

/** The port that an expectation has announced for this inside endpoint, which sends before anybody has come; else -1. */
function takeNamed(protocol: ProtocolNumber, src: Addr, port: number, entry: number): number {
  if (expectCount() === 0) return -1
  const at = reservedFor(protocol, src, port)
  if (at < 0 || entryOfPort(at) !== entry) return -1
  return takeReserved(entry, spaceOf(protocol), portOfIndex(at)) ? portOfIndex(at) : -1
}

/** The external address of an inside address: rendezvous hashing, so that a change of the pool moves few of them. */
function pairedEntry(inside: Addr): number {
  let best = -1
  let bestWeight = -1
  for (const entry of activeEntries()) {
    const weight = hash4(inside, externals.addressOf(entry), 0, PAIRING) >>> 0
    if (weight > bestWeight) {
      bestWeight = weight
      best = entry
    }
  }
  return best
}
