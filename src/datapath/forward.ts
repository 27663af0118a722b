// A packet of a known connection, from the row to the wire. What could keep it from leaving is asked before anything
// changes: time to live, route, size; then it is tracked, counted, translated and sent.

import { CONN, CONN_SHIFT, SEEN_REPLY, TUPLE_WORDS } from '../conntrack/connection-table.ts'
import { cold, hot } from '../conntrack/connections.ts'
import { isClosed, trackOther, trackTcp, trackUdp } from '../conntrack/track.ts'
import { INSIDE, invertPorts, OUTSIDE } from '../conntrack/tuple.ts'
import { ACCEPT, ACCEPT_AND_END } from '../conntrack/verdict.ts'
import { DROP } from '../memory/drop-reasons.ts'
import { ROUTE } from '../memory/fib.ts'
import { answered, closed, endConnection, externalEntry } from '../nat/bindings.ts'
import * as checksum from '../wire/checksum.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as virtio from '../wire/virtio-net.ts'
import { FRAGMENTATION_NEEDED, sendError, TIME_EXCEEDED } from './answer.ts'
import { mem } from './arena.ts'
import { AT, END, FLOW, HAIRPIN, IP, KEY, KIND, L4, LATER_FRAGMENT, PORTS, PORTS_KNOWN, side } from './burst.ts'
import { BY_HAIRPIN, handOver } from './hand-over.ts'
import { lengthOnLink, sendSmaller } from './oversize.ts'
import { ownerOfTuple } from './ownership.ts'
import { HOP_MTU, HOP_PORT, hop, hops, portIsUp, routePort, routeType } from './route.ts'
import { sendTo, sideOf } from './send.ts'
import { translate } from './translate.ts'
import { waitForNeighbour } from './waiting.ts'

const { state: STATE, packets: PACKETS, bytes: BYTES } = CONN
const TTL_EXPIRED = DROP['ttl-expired']
const TOO_BIG = DROP['too-big']
const NO_ROUTE = DROP['no-route']
const LINK_DOWN = DROP['link-down']
const TCP_CHECKSUM = DROP['tcp-checksum']
const OFFLOADED = virtio.NEEDS_CHECKSUM | virtio.DATA_VALID
const CLOSING = tcp.FIN | tcp.RST

/** What becomes of packet i of a live connection, going in `direction`. */
export function forward(i: number, row: number, direction: number): number {
  const base = row << CONN_SHIFT
  const ip = IP[i]!
  if (ipv4.ttl(mem, ip) <= 1) {
    sendError(i, TIME_EXCEEDED, 0)
    return TTL_EXPIRED
  }
  const destination = hot[base + (1 - direction) * TUPLE_WORDS]!
  const line = hop(destination)
  const port = hops[line + HOP_PORT]!
  if (port < 0 || sideOf[port] === side) return notNow(i, row, direction, line, destination)
  const mtu = hops[line + HOP_MTU]!
  const length = END[i]! - ip
  if (length > mtu && lengthOnLink(i) > mtu) return forwardOversize(i, row, direction, line, mtu)

  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, length)
  translate(i, base, direction)
  sendTo(line, AT[i]!, END[i]! - AT[i]!)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return ACCEPT
}

/** The route does not lead out now: a neighbour to wait for, a link that is down, our own address, or no way at all. */
function notNow(i: number, row: number, direction: number, line: number, destination: number): number {
  const port = routePort(line)
  if (side === INSIDE && routeType(line) === ROUTE.local && externalEntry(destination) >= 0)
    return forwardHairpin(i, row, direction)
  if (routeType(line) !== ROUTE.unicast || port < 0 || sideOf[port] === side) return NO_ROUTE
  return portIsUp(port) ? waitForNeighbour(i, line, destination) : LINK_DOWN
}

/**
 * To an external endpoint of our own (RFC 4787 REQ-9): its source is translated here, then it goes to whoever owns the
 * endpoint as if it had come from outside. Its time to live falls there.
 */
function forwardHairpin(i: number, row: number, direction: number): number {
  const base = row << CONN_SHIFT
  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, END[i]! - IP[i]!)
  translate(i, base, direction)
  ipv4.restoreTtl(mem, IP[i]!)
  const other = base + (1 - direction) * TUPLE_WORDS
  const ports = invertPorts(hot[other + 2]!)
  // A fragment takes its translated ports along.
  PORTS[i] = ports
  const owner = ownerOfTuple(OUTSIDE, KEY[i]! & 0xff, hot[other + 1]!, hot[other]!, ports)
  const flags = KIND[i] === FLOW ? HAIRPIN : HAIRPIN | PORTS_KNOWN
  const handed = handOver(i, owner, OUTSIDE, flags, BY_HAIRPIN)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return handed
}

function forwardOversize(i: number, row: number, direction: number, line: number, mtu: number): number {
  if ((ipv4.fragmentWord(mem, IP[i]!) & ipv4.DONT_FRAGMENT) !== 0) {
    sendError(i, FRAGMENTATION_NEEDED, mtu)
    return TOO_BIG
  }
  const base = row << CONN_SHIFT
  const verdict = track(i, base, direction)
  if (verdict !== ACCEPT && verdict !== ACCEPT_AND_END) return verdict
  count(base, row, direction, END[i]! - IP[i]!)
  translate(i, base, direction)
  const sent = sendSmaller(i, line, mtu)
  if (verdict === ACCEPT_AND_END) endConnection(row)
  return sent ? ACCEPT : TOO_BIG
}

function track(i: number, base: number, direction: number): number {
  const before = hot[base + STATE]!
  const verdict = trackByProtocol(i, base, direction)
  const after = hot[base + STATE]!
  if (after !== before) noteChange(base, before, after)
  return verdict
}

function trackByProtocol(i: number, base: number, direction: number): number {
  const protocol = KEY[i]! & 0xff
  if (KIND[i] === LATER_FRAGMENT) return trackOther(base, direction, protocol)
  if (protocol === ipv4.PROTO_UDP) return trackUdp(base, direction)
  if (protocol !== ipv4.PROTO_TCP) return trackOther(base, direction, protocol)
  const flags = tcp.flags(mem, L4[i]!)
  // What closes a connection must be what its sender sent; elsewhere a wrong checksum stays wrong and the receiver sees.
  if ((flags & CLOSING) !== 0 && !transportIntact(i)) return TCP_CHECKSUM
  return trackTcp(base, direction, flags)
}

/** The transport checksum is right, or somebody else answers for it (offloading), or the packet isn't whole. */
export function transportIntact(i: number): boolean {
  if (KIND[i] !== FLOW || (virtio.flags(mem, AT[i]!) & OFFLOADED) !== 0) return true
  return checksum.transportChecksumOk(mem, IP[i]!)
}

/** Tracking has changed the row's state word: what follows from it for mappings and recycling. */
function noteChange(base: number, before: number, after: number): void {
  if (((before ^ after) & SEEN_REPLY) !== 0) answered(base >> CONN_SHIFT)
  if ((after & 0xff) === ipv4.PROTO_TCP && isClosed(base)) closed(base >> CONN_SHIFT)
}

/** Counts are 32 bits in the row; a count that falls has wrapped. */
function count(base: number, row: number, direction: number, length: number): void {
  const packets = base + PACKETS + direction
  const bytes = base + BYTES + direction
  hot[packets] = hot[packets]! + 1
  if (hot[packets] === 0) (direction === 0 ? cold.packetWraps : cold.packetWrapsReply)[row]! += 1
  const before = hot[bytes]!
  const after = (before + length) | 0
  hot[bytes] = after
  if (before < 0 && after >= 0) (direction === 0 ? cold.byteWraps : cold.byteWrapsReply)[row]! += 1
}
