// The first packet of a connection, from either side: which mapping it goes by (nf_nat_core.c: get_unique_tuple).
//
// One opened from inside gets the mapping of its inside endpoint, or a new one on the external address that belongs to
// its inside address (paired pooling, RFC 4787 REQ-2). One from outside needs a mapping and passes its filter. Where a
// port forward dictates the external endpoint, neither mapping nor port is needed from either side. What was expected
// goes before all of this (expected.shard.ts). In each case the configuration's filter is asked as soon as both
// endpoints are known, and before anything is taken (filter.shard.ts), and then what the inside host may still have
// (conntrack/hosts.shard.ts). Owner: the shard.
//
// A function that opens a connection returns its row; 0 if there is none, and refusal.ts says why.

import { reservedFor } from '../conntrack/expectation-matching.shard.ts'
import { expectCount } from '../conntrack/expectation-slots.shard.ts'
import { mayTakePort } from '../conntrack/hosts.shard.ts'
import {
  externalAddressOf,
  externalPortOf,
  findByExternal,
  findByInside,
  insertMapping,
  insideAddressOf,
  insidePortOf,
  mappings,
} from '../conntrack/mappings.shard.ts'
import { findPermission } from '../conntrack/permissions.shard.ts'
import {
  destinationPort,
  dstPortIn,
  INSIDE,
  invertPorts,
  type KeyWord,
  keyWord,
  OUTSIDE,
  otherSide,
  portsOf,
  protocolIn,
  sideIn,
  srcPortIn,
} from '../conntrack/terms.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Entry, Row } from '../memory/brand.ts'
import type { Addr, Port, PortHost, Ports, ProtocolNumber } from '../wire/address.ts'
import { htons, ntohs } from '../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { externalEntry, pairedEntry } from './addresses.shard.ts'
import { isFree, makeConnection, makeRoomAt, makeRoomForRow, mayOpen, recyclePort } from './bindings.shard.ts'
import { isLeasePending } from './block-requests.shard.ts'
import { type Externals, entryOfPort, portOfIndex, type Space, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import { isDenied } from './filter.shard.ts'
import type { PortForward } from './port-forward-rules.ts'
import { forwardFrom, forwardTo } from './port-forwards.shard.ts'
import { takePort, takeReserved } from './ports.shard.ts'
import { refuse } from './refusal.ts'
import { DEFAULT_NAT, dependsOnAddress, dependsOnPort, type NatSettings } from './settings.ts'

const DENIED = DROP['filter-denied']
const FILTERED = DROP.filtered
const HOST_LIMIT = DROP['host-limit']
const LEASE_PENDING = DROP['port-lease-pending']
const NO_EXTERNAL_ADDRESS = DROP['no-external-address']
const NO_FREE_TUPLE = DROP['no-free-tuple']
const NO_MAPPING = DROP['no-mapping']
const NO_PORT = DROP['no-port']
const NOT_TRANSLATED = DROP['protocol-not-translated']
const TABLE_FULL = DROP['table-full']
/** Ports recycled for one new mapping before giving up: another shard's reservation may take each that is freed. */
const RECYCLE_TRIES = 8

let externals: Externals
let settings: NatSettings = DEFAULT_NAT

export function attachOpening(shared: Externals, wanted: NatSettings): void {
  externals = shared
  settings = wanted
}

/** False if connections are only tracked, and not translated. */
export const translates = (): boolean => settings.translate

export const hasTransportPorts = (protocol: ProtocolNumber): boolean =>
  protocol === PROTO_TCP || protocol === PROTO_UDP || protocol === PROTO_ICMP

/** The first packet of a connection from inside; `flags`: EXPECTED if it was expected, else 0. */
export function openFromInside(key: KeyWord, src: Addr, dst: Addr, ports: Ports, flags = 0): Row {
  const protocol = protocolIn(key)
  if (isDenied(key, flags, src, dst, dstPortIn(ports))) return refuse(DENIED)
  if (!mayOpen(src)) return refuse(HOST_LIMIT)
  if (!settings.translate) return openUntranslated(key, src, dst, ports, flags)
  if (!hasTransportPorts(protocol)) return openWithoutPorts(key, src, dst)
  const insidePort = srcPortIn(ports)
  const remotePort = dstPortIn(ports)
  const dictated = forwardFrom(protocol, src, ntohs(insidePort))
  if (dictated !== undefined) return openDictated(dictated, src, dst, ports, flags)
  const remoteKey = dependsOnAddress(settings.mapping) ? dst : 0
  const remotePortKey = dependsOnPort(settings.mapping) ? remotePort : 0
  let bound = findByInside(protocol, src, insidePort, remoteKey, remotePortKey)
  if (bound === 0) {
    bound = makeMapping(protocol, src, insidePort, remoteKey, remotePortKey)
    if (bound === 0) return 0
  }
  return makeConnection({
    key,
    src,
    dst,
    ports,
    replySrc: dst,
    replyDst: externalAddressOf(bound),
    replyPorts: portsOf(remotePort, externalPortOf(bound)),
    mapping: bound,
    flags,
  })
}

/** A flow that a port forward's inside endpoint opens itself leaves by the forwarded external endpoint. */
function openDictated(dictated: PortForward, src: Addr, dst: Addr, ports: Ports, flags: number): Row {
  const { protocol, port } = dictated
  const entry = dictated.address === null ? pairedEntry(src) : externalEntry(dictated.address)
  if (entry < 0) return refuse(NO_EXTERNAL_ADDRESS)
  const external = externals.addressOf(entry)
  const answer = portsOf(dstPortIn(ports), htons(port))
  if (!isFree(keyWord(protocol, OUTSIDE), dst, external, answer)) return refuse(NO_FREE_TUPLE)
  const key = keyWord(protocol, INSIDE)
  return makeConnection({
    key,
    src,
    dst,
    ports,
    replySrc: dst,
    replyDst: external,
    replyPorts: answer,
    mapping: 0,
    flags,
  })
}

/** The first packet from outside to an external endpoint. */
export function openFromOutside(key: KeyWord, src: Addr, dst: Addr, ports: Ports): Row {
  if (!settings.translate) {
    if (isDenied(key, 0, dst, src, dstPortIn(ports))) return refuse(DENIED)
    if (!makeRoomAt(dst, OUTSIDE)) return refuse(HOST_LIMIT)
    return openUntranslated(key, src, dst, ports, 0)
  }
  const protocol = protocolIn(key)
  const dictated = forwardTo(protocol, dst, destinationPort(ports))
  if (dictated !== undefined) return openForwarded(dictated, key, src, dst, ports)
  const bound = hasTransportPorts(protocol) ? findByExternal(protocol, dst, dstPortIn(ports)) : 0
  if (bound === 0) return refuse(NO_MAPPING)
  if (!mayEnter(bound, src, srcPortIn(ports))) return refuse(FILTERED)
  const inside = insideAddressOf(bound)
  if (isDenied(key, 0, inside, src, insidePortOf(bound))) return refuse(DENIED)
  if (!makeRoomAt(inside, OUTSIDE)) return refuse(HOST_LIMIT)
  // What was recycled may have been what held the mapping.
  if (findByExternal(protocol, dst, dstPortIn(ports)) !== bound) return refuse(NO_MAPPING)
  const answer = portsOf(insidePortOf(bound), srcPortIn(ports))
  // Where mapping depends on the remote endpoint, the inside end may have a connection with it by another mapping.
  if (!isFree(keyWord(protocol, INSIDE), inside, src, answer)) return refuse(NO_FREE_TUPLE)
  return makeConnection({
    key,
    src,
    dst,
    ports,
    replySrc: inside,
    replyDst: src,
    replyPorts: answer,
    mapping: bound,
    flags: 0,
  })
}

/**
 * What is sent to a forwarded endpoint gets to the server, whoever sends it, unless the configuration's filter denies
 * it: no mapping and no permission is asked for.
 */
function openForwarded(dictated: PortForward, key: KeyWord, src: Addr, dst: Addr, ports: Ports): Row {
  const { protocol, toAddress, toPort } = dictated
  if (isDenied(key, 0, toAddress, src, htons(toPort))) return refuse(DENIED)
  if (!makeRoomAt(toAddress, OUTSIDE)) return refuse(HOST_LIMIT)
  const answer = portsOf(htons(toPort), srcPortIn(ports))
  // The server may have opened it itself, or be reached by another port forward.
  if (!isFree(keyWord(protocol, INSIDE), toAddress, src, answer)) return refuse(NO_FREE_TUPLE)
  return makeConnection({
    key,
    src,
    dst,
    ports,
    replySrc: toAddress,
    replyDst: src,
    replyPorts: answer,
    mapping: 0,
    flags: 0,
  })
}

/** Nothing is translated: the answer is the tuple turned round, from whichever side the connection is opened. */
function openUntranslated(key: KeyWord, src: Addr, dst: Addr, ports: Ports, flags: number): Row {
  const answer = invertPorts(ports)
  if (!isFree(keyWord(protocolIn(key), otherSide(sideIn(key))), dst, src, answer)) return refuse(NO_FREE_TUPLE)
  return makeConnection({ key, src, dst, ports, replySrc: dst, replyDst: src, replyPorts: answer, mapping: 0, flags })
}

function mayEnter(bound: Row, remote: Addr, remotePort: Port): boolean {
  if (!dependsOnAddress(settings.filtering)) return true
  return findPermission(bound, remote, dependsOnPort(settings.filtering) ? remotePort : 0) !== 0
}

/** GRE, ESP and the like: there is nothing to tell two inside hosts apart by, so the first has the remote address. */
function openWithoutPorts(key: KeyWord, src: Addr, dst: Addr): Row {
  const protocol = protocolIn(key)
  if (!settings.protocols.includes(protocol)) return refuse(NOT_TRANSLATED)
  const entry = pairedEntry(src)
  if (entry < 0) return refuse(NO_EXTERNAL_ADDRESS)
  const external = externals.addressOf(entry)
  if (!isFree(keyWord(protocol, OUTSIDE), dst, external, 0)) return refuse(NO_FREE_TUPLE)
  return makeConnection({
    key,
    src,
    dst,
    ports: 0,
    replySrc: dst,
    replyDst: external,
    replyPorts: 0,
    mapping: 0,
    flags: 0,
  })
}

/** The row of the new mapping of an inside endpoint; 0 if there can be none (refusal.ts). */
function makeMapping(protocol: ProtocolNumber, src: Addr, port: Port, remote: Addr, remotePort: Port): Row {
  const entry = pairedEntry(src)
  if (entry < 0) return refuse(NO_EXTERNAL_ADDRESS)
  if (!mayTakePort(src)) return refuse(HOST_LIMIT)
  const space = spaceOf(protocol)
  // A mapping lives by its connections: without a free row for a connection, a port would be of no use.
  if (!makeRoomForRow(false)) return refuse(TABLE_FULL)
  const wanted = ntohs(port)
  let taken = mappings.full ? -1 : takeNamed(protocol, src, port, entry)
  if (taken < 0) taken = takeUnnamed(entry, space, wanted)
  for (let tries = 0; taken < 0 && tries < RECYCLE_TRIES && protocol === PROTO_TCP && recyclePort(entry); tries++)
    taken = takeUnnamed(entry, space, wanted)
  if (taken < 0) return refuse(!mappings.full && isLeasePending(entry, space) ? LEASE_PENDING : NO_PORT)
  fault('port without mapping')
  const bound = insertMapping({
    protocol,
    insideAddress: src,
    insidePort: port,
    remoteAddress: remote,
    remotePort,
    externalAddress: externals.addressOf(entry),
    externalPort: htons(taken),
    external: entry,
    isSecond: false,
  })
  fault('mapping without connection')
  counters[CELL.mappings + protocolCell(protocol)]! += 1
  return bound
}

/** A port for a mapping, -1 if there is none: one without a row for its mapping would be of no use. */
const takeUnnamed = (entry: Entry, space: Space, wanted: PortHost): PortHost =>
  mappings.full ? -1 : takePort(entry, space, wanted, settings)

/**
 * The port that an expectation has announced for this inside endpoint, which sends before anybody has come; else -1.
 */
function takeNamed(protocol: ProtocolNumber, src: Addr, port: Port, entry: Entry): PortHost {
  if (expectCount() === 0) return -1
  const at = reservedFor(protocol, src, port)
  if (at < 0 || entryOfPort(at) !== entry) return -1
  return takeReserved(at) ? portOfIndex(at) : -1
}
