// The first packet of a flow: whether it is ours at all, whether it may pass, and the connection it makes. natloom
// carries inside <-> outside; what is for the host, between inside interfaces or through a third one is the kernel's,
// which sees every frame too (NOT_OURS). Nothing is created before everything else about the packet is right.
//
// Whose packet it is is asked in between: after all that makes it the kernel's, before anything is created.
//
// Both functions return a row (above zero), the complement (~) of a drop reason, NOT_FORWARDED, where NOT_OURS is the
// verdict, or OTHER_SHARD: the packet belongs to another shard.

import { ILLEGAL, NONE, RST, SEGMENT_OF } from '../conntrack/tcp-state.ts'
import { ACCEPT, destinationPort, INSIDE } from '../conntrack/terms.ts'
import { newTcpState } from '../conntrack/track.shard.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { externalEntry } from '../nat/bindings.shard.ts'
import { hasTransportPorts, openFromInside, openFromOutside, translates } from '../nat/opening.shard.ts'
import { forwardTo } from '../nat/port-forwards.shard.ts'
import { isNatPort, isShared } from '../nat/ports.shard.ts'
import { ROUTE } from '../routing/fib.ts'
import type { Addr, ProtocolNumber } from '../wire/address.ts'
import { isLoopback, isThisNetwork } from '../wire/address.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import { routeLookup, routePort, routeType } from './egress/route-cache.ts'
import { transportIntact } from './egress/tracking.ts'
import { sideOf } from './egress/transmit.ts'
import { otherOwner } from './handover/packet-owner.ts'
import { beginHelp } from './helped/helped-connections.ts'
import {
  ADMINISTRATIVELY_PROHIBITED,
  NET_UNREACHABLE,
  sendError,
  sendReset,
  TIME_EXCEEDED,
} from './icmp/local-replies.ts'
import { DST, FIRST_FRAGMENT, HAIRPIN, IP, ingress, KEY, KIND, L4, PORTS, port, SRC } from './packet/burst.ts'
import { mem } from './packet/packet-memory.ts'
import { admitRelated } from './related.ts'

/** No table uses row 0. */
export const NOT_FORWARDED = 0
/** Below the complements of all reasons. */
export const OTHER_SHARD = -4096

/** Packet i came from inside and belongs to no connection. */
export function admitFromInside(i: number): number {
  const toward = routeLookup(DST[i]!)
  const type = routeType(toward)
  const out = routePort(toward)
  if (type === ROUTE.local) {
    if (!isHairpin(i)) return NOT_FORWARDED
  } else if (type === ROUTE.broadcast || type === ROUTE.multicast || isNeverForwarded(DST[i]!)) {
    return NOT_FORWARDED
  } else if (type !== ROUTE.unicast) {
    sendError(i, NET_UNREACHABLE, 0)
    return ~DROP['no-route']
  } else if (out < 0 || sideOf[out] === INSIDE) {
    return NOT_FORWARDED
  }
  if (otherOwner(i) >= 0) return OTHER_SHARD
  const fault = commonFaults(i)
  if (fault !== ACCEPT) return ~fault
  const protocol = KEY[i]! & 0xff
  const tcpState = protocol === ipv4.PROTO_TCP ? firstTcpState(i, true) : 0
  if (tcpState < 0) return tcpState
  if (protocol === ipv4.PROTO_ICMP && !asks(i)) return ~DROP['icmp-no-query']
  const related = admitRelated(i, tcpState)
  if (related !== 0) return related
  const row = openFromInside(protocol, SRC[i]!, DST[i]!, PORTS[i]!, tcpState)
  if (row > 0) beginHelp(row, 0)
  // RFC 5508 REQ-8, RFC 6888 REQ-11: who can't be served is told.
  if (row === ~DROP['no-port'] || row === ~DROP['table-full']) sendError(i, ADMINISTRATIVELY_PROHIBITED, 0)
  return row
}

/** Packet i came from outside and belongs to no connection. */
export function admitFromOutside(i: number): number {
  if (!translates()) return leadsInside(i) ? admitByFaults(i) : NOT_FORWARDED
  const entry = externalEntry(DST[i]!)
  if (entry < 0) return leadsInside(i) ? ~DROP['no-mapping'] : NOT_FORWARDED
  const protocol = KEY[i]! & 0xff
  // An identifier or a port without a mapping on an address shared with the host is the host's.
  const natOnly = !isShared(entry)
  // An answer without ports, or to a query, is for the shard that asked: what it doesn't know is the host's.
  if (!hasTransportPorts(protocol) || protocol === ipv4.PROTO_ICMP) {
    if (otherOwner(i) >= 0) return OTHER_SHARD
    if (!natOnly) return NOT_FORWARDED
    return protocol === ipv4.PROTO_ICMP ? ~strayIcmp(i) : ~DROP['no-mapping']
  }
  if (!natOnly && !isOurs(i, entry, protocol)) return NOT_FORWARDED
  return admitByFaults(i)
}

/** From outside, and for us: if it is this shard's, and nothing is wrong with it. */
function admitByFaults(i: number): number {
  if (otherOwner(i) >= 0) return OTHER_SHARD
  const fault = commonFaults(i)
  if (fault !== ACCEPT) return ~fault
  const protocol = KEY[i]! & 0xff
  const tcpState = protocol === ipv4.PROTO_TCP ? firstTcpState(i, false) : 0
  if (tcpState < 0) return tcpState
  if (protocol === ipv4.PROTO_ICMP && !asks(i)) return ~DROP['icmp-no-query']
  const related = admitRelated(i, tcpState)
  if (related !== 0) return related
  const row = openFromOutside(protocol, SRC[i]!, DST[i]!, PORTS[i]!, tcpState)
  if (row > 0) beginHelp(row, 0)
  return row
}

/** The port of one of NAT's addresses that packet i goes to is NAT's too: leased, or dictated by a forward. */
function isOurs(i: number, entry: number, protocol: ProtocolNumber): boolean {
  const port = destinationPort(PORTS[i]!)
  return isNatPort(entry, protocol, port) || forwardTo(protocol, DST[i]!, port) !== undefined
}

/** From inside to an address of the host's: the kernel's, unless it is one of NAT's ports (RFC 4787 REQ-9). */
function isHairpin(i: number): boolean {
  const entry = externalEntry(DST[i]!)
  const protocol = KEY[i]! & 0xff
  const hasPort = protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP
  return entry >= 0 && hasPort && isOurs(i, entry, protocol)
}

/** Packet i's own destination is one of inside. */
function leadsInside(i: number): boolean {
  const toward = routeLookup(DST[i]!)
  return routeType(toward) === ROUTE.unicast && routePort(toward) >= 0 && sideOf[routePort(toward)] === INSIDE
}

/** What must be right about the first packet from either side: ACCEPT, or the reason. */
function commonFaults(i: number): number {
  // A hairpin's second half has its source from us.
  if ((ingress & HAIRPIN) === 0) {
    const back = routeLookup(SRC[i]!)
    if (routeType(back) !== ROUTE.unicast || routePort(back) !== port) return DROP['martian-source']
  }
  if (ipv4.ttl(mem, IP[i]!) <= 1) {
    sendError(i, TIME_EXCEEDED, 0)
    return DROP['ttl-expired']
  }
  if (transportIntact(i)) return ACCEPT
  const protocol = KEY[i]! & 0xff
  if (protocol === ipv4.PROTO_TCP) return DROP['tcp-checksum']
  return protocol === ipv4.PROTO_UDP ? DROP['udp-checksum'] : DROP['icmp-checksum']
}

/** SYN_SENT for a SYN; else the complement of the reason. A segment in mid-stream from inside is answered by a reset. */
function firstTcpState(i: number, fromInside: boolean): number {
  const flags = tcp.flags(mem, L4[i]!)
  const state = newTcpState(flags)
  if (state !== NONE) return state
  const segment = SEGMENT_OF[flags]!
  if (segment === ILLEGAL) return ~DROP['tcp-flags']
  // With a random port the connection can't be picked up where it was: the sender had better know at once.
  if (fromInside && segment !== RST && (flags & tcp.ACK) !== 0 && KIND[i] !== FIRST_FRAGMENT) sendReset(i)
  return ~DROP['tcp-no-connection']
}

const asks = (i: number): boolean => icmp.isQuery(icmp.type(mem, L4[i]!))
const strayIcmp = (i: number): number => (asks(i) ? DROP['no-mapping'] : DROP['icmp-no-query'])

/** Link-local (RFC 3927 2.6.2), this network, loopback (RFC 1812 5.3.7). */
const isNeverForwarded = (address: Addr): boolean =>
  (address & 0xffff) === 0xfea9 || isThisNetwork(address) || isLoopback(address)
