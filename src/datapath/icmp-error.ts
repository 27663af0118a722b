// ICMP errors about a tracked packet (RFC 5508 section 4, RFC 792): the packet that an error quotes is one that we sent
// to the side the error comes from, so its inverse is what an answer to it would look like, and finds the connection.
// The error then goes to the quoted packet's sender, with the quote turned back into what that sender had sent. It
// refreshes nothing and ends nothing (RFC 4787 REQ-12, RFC 5382 REQ-10, RFC 5508 REQ-6).

import { CONN_SHIFT, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { findConnection, hot } from '../conntrack/connections.ts'
import { hasExpired } from '../conntrack/track.ts'
import { hashTuple, INSIDE, invertPorts, keyWord } from '../conntrack/tuple.ts'
import { ACCEPT, NOT_OURS } from '../conntrack/verdict.ts'
import { CELL } from '../memory/counters.ts'
import { DROP } from '../memory/drop-reasons.ts'
import { ROUTE } from '../memory/fib.ts'
import { counters } from '../memory/own-counters.ts'
import { externalEntry } from '../nat/bindings.ts'
import { isShared } from '../nat/ports.ts'
import { addDeltas, applyDelta, delta32 } from '../wire/checksum.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as udp from '../wire/udp.ts'
import * as virtio from '../wire/virtio-net.ts'
import { mem } from './arena.ts'
import { AT, DST, END, IP, L4, SRC, side } from './burst.ts'
import { HOP_MTU, HOP_PORT, hop, hops, portIsUp, routePort, routeType } from './route.ts'
import { sendTo, sideOf } from './send.ts'
import { waitForNeighbour } from './waiting.ts'

const UNRELATED = DROP['icmp-error-unrelated']
const EMBEDDED_BAD = DROP['icmp-embedded']
/** RFC 792: an error quotes the IP header and at least 64 bits more. */
const QUOTED_TRANSPORT = 8
const TCP_CHECKSUM_END = 18

// The quoted packet, filled by readQuote(). Module-level for want of a way to return five numbers without an object.
let quoted = 0
let quotedTransport = 0
let protocol = 0
let quotedPorts = 0

/** Translates and sends packet i, an ICMP error; what became of it. */
export function handleIcmpError(i: number): number {
  if (icmp.type(mem, L4[i]!) === icmp.REDIRECT) return NOT_OURS
  if (!readQuote(i)) return EMBEDDED_BAD
  const src = ipv4.src(mem, quoted)
  const dst = ipv4.dst(mem, quoted)
  const key = keyWord(protocol, side)
  const ports = invertPorts(quotedPorts)
  const ref = findConnection(dst, src, ports, key, hashTuple(dst, src, ports, key))
  const row = ref >> 1
  if (ref === 0 || hasExpired(row)) return unrelated(i)
  // An error is sent to whoever sent the packet: anything else is forged (RFC 5927).
  if (DST[i] !== src) return UNRELATED

  const direction = ref & 1
  const other = (row << CONN_SHIFT) + (1 - direction) * TUPLE_WORDS
  const sender = hot[other]!
  const line = hop(sender)
  if (!leadsAcross(line)) return DROP['no-route']
  if (ipv4.ttl(mem, IP[i]!) <= 1) return DROP['ttl-expired']
  if (hops[line + HOP_PORT]! < 0)
    return portIsUp(routePort(line)) ? waitForNeighbour(i, line, sender) : DROP['link-down']
  // No error about an error: it is lost.
  if (END[i]! - IP[i]! > hops[line + HOP_MTU]!) return DROP['too-big']

  const remote = hot[other + 1]!
  turnBack(i, sender, remote, hot[other + 2]!)
  ipv4.setDst(mem, IP[i]!, sender)
  // From the other end itself, it is translated like any packet from there; from inside, so is a router on the way,
  // whose address means nothing outside. Routers outside keep theirs: traceroute lives by that.
  if (SRC[i] === dst || side === INSIDE) ipv4.setSrc(mem, IP[i]!, remote)
  ipv4.setTtl(mem, IP[i]!, ipv4.ttl(mem, IP[i]!) - 1)
  ipv4.writeChecksum(mem, IP[i]!)
  icmp.writeChecksum(mem, L4[i]!, END[i]! - L4[i]!)
  // Whatever was owed or vouched for is in the frame now.
  virtio.clear(mem, AT[i]!)
  counters[CELL.icmpErrorsTranslated]! += 1
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  return ACCEPT
}

/** About a packet of the kernel's, its own or forwarded, or about nothing that we know. */
function unrelated(i: number): number {
  const entry = externalEntry(DST[i]!)
  if (entry >= 0) return isShared(entry) ? NOT_OURS : UNRELATED
  return leadsAcross(hop(DST[i]!)) ? UNRELATED : NOT_OURS
}

/** From inside to outside or back: what natloom carries. */
const leadsAcross = (line: number): boolean =>
  routeType(line) === ROUTE.unicast && routePort(line) >= 0 && sideOf[routePort(line)] !== side

/** Where the quoted packet lies and what its tuple is; false if it can't be told. */
function readQuote(i: number): boolean {
  quoted = L4[i]! + icmp.EMBEDDED
  const end = END[i]!
  if (end - quoted < ipv4.MIN_HEADER_LEN || ipv4.version(mem, quoted) !== 4) return false
  const headerLength = ipv4.headerLen(mem, quoted)
  quotedTransport = quoted + headerLength
  if (headerLength < ipv4.MIN_HEADER_LEN || end - quotedTransport < QUOTED_TRANSPORT) return false
  // Of a later fragment only the addresses are known.
  if ((ipv4.fragmentWord(mem, quoted) & ipv4.OFFSET_MASK) !== 0) return false
  protocol = ipv4.protocol(mem, quoted)
  if (protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP) quotedPorts = tcp.ports(mem, quotedTransport)
  else if (protocol === ipv4.PROTO_ICMP) return readQuotedIcmp()
  else quotedPorts = 0
  return true
}

function readQuotedIcmp(): boolean {
  const type = icmp.type(mem, quotedTransport)
  if (icmp.isQuery(type)) quotedPorts = icmp.id(mem, quotedTransport) | (type << 16)
  else if (icmp.isReply(type)) quotedPorts = icmp.queryOf(type) | (icmp.id(mem, quotedTransport) << 16)
  else return false
  return true
}

/** Makes the quote what its sender had sent: addresses, ports, and what it has of checksums (RFC 5508 REQ-4). */
function turnBack(i: number, sender: number, remote: number, ports: number): void {
  const addresses = addDeltas(delta32(ipv4.src(mem, quoted), sender), delta32(ipv4.dst(mem, quoted), remote))
  ipv4.setSrc(mem, quoted, sender)
  ipv4.setDst(mem, quoted, remote)
  ipv4.setChecksum(mem, quoted, applyDelta(ipv4.checksum(mem, quoted), addresses))
  const change = delta32(quotedPorts, ports)
  if (protocol === ipv4.PROTO_UDP) {
    udp.adjustChecksum(mem, quotedTransport, addDeltas(addresses, change))
    udp.setPorts(mem, quotedTransport, ports)
  } else if (protocol === ipv4.PROTO_TCP) {
    // Many errors quote no more than the first eight bytes, which don't reach the checksum.
    if (END[i]! - quotedTransport >= TCP_CHECKSUM_END)
      tcp.adjustChecksum(mem, quotedTransport, addDeltas(addresses, change))
    tcp.setPorts(mem, quotedTransport, ports)
  } else if (protocol === ipv4.PROTO_ICMP) {
    const isQuery = icmp.isQuery(icmp.type(mem, quotedTransport))
    icmp.adjustChecksum(mem, quotedTransport, change)
    icmp.setId(mem, quotedTransport, isQuery ? ports & 0xffff : ports >>> 16)
  }
}
