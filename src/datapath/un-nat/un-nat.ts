// What a remote peer would have sent, from what the inside end has received: a capture that was made inside shows
// packets behind a translation that wasn't natloom's, or behind none. For replay; the inverse of translate.ts and
// segments.ts.
//
//   destination      its connection's external end, else its mapping's, else the port that is reserved for it, else
//                    the gateway's outside address with the port as it is
//   acknowledgement  in the numbers that the peer has received: what helpers have changed in length counts
//   time to live     one more: the router that the capture was made behind has taken one
//
// A packet from inside needs the second only, where helpers have changed what came from outside. Packets lie outside
// the packet memory here: every function takes the memory, where the IPv4 header begins, and the end. Checksums follow
// by deltas: a wrong one stays wrong. Owner: this thread.

import { CONN_SHIFT, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { findConnection, hot } from '../../conntrack/connections.shard.ts'
import { reservedFor } from '../../conntrack/expectation-matching.shard.ts'
import { expectCount } from '../../conntrack/expectation-slots.shard.ts'
import { MAPPING } from '../../conntrack/mapping-table.ts'
import { findByInside, mapping, mappingBase } from '../../conntrack/mappings.shard.ts'
import type { Direction, Ref } from '../../conntrack/terms.ts'
import { directionOf, hashTuple, INSIDE, invertPorts, keyWord, opposite, rowOf } from '../../conntrack/terms.ts'
import { hasExpired } from '../../conntrack/track.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { type Externals, entryOfPort, portOfIndex } from '../../nat/externals.ts'
import { hasTransportPorts } from '../../nat/opening.shard.ts'
import { isEdited, toReceiver, UP } from '../../nat/sequence-edits.shard.ts'
import { dependsOnAddress, dependsOnPort, type NatSettings } from '../../nat/settings.ts'
import type { Addr, Port, Ports, ProtocolNumber } from '../../wire/address.ts'
import { swap16 } from '../../wire/address.ts'
import * as checksum from '../../wire/checksum.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'

const NEED: Readonly<Record<number, number>> = {
  [ipv4.PROTO_TCP]: tcp.MIN_HEADER_LEN,
  [ipv4.PROTO_UDP]: udp.HEADER_LEN,
  [ipv4.PROTO_ICMP]: 8,
}
/** RFC 792: an ICMP error embeds at least so many bytes of the transport header. */
const LEAST_TRANSPORT = 8
/** Many embed no more of TCP than that, which doesn't reach its checksum. */
const TCP_CHECKSUM_END = 18
const MOST_TTL = 255

let externals: Externals
let settings: NatSettings

export function attachUnNat(shared: Externals, nat: NatSettings): void {
  externals = shared
  settings = nat
}

/** The external endpoint that was found last. */
let address: Addr = 0
let port: Port = 0

/** A packet from inside, as its sender would have sent it to us. */
export function asSentInside(mem: DataView, ip: number, end: number): void {
  if (readablePorts(mem, ip, end) && ipv4.protocol(mem, ip) === ipv4.PROTO_TCP) {
    const at = ip + ipv4.headerLen(mem, ip)
    const ref = find(ipv4.PROTO_TCP, ipv4.src(mem, ip), ipv4.dst(mem, ip), tcp.ports(mem, at))
    if (ref !== 0) shiftAcknowledgement(mem, at, end, ref >> 1, opposite(directionOf(ref)))
  }
}

/** A packet from outside, as its peer would have sent it to `outside`, the gateway's address; untranslated if 0. */
export function asSentOutside(mem: DataView, ip: number, end: number, outside: Addr): void {
  if (end - ip < ipv4.MIN_HEADER_LEN) return
  if (ipv4.ttl(mem, ip) < MOST_TTL) ipv4.restoreTtl(mem, ip)
  const protocol = ipv4.protocol(mem, ip)
  const at = ip + ipv4.headerLen(mem, ip)
  if (protocol === ipv4.PROTO_ICMP && readablePorts(mem, ip, end) && icmp.isError(icmp.type(mem, at)))
    unNatError(mem, ip, at, end, outside)
  else if (readablePorts(mem, ip, end)) unNatFlow(mem, ip, end, outside)
  else if (outside !== 0) redirect(mem, ip, outside)
}

/** The packet shows its ports: it is no later fragment, and its transport header is whole. */
function readablePorts(mem: DataView, ip: number, end: number): boolean {
  if (end - ip < ipv4.MIN_HEADER_LEN || (ipv4.fragmentWord(mem, ip) & ipv4.OFFSET_MASK) !== 0) return false
  const need = NEED[ipv4.protocol(mem, ip)]
  const headerLength = ipv4.headerLen(mem, ip)
  return need !== undefined && headerLength >= ipv4.MIN_HEADER_LEN && end - ip - headerLength >= need
}

function unNatFlow(mem: DataView, ip: number, end: number, outside: Addr): void {
  const protocol = ipv4.protocol(mem, ip)
  const at = ip + ipv4.headerLen(mem, ip)
  const [inside, remote] = [ipv4.dst(mem, ip), ipv4.src(mem, ip)]
  const ports = protocol === ipv4.PROTO_ICMP ? icmpPorts(mem, at) : tcp.ports(mem, at)
  const ref = find(protocol, inside, remote, invertPorts(ports))
  if (ref !== 0 && protocol === ipv4.PROTO_TCP) shiftAcknowledgement(mem, at, end, ref >> 1, directionOf(ref))
  if (outside === 0) return
  if (!findExternal(ref, protocol, inside, remote, invertPorts(ports))) setExternal(outside, ports >>> 16)
  const delta = checksum.addDeltas(checksum.delta32(inside, address), checksum.delta16(ports >>> 16, port))
  if (protocol === ipv4.PROTO_TCP) {
    tcp.adjustChecksum(mem, at, delta)
    tcp.setPorts(mem, at, (ports & 0xffff) | (port << 16))
  } else if (protocol === ipv4.PROTO_UDP) {
    udp.adjustChecksum(mem, at, delta)
    udp.setPorts(mem, at, (ports & 0xffff) | (port << 16))
  } else if (icmp.isReply(icmp.type(mem, at))) {
    icmp.adjustChecksum(mem, at, checksum.delta16(icmp.id(mem, at), port))
    icmp.setId(mem, at, port)
  }
  redirect(mem, ip, address)
}

/**
 * The ports word of an ICMP message (conntrack/terms.ts): a reply's identifier stands where its receiver's port would.
 */
function icmpPorts(mem: DataView, at: number): number {
  const type = icmp.type(mem, at)
  if (icmp.isReply(type)) return icmp.queryOf(type) | (icmp.id(mem, at) << 16)
  return icmp.id(mem, at) | (type << 16)
}

/** The connection of what an inside end sends, 0 if there is none. */
function find(protocol: ProtocolNumber, inside: Addr, remote: Addr, ports: Ports): Ref {
  const key = keyWord(protocol, INSIDE)
  const ref = findConnection(key, inside, remote, ports, hashTuple(key, inside, remote, ports))
  return ref !== 0 && hasExpired(rowOf(ref)) ? 0 : ref
}

function setExternal(to: Addr, toPort: Port): void {
  address = to
  port = toPort
}

/**
 * Where a peer sends to reach an inside end whose packets to it have these ports, into `address` and `port`; false if
 * that is not known. `ref` is their connection, or 0.
 */
function findExternal(ref: Ref, protocol: ProtocolNumber, inside: Addr, remote: Addr, ports: Ports): boolean {
  const insidePort = ports & 0xffff
  if (ref !== 0) {
    const other = (rowOf(ref) << CONN_SHIFT) + opposite(directionOf(ref)) * TUPLE_WORDS
    setExternal(hot[other + 1]!, hot[other + 2]! >>> 16)
    return true
  }
  if (!hasTransportPorts(protocol)) return false
  const remoteKey = dependsOnAddress(settings.mapping) ? remote : 0
  const remotePort = dependsOnPort(settings.mapping) ? ports >>> 16 : 0
  const bound = findByInside(protocol, inside, insidePort, remoteKey, remotePort)
  if (bound !== 0) {
    const base = mappingBase(bound)
    setExternal(mapping[base + MAPPING.externalAddress]!, mapping[base + MAPPING.ports]! >>> 16)
    return true
  }
  const reserved = expectCount() === 0 ? -1 : reservedFor(protocol, inside, insidePort)
  if (reserved < 0) return false
  setExternal(externals.addressOf(entryOfPort(reserved)), swap16(portOfIndex(reserved)))
  return true
}

/** What a segment acknowledges of `direction`, in the numbers of that direction's receiver; SACK blocks too. */
function shiftAcknowledgement(mem: DataView, at: number, end: number, row: Row, direction: Direction): void {
  if ((tcp.flags(mem, at) & tcp.ACK) === 0 || !isEdited(row)) return
  tcp.changeAck(mem, at, toReceiver(row, direction, tcp.ack(mem, at)), false)
  // A malformed segment will be dropped later.
  if (!tcp.fits(mem, at, end) || tcp.optionsFault(mem, at)) return
  const option = tcp.findOption(mem, at, tcp.OPTION_SACK)
  const blocks = option === 0 ? 0 : tcp.sackBlocks(mem, option)
  for (let b = 0; b < blocks; b++) {
    const block = tcp.sackBlock(option, b)
    tcp.changeSackLeft(mem, at, block, toReceiver(row, direction, tcp.sackLeft(mem, block), UP), false)
    tcp.changeSackRight(mem, at, block, toReceiver(row, direction, tcp.sackRight(mem, block)), false)
  }
}

/** An error embeds the packet as its sender has seen it: translated. */
function unNatError(mem: DataView, ip: number, at: number, end: number, outside: Addr): void {
  const embedded = at + icmp.EMBEDDED
  const transport = end - embedded < ipv4.MIN_HEADER_LEN ? end : embedded + ipv4.headerLen(mem, embedded)
  if (outside === 0) return
  if (
    end - transport < LEAST_TRANSPORT ||
    transport - embedded < ipv4.MIN_HEADER_LEN ||
    (ipv4.fragmentWord(mem, embedded) & ipv4.OFFSET_MASK) !== 0
  ) {
    redirect(mem, ip, outside)
    return
  }
  const protocol = ipv4.protocol(mem, embedded)
  const [inside, remote] = [ipv4.src(mem, embedded), ipv4.dst(mem, embedded)]
  const isIcmp = protocol === ipv4.PROTO_ICMP
  const ports = !hasTransportPorts(protocol) ? 0 : isIcmp ? icmpPorts(mem, transport) : tcp.ports(mem, transport)
  const ref = find(protocol, inside, remote, ports)
  if (!findExternal(ref, protocol, inside, remote, ports)) setExternal(outside, ports & 0xffff)
  const hasChecksum = end - transport >= TCP_CHECKSUM_END
  if (ref !== 0 && protocol === ipv4.PROTO_TCP && isEdited(ref >> 1))
    tcp.changeSeq(mem, transport, toReceiver(ref >> 1, directionOf(ref), tcp.seq(mem, transport)), !hasChecksum)
  ipv4.setSrc(mem, embedded, address)
  ipv4.writeChecksum(mem, embedded)
  const change = checksum.delta16(isIcmp ? icmp.id(mem, transport) : ports & 0xffff, port)
  const delta = checksum.addDeltas(checksum.delta32(inside, address), change)
  if (isIcmp) {
    icmp.adjustChecksum(mem, transport, change)
    icmp.setId(mem, transport, port)
  } else if (ports !== 0) {
    if (protocol === ipv4.PROTO_UDP) udp.adjustChecksum(mem, transport, delta)
    else if (hasChecksum) tcp.adjustChecksum(mem, transport, delta)
    tcp.setPorts(mem, transport, (ports & ~0xffff) | port)
  }
  icmp.writeChecksum(mem, at, end - at)
  redirect(mem, ip, address)
}

function redirect(mem: DataView, ip: number, to: Addr): void {
  const delta = checksum.delta32(ipv4.dst(mem, ip), to)
  ipv4.setChecksum(mem, ip, checksum.applyDelta(ipv4.checksum(mem, ip), delta))
  ipv4.setDst(mem, ip, to)
}
