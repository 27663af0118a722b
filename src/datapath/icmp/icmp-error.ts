// ICMP errors about a tracked packet (RFC 5508 section 4, RFC 792). An error embeds a packet that we sent to the side
// the error comes from; the inverse of that packet's tuple is what a reply to it would have, and finds the connection.
// The error then goes to the embedded packet's sender, with the embedded packet turned back into what its sender had
// sent. It refreshes no connection and ends none (RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6).

import { baseOf, CONN, HAIRPINNED } from '../../conntrack/connection-table.ts'
import { dstOf, findConnection, hot, portsWordOf, srcOf } from '../../conntrack/connections.shard.ts'
import { canBeUnderWay } from '../../conntrack/quoted-segment.shard.ts'
import type { Direction, Verdict } from '../../conntrack/terms.ts'
import {
  ACCEPT,
  directionOf,
  hashTuple,
  INSIDE,
  invertPorts,
  keyWord,
  NOT_OURS,
  OUTSIDE,
  opposite,
  refOf,
  rowOf,
} from '../../conntrack/terms.ts'
import { hasExpired } from '../../conntrack/track.shard.ts'
import { CELL } from '../../counters/counters.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import type { Row } from '../../memory/brand.ts'
import { externalEntry } from '../../nat/addresses.shard.ts'
import { translates } from '../../nat/opening.shard.ts'
import { isShared } from '../../nat/ports.shard.ts'
import { isEdited, toSender } from '../../nat/sequence-edits.shard.ts'
import { ROUTE } from '../../routing/fib.ts'
import type { Addr, Ports } from '../../wire/address.ts'
import { addDeltas, applyDelta, delta32 } from '../../wire/checksum.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as portless from '../../wire/portless.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { originalIdentification } from '../egress/original-identifications.ts'
import { waitForNeighbour } from '../egress/pending-packets.ts'
import {
  portIsUp,
  ROUTE_MTU,
  ROUTE_PORT,
  routeCache,
  routeLookup,
  routePort,
  routeType,
} from '../egress/route-cache.ts'
import { isMartian, MARTIAN_SOURCE } from '../egress/source-validation.ts'
import { sendTo, sideOf } from '../egress/transmit.ts'
import { BY_HAIRPIN, BY_ICMP_ERROR, handOver } from '../handover/handover.ts'
import { otherOwnerOfTuple, ownerOfTuple } from '../handover/packet-owner.ts'
import { AT, DST, END, HAIRPIN, IP, ingress, L4, type RouteLine, SRC, side } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'
import { embedded, embeddedPorts, embeddedTransport, protocol, readEmbedded, replyPorts } from './embedded-packet.ts'

const UNRELATED = DROP['icmp-error-unrelated']
const EMBEDDED_BAD = DROP['icmp-embedded']
const EMBEDDED_CHECKSUM = DROP['icmp-embedded-checksum']
const EMBEDDED_SEQUENCE = DROP['icmp-embedded-sequence']
const TCP_CHECKSUM_END = 18

/** Translates and sends packet i, an ICMP error; what became of it. */
export function handleIcmpError(i: number): Verdict {
  if (icmp.type(mem, L4[i]!) === icmp.REDIRECT) return NOT_OURS
  if (!readEmbedded(i)) return EMBEDDED_BAD
  const src = ipv4.src(mem, embedded)
  const dst = ipv4.dst(mem, embedded)
  const key = keyWord(protocol, side)
  const answer = invertPorts(embeddedPorts)
  const ref = findConnection(key, dst, src, answer, hashTuple(key, dst, src, answer))
  const row = rowOf(ref)
  if (ref === 0 || hasExpired(row)) {
    const owner = otherOwnerOfTuple(key, dst, src, replyPorts)
    return owner < 0 ? unrelated(i) : handOver(i, owner, side, ingress & HAIRPIN, BY_ICMP_ERROR)
  }
  // An error goes to the sender of the packet that it is about: any other is forged (RFC 5927).
  if (DST[i] !== src) return UNRELATED
  const direction = directionOf(ref)
  const fault = faultOf(i, row, direction)
  if (fault !== ACCEPT) return fault

  const other = opposite(direction)
  const sender = srcOf(baseOf(row), other)
  const line = routeLookup(sender)
  const turns = turnsBack(line, sender)
  if (!leadsAcross(line) && !turns) return DROP['no-route']
  if (ipv4.ttl(mem, IP[i]!) <= 1) return DROP['ttl-expired']
  const remote = dstOf(baseOf(row), other)
  const ports = portsWordOf(baseOf(row), other)
  if (turns) {
    turnSequenceBack(i, row, direction)
    turnIdentificationBack(row, direction)
    return handBack(i, dst, sender, remote, ports)
  }
  if (routeCache[line + ROUTE_PORT]! < 0)
    return portIsUp(routePort(line)) ? waitForNeighbour(i, line, sender) : DROP['link-down']
  // No error about an error: it is lost.
  if (END[i]! - IP[i]! > routeCache[line + ROUTE_MTU]!) return DROP['too-big']

  turnSequenceBack(i, row, direction)
  turnIdentificationBack(row, direction)
  ipv4.setTtl(mem, IP[i]!, ipv4.ttl(mem, IP[i]!) - 1)
  translateError(i, dst, sender, remote, ports)
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  return ACCEPT
}

/**
 * What must be right about an error that goes in `direction`, against those who have only guessed the connection:
 * ACCEPT, or the reason to drop it. Any router may send one; nobody may send one by the other side's addresses.
 */
function faultOf(i: number, row: Row, direction: Direction): Verdict {
  if (isMartian(i)) return MARTIAN_SOURCE
  // What goes from one inside host to another by an address of ours is never seen outside.
  const cameFromOutside = side === OUTSIDE && (ingress & HAIRPIN) === 0
  if (cameFromOutside && (hot[baseOf(row) + CONN.state]! & HAIRPINNED) !== 0) return UNRELATED
  if (!ipv4.headerOk(mem, embedded)) return EMBEDDED_CHECKSUM
  if (protocol !== ipv4.PROTO_TCP) return ACCEPT
  const sender = opposite(direction)
  // The windows are in the sender's numbers, and an embedded segment has those that a helper has given it.
  const seq = toSender(row, sender, tcp.seq(mem, embeddedTransport))
  return canBeUnderWay(baseOf(row), sender, seq) ? ACCEPT : EMBEDDED_SEQUENCE
}

/** Makes of error and embedded packet what the embedded one's sender must see; `dst` is the embedded destination. */
function translateError(i: number, dst: Addr, sender: Addr, remote: Addr, ports: Ports): void {
  turnBack(i, sender, remote, ports)
  ipv4.setDst(mem, IP[i]!, sender)
  // An error of the connection's other end is translated like any packet from there. So is that of a router inside,
  // whose address means nothing outside. Routers outside keep their addresses: traceroute lives by that. Where nothing
  // is translated, all do.
  if (SRC[i] === dst || (side === INSIDE && translates())) ipv4.setSrc(mem, IP[i]!, remote)
  ipv4.writeChecksum(mem, IP[i]!)
  icmp.writeChecksum(mem, L4[i]!, END[i]! - L4[i]!)
  // The checksums are in the frame now: nothing is left for the link to do.
  virtio.clear(mem, AT[i]!)
  counters[CELL.icmpErrorsTranslated]! += 1
}

/**
 * An error about a hairpin's second half: its first half's shard turns it back once more, as if it came from outside.
 */
function handBack(i: number, dst: Addr, sender: Addr, remote: Addr, ports: Ports): Verdict {
  translateError(i, dst, sender, remote, ports)
  const owner = ownerOfTuple(keyWord(protocol, OUTSIDE), remote, sender, invertPorts(ports))
  return handOver(i, owner, OUTSIDE, HAIRPIN, BY_HAIRPIN)
}

/** True if the embedded packet's sender is an external endpoint of our own: that packet came by hairpin. */
const turnsBack = (line: RouteLine, sender: Addr): boolean =>
  side === INSIDE && routeType(line) === ROUTE.local && externalEntry(sender) >= 0

/** The verdict on an error about a packet that the kernel has sent or forwarded, or about none that we know. */
function unrelated(i: number): Verdict {
  const entry = externalEntry(DST[i]!)
  if (entry >= 0) return isShared(entry) ? NOT_OURS : UNRELATED
  return leadsAcross(routeLookup(DST[i]!)) ? UNRELATED : NOT_OURS
}

/** True if the route leads from inside to outside or back: natloom carries nothing else. */
const leadsAcross = (line: RouteLine): boolean =>
  routeType(line) === ROUTE.unicast && routePort(line) >= 0 && sideOf[routePort(line)] !== side

/**
 * Where a helper has changed lengths, the embedded packet has the receiver's numbering; its sender checks that the
 * number is one that it has sent (RFC 5927 4.1). The error goes in `direction`, the embedded packet went the other way.
 */
function turnSequenceBack(i: number, row: Row, direction: Direction): void {
  if (protocol !== ipv4.PROTO_TCP || !isEdited(row)) return
  const hasChecksum = END[i]! - embeddedTransport >= TCP_CHECKSUM_END
  const seq = toSender(row, opposite(direction), tcp.seq(mem, embeddedTransport))
  tcp.changeSeq(mem, embeddedTransport, seq, !hasChecksum)
}

/** Where the embedded packet was a fragment, or has become fragments here, its sender knows another identification. */
function turnIdentificationBack(row: Row, direction: Direction): void {
  const quoted = ipv4.id(mem, embedded)
  const original = originalIdentification(refOf(row, opposite(direction)), quoted)
  if (original !== quoted) ipv4.changeId(mem, embedded, original)
}

/** Makes the embedded packet what its sender had sent: addresses, ports, checksums if it has them (RFC 5508 REQ-4). */
function turnBack(i: number, sender: Addr, remote: Addr, ports: Ports): void {
  const addresses = addDeltas(delta32(ipv4.src(mem, embedded), sender), delta32(ipv4.dst(mem, embedded), remote))
  ipv4.setSrc(mem, embedded, sender)
  ipv4.setDst(mem, embedded, remote)
  ipv4.setChecksum(mem, embedded, applyDelta(ipv4.checksum(mem, embedded), addresses))
  const change = delta32(embeddedPorts, ports)
  if (protocol === ipv4.PROTO_UDP) {
    udp.adjustChecksum(mem, embeddedTransport, addDeltas(addresses, change))
    udp.setPorts(mem, embeddedTransport, ports)
  } else if (protocol === ipv4.PROTO_TCP) {
    // Many errors embed no more than eight bytes of it, which don't reach the checksum.
    if (END[i]! - embeddedTransport >= TCP_CHECKSUM_END)
      tcp.adjustChecksum(mem, embeddedTransport, addDeltas(addresses, change))
    tcp.setPorts(mem, embeddedTransport, ports)
  } else if (protocol === ipv4.PROTO_ICMP) {
    const isQuery = icmp.isQuery(icmp.type(mem, embeddedTransport))
    icmp.adjustChecksum(mem, embeddedTransport, change)
    icmp.setId(mem, embeddedTransport, isQuery ? ports & 0xffff : ports >>> 16)
  } else if (portless.hasPseudoHeader(protocol)) {
    // The checksum lies within the eight bytes that every error embeds.
    portless.adjustChecksum(mem, embeddedTransport, addresses)
  }
}
