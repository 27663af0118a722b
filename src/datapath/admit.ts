// The first packet of a flow: whether it is ours at all, whether it may pass, and the connection it makes. natloom
// carries packets between inside and outside; those for the host, between inside interfaces or through a third
// interface are the kernel's, which sees every frame too (NOT_OURS). Nothing is created before everything else about
// the packet is right.
//
// Which shard owns the packet is asked in between: after all that makes it the kernel's, before anything is created.
//
// Both functions return the row of a new connection; 0 if there is none, and the packet's verdict is in
// nat/refusal.ts: a drop reason, NOT_OURS, or what came of handing it to the shard that it belongs to. Owner: this
// thread.

import { baseOf, CONN, HAIRPINNED } from '../conntrack/connection-table.ts'
import { hot } from '../conntrack/connections.shard.ts'
import { putBack } from '../conntrack/expectation-matching.shard.ts'
import { pickUp } from '../conntrack/tcp.shard.ts'
import { ACK, ILLEGAL, RST, SEGMENT_OF, SYN } from '../conntrack/tcp-state.ts'
import type { Verdict } from '../conntrack/terms.ts'
import { ACCEPT, destinationPort, INSIDE, NOT_OURS, OUTSIDE, protocolIn } from '../conntrack/terms.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { Expected } from '../helpers/helper.ts'
import type { Entry, Handle, Row, Shard } from '../memory/brand.ts'
import { externalEntry } from '../nat/addresses.shard.ts'
import { claimFor } from '../nat/expected.shard.ts'
import { openFromInside, openFromOutside, translates } from '../nat/opening.shard.ts'
import { forwardTo } from '../nat/port-forwards.shard.ts'
import { isNatPort, isShared, isSpare } from '../nat/ports.shard.ts'
import { refusal, refuse } from '../nat/refusal.ts'
import { ROUTE } from '../routing/fib.ts'
import type { Addr, ProtocolNumber } from '../wire/address.ts'
import { isLoopback, isThisNetwork } from '../wire/address.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import { routeLookup, routePort, routeType } from './egress/route-cache.ts'
import { isMartian, MARTIAN_SOURCE } from './egress/source-validation.ts'
import { transportIntact } from './egress/tracking.ts'
import { sideOf } from './egress/transmit.ts'
import { BY_FLOW, BY_KNOWN_FRAGMENT, handOver } from './handover/handover.ts'
import { otherOwner } from './handover/packet-owner.ts'
import { beginHelp } from './helped/helped-connections.ts'
import { forgetHeldSyn, holdSyn } from './icmp/held-syns.ts'
import {
  ADMINISTRATIVELY_PROHIBITED,
  NET_UNREACHABLE,
  sendError,
  sendReset,
  TIME_EXCEEDED,
} from './icmp/local-replies.ts'
import {
  DST,
  FIRST_FRAGMENT,
  FLOW,
  HAIRPIN,
  IP,
  ingress,
  KEY,
  KIND,
  L4,
  PORTS,
  PORTS_KNOWN,
  SRC,
  side,
} from './packet/burst.ts'
import { mem } from './packet/packet-memory.ts'
import { askHelper, openRelated } from './related.ts'

const DENIED = DROP['filter-denied']
const FILTERED = DROP.filtered
const HELPER_VERDICT = DROP['helper-verdict']
const HOST_LIMIT = DROP['host-limit']
const NO_MAPPING = DROP['no-mapping']
const NO_PORT = DROP['no-port']
const NO_ROUTE = DROP['no-route']
const FRAGMENT_ORPHAN = DROP['fragment-orphan']
const NO_QUERY = DROP['icmp-no-query']
const TABLE_FULL = DROP['table-full']

let picksUp = false

/** `pickup`: a segment in mid-stream makes a connection. */
export function attachAdmission(pickup: boolean): void {
  picksUp = pickup
}

/**
 * What the addresses of a later fragment alone say, before its first one has shown the ports: ACCEPT if natloom may be
 * the one to carry its datagram.
 */
export function verdictOnAddresses(i: number): Verdict {
  const verdict = side === INSIDE ? verdictFromInside(i) : verdictFromOutside(i)
  return verdict === ACCEPT && isMartian(i) ? DROP['martian-source'] : verdict
}

function verdictFromInside(i: number): Verdict {
  const toward = routeLookup(DST[i]!)
  const type = routeType(toward)
  const out = routePort(toward)
  if (type === ROUTE.local) return externalEntry(DST[i]!) >= 0 ? ACCEPT : NOT_OURS
  if (type === ROUTE.broadcast || type === ROUTE.multicast || isNeverForwarded(DST[i]!)) return NOT_OURS
  if (type !== ROUTE.unicast) return NO_ROUTE
  return out < 0 || sideOf[out] === INSIDE ? NOT_OURS : ACCEPT
}

function verdictFromOutside(i: number): Verdict {
  if (!translates()) return leadsInside(i) ? ACCEPT : NOT_OURS
  if (externalEntry(DST[i]!) >= 0) return ACCEPT
  return leadsInside(i) ? NO_MAPPING : NOT_OURS
}

/** A later fragment whose ports are known, and whose first one has made no connection: orphaned, or the kernel's. */
export function verdictOnStrayFragment(i: number): Verdict {
  const entry = side === INSIDE || !translates() ? -1 : externalEntry(DST[i]!)
  return entry >= 0 && isShared(entry) && !hasPorts(protocolIn(KEY[i]!)) ? NOT_OURS : FRAGMENT_ORPHAN
}

/** Packet i came from inside and belongs to no connection. */
export function admitFromInside(i: number): Row {
  const verdict = verdictFromInside(i)
  if (verdict === NO_ROUTE) sendError(i, NET_UNREACHABLE, 0)
  if (verdict !== ACCEPT) return refuse(verdict)
  if (routeType(routeLookup(DST[i]!)) === ROUTE.local && !isHairpin(i)) return refuse(NOT_OURS)
  return admit(i)
}

/** Packet i came from outside and belongs to no connection. */
export function admitFromOutside(i: number): Row {
  const verdict = verdictFromOutside(i)
  if (verdict !== ACCEPT) return refuse(verdict)
  if (!translates()) return admit(i)
  const entry = externalEntry(DST[i]!)
  const protocol = protocolIn(KEY[i]!)
  // A port that nobody has on an address shared with the host is the host's, as is an identifier without a mapping.
  const natOnly = !isShared(entry)
  // A packet without ports, or an ICMP message, can only belong to a connection of its owner: else it is the host's.
  if (!hasPorts(protocol)) {
    const owner = otherOwner(i)
    if (owner >= 0) return refuse(handOverFlow(i, owner))
    if (!natOnly) return refuse(NOT_OURS)
    return refuse(protocol === ipv4.PROTO_ICMP ? strayIcmp(i) : NO_MAPPING)
  }
  if (!natOnly && !isOurs(i, entry, protocol)) {
    // Nobody has the port. If natloom has it to give, a SYN is answered as one to a mapping that doesn't let it in.
    if (isSpare(entry, protocol, destinationPort(PORTS[i]!)) && otherOwner(i) < 0) holdUnsolicited(i)
    return refuse(NOT_OURS)
  }
  return admit(i)
}

/** Packet i is natloom's: makes its connection, if it belongs to this shard and nothing is wrong with it. */
function admit(i: number): Row {
  const owner = otherOwner(i)
  if (owner >= 0) return refuse(handOverFlow(i, owner))
  const fault = faultOf(i)
  if (fault !== ACCEPT) return refuse(fault)
  const handle = claimFor(KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!)
  if (handle !== 0) {
    const answer = askHelper(handle, i)
    if (answer === Expected.Follow) return admitRelated(handle, i)
    putBack(handle)
    if (answer === Expected.Drop) return refuse(HELPER_VERDICT)
  }
  const open = side === INSIDE ? openFromInside : openFromOutside
  const row = open(KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!)
  if (row === 0) return refuse(tellSender(i))
  noteHairpin(i, row)
  if (side === INSIDE) forgetHeldSyn(row)
  // A helper reads from the first byte on, or not at all.
  if (isMidStream(i)) pickUp(row)
  else beginHelp(row)
  return row
}

/**
 * Packet i, a SYN, would be admitted if the closed connection that it belongs to were not there. Asked before that is
 * ended: one that would be refused ends nothing. From outside only what is expected or forwarded is sure of it, since a
 * mapping may end with its last connection.
 */
export function mayOpenAnew(i: number): boolean {
  if (faultOf(i) !== ACCEPT) return false
  if (side === INSIDE) return true
  if (forwardTo(protocolIn(KEY[i]!), DST[i]!, destinationPort(PORTS[i]!)) !== undefined) return true
  const handle = claimFor(KEY[i]!, SRC[i]!, DST[i]!, PORTS[i]!)
  if (handle !== 0) putBack(handle)
  return handle !== 0
}

function admitRelated(handle: Handle, i: number): Row {
  const row = openRelated(handle, i)
  if (row === 0) return refuse(tellSender(i))
  noteHairpin(i, row)
  if (side === INSIDE) forgetHeldSyn(row)
  return row
}

/** Packet i has made half of a hairpin: the first goes to an address of the host, the second comes by hand-over. */
function noteHairpin(i: number, row: Row): void {
  if ((ingress & HAIRPIN) !== 0 || (side === INSIDE && routeType(routeLookup(DST[i]!)) === ROUTE.local))
    hot[baseOf(row) + CONN.state]! |= HAIRPINNED
}

/** Packet i, which may open a connection, is of TCP and no SYN. */
const isMidStream = (i: number): boolean =>
  protocolIn(KEY[i]!) === ipv4.PROTO_TCP && SEGMENT_OF[tcp.flags(mem, L4[i]!)] !== SYN

/**
 * No connection was made of packet i: its sender is told where it should be. A sender inside that can't be served is
 * (RFC 5508 REQ-8, RFC 6888 REQ-11), and on either side one that the operator's filter has denied (RFC 1812 5.2.7.1).
 * Nobody else outside is told anything at once, but a SYN that nobody has asked for may be answered later (RFC 5382
 * REQ-4). Returns the verdict that stands in nat/refusal.ts.
 */
function tellSender(i: number): Verdict {
  const isUnserved = side === INSIDE && (refusal === NO_PORT || refusal === TABLE_FULL || refusal === HOST_LIMIT)
  if (isUnserved || refusal === DENIED) sendError(i, ADMINISTRATIVELY_PROHIBITED, 0)
  else if (side === OUTSIDE && (refusal === NO_MAPPING || refusal === FILTERED)) holdUnsolicited(i)
  return refusal
}

/** Packet i goes to nobody: if it is a SYN with nothing else wrong in it, its sender may be told so in a while. */
function holdUnsolicited(i: number): void {
  if (KIND[i] !== FLOW || protocolIn(KEY[i]!) !== ipv4.PROTO_TCP) return
  if (SEGMENT_OF[tcp.flags(mem, L4[i]!)] === SYN && !isMartian(i) && transportIntact(i)) holdSyn(i)
}

/** Hands packet i to the shard that its flow belongs to; of a fragment the ports are known by now, and go along. */
function handOverFlow(i: number, owner: Shard): Verdict {
  const flags = ingress & HAIRPIN
  if (KIND[i] === FLOW) return handOver(i, owner, side, flags, BY_FLOW)
  return handOver(i, owner, side, flags | PORTS_KNOWN, BY_KNOWN_FRAGMENT)
}

/**
 * The port of one of NAT's addresses that packet i goes to is NAT's too, or dictated by a port forward. It is asked
 * before the owner is, since any shard can answer it: what is sent to the host's ports is not handed over.
 */
function isOurs(i: number, entry: Entry, protocol: ProtocolNumber): boolean {
  const port = destinationPort(PORTS[i]!)
  return isNatPort(entry, protocol, port) || forwardTo(protocol, DST[i]!, port) !== undefined
}

/**
 * True if packet i goes from inside to a port of NAT's on one of its addresses (RFC 4787 REQ-9). Whatever else goes to
 * the host's addresses is the kernel's, also what goes to a port that NAT might give out and has not.
 */
function isHairpin(i: number): boolean {
  const entry = externalEntry(DST[i]!)
  const protocol = protocolIn(KEY[i]!)
  return entry >= 0 && hasPorts(protocol) && isOurs(i, entry, protocol)
}

/** The routes lead packet i, untranslated, to the inside. */
function leadsInside(i: number): boolean {
  const toward = routeLookup(DST[i]!)
  return routeType(toward) === ROUTE.unicast && routePort(toward) >= 0 && sideOf[routePort(toward)] === INSIDE
}

const hasPorts = (protocol: ProtocolNumber): boolean => protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP

/** What must be right about the first packet from either side: ACCEPT, or the reason to drop it. */
function faultOf(i: number): Verdict {
  if (isMartian(i)) return MARTIAN_SOURCE
  if (ipv4.ttl(mem, IP[i]!) <= 1) {
    sendError(i, TIME_EXCEEDED, 0)
    return DROP['ttl-expired']
  }
  const isIntact = transportIntact(i)
  const protocol = protocolIn(KEY[i]!)
  if (protocol === ipv4.PROTO_TCP) return isIntact ? tcpFaultOf(i) : DROP['tcp-checksum']
  if (protocol === ipv4.PROTO_ICMP) return isIntact ? (asks(i) ? ACCEPT : NO_QUERY) : DROP['icmp-checksum']
  return isIntact ? ACCEPT : DROP['udp-checksum']
}

/**
 * Only a SYN opens a connection, or with `tcp: { pickup: true }` an ACK. Another segment in mid-stream from inside is
 * answered by a reset.
 */
function tcpFaultOf(i: number): Verdict {
  const flags = tcp.flags(mem, L4[i]!)
  const segment = SEGMENT_OF[flags]!
  if (segment === SYN) return ACCEPT
  if (segment === ILLEGAL) return DROP['tcp-flags']
  // From outside only where nothing is translated: what a NAT hasn't seen opened has no inside end.
  if (picksUp && segment === ACK && (side === INSIDE || !translates())) return ACCEPT
  // The connection can't be continued, since its external port is not known any more: its sender is told at once.
  if (side === INSIDE && segment !== RST && (flags & tcp.ACK) !== 0 && KIND[i] !== FIRST_FRAGMENT) sendReset(i)
  return DROP['tcp-no-connection']
}

const asks = (i: number): boolean => icmp.isQuery(icmp.type(mem, L4[i]!))
const strayIcmp = (i: number): Verdict => (asks(i) ? NO_MAPPING : NO_QUERY)

/** Addresses that no router forwards: link-local (RFC 3927 2.6.2), this network, loopback (RFC 1812 5.3.7). */
const isNeverForwarded = (address: Addr): boolean =>
  (address & 0xffff) === 0xfea9 || isThisNetwork(address) || isLoopback(address)
