// What the gateway itself says to a sender: ICMP errors about its packet (RFC 792, RFC 1812 4.3) and TCP resets (RFC
// 9293 3.5.2). An answer goes back by the port and to the MAC address that the packet came from; it comes from that
// interface's address. Errors embed the packet as received, so they are built before anything is rewritten.
//
// Never an error about an ICMP error, a later fragment, or a packet that was sent to or from a group (RFC 1122 3.2.2),
// and no more than the rate limit allows. Owner: this thread.

import { mayTell, toldNow } from '../../conntrack/hosts.shard.ts'
import { INSIDE, invertPorts, keyWord, OUTSIDE, protocolIn } from '../../conntrack/terms.ts'
import { CELL } from '../../counters/counters.ts'
import { counters } from '../../counters/own-counters.shard.ts'
import { nowMs } from '../../memory/clock.ts'
import type { Addr, ProtocolNumber } from '../../wire/address.ts'
import { isLimitedBroadcast, isMulticast } from '../../wire/address.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import { portAddress } from '../egress/route-cache.ts'
import { sendBy } from '../egress/transmit.ts'
import { handOverBuilt } from '../handover/handover.ts'
import { ownerOfTuple } from '../handover/packet-owner.ts'
import {
  AT,
  DST,
  END,
  HAIRPIN,
  ICMP_ERROR,
  IP,
  ingress,
  KEY,
  KIND,
  L4,
  LATER_FRAGMENT,
  PORTS,
  port,
  SRC,
  side,
} from '../packet/burst.ts'
import { copyBytes, mem, scratchFrame } from '../packet/packet-memory.ts'

/** An error's datagram is at most this long (RFC 1812 4.3.2.3). */
const LARGEST_ERROR = 576
/** RFC 792: it embeds the IPv4 header and at least 64 bits more. */
const LEAST_TRANSPORT = 8
const TTL = 64
/** Internetwork control, as routers mark their errors (RFC 1812 4.3.2.5). */
const ERROR_TOS = 0xc0

// The kinds of the metric icmp_errors_sent, in its order.
export const TIME_EXCEEDED = 0
export const FRAGMENTATION_NEEDED = 1
export const NET_UNREACHABLE = 2
export const HOST_UNREACHABLE = 3
export const ADMINISTRATIVELY_PROHIBITED = 4
export const PORT_UNREACHABLE = 5
const TYPES = [
  icmp.TIME_EXCEEDED,
  icmp.UNREACHABLE,
  icmp.UNREACHABLE,
  icmp.UNREACHABLE,
  icmp.UNREACHABLE,
  icmp.UNREACHABLE,
]
const CODES = [
  icmp.TTL_EXCEEDED,
  icmp.FRAGMENTATION_NEEDED,
  icmp.NET_UNREACHABLE,
  icmp.HOST_UNREACHABLE,
  icmp.ADMINISTRATIVELY_PROHIBITED,
  icmp.PORT_UNREACHABLE,
]

// A token bucket that holds a tenth of a second's errors, and at least 50, as Linux's icmp_msgs_burst. Anybody outside
// may send what is to be answered, in anybody's name, so half of the bucket is set aside for the hosts inside, each of
// which has its own limit (conntrack/hosts.shard.ts): their path MTU discovery needs it. That limit is of a whole
// second, more than the bucket holds, so a host that has been told a quarter of a bucket in this second leaves the last
// quarter to the others.
const FOR_HOSTS = 2
const FOR_OTHER_HOSTS = 4
let perSecond = 1000
let tokens = 0
let filledAt = 0

export function attachLocalReplies(errorsPerSecond: number): void {
  perSecond = errorsPerSecond
  tokens = burstOf(errorsPerSecond)
  // Full whatever the time is: a shard that was warmed up has seen later times than its first turn has.
  filledAt = 0
}

const burstOf = (rate: number): number => Math.max(50, rate / 10)

/** Whether the sender of packet i may be told something now. */
function mayReply(i: number): boolean {
  const burst = burstOf(perSecond)
  tokens = Math.min(burst, tokens + ((nowMs - filledAt) * perSecond) / 1000)
  filledAt = nowMs
  const setAside = side === INSIDE ? setAsideFrom(SRC[i]!, burst) : burst / FOR_HOSTS
  if (tokens < 1 + setAside || (side === INSIDE && !mayTell(SRC[i]!))) {
    counters[CELL.icmpErrorsSuppressed + side]! += 1
    return false
  }
  tokens -= 1
  return true
}

function setAsideFrom(host: Addr, burst: number): number {
  const share = burst / FOR_OTHER_HOSTS
  return toldNow(host) < share ? 0 : share
}

/** Sends an ICMP error of a kind above about packet i; `word` is the second of its header (an MTU, or 0). */
export function sendError(i: number, kind: number, word: number): void {
  const embedded = IP[i]!
  const destination = ipv4.dst(mem, embedded)
  // That a port has nobody is said by the address that has the port.
  const source = kind === PORT_UNREACHABLE ? destination : portAddress(port)
  if (
    KIND[i] === ICMP_ERROR ||
    KIND[i] === LATER_FRAGMENT ||
    (ipv4.fragmentWord(mem, embedded) & ipv4.OFFSET_MASK) !== 0
  )
    return
  if (source === 0 || isMulticast(destination) || isLimitedBroadcast(destination) || !mayReply(i)) return
  const headers = ipv4.MIN_HEADER_LEN + icmp.HEADER_LEN
  // Who sends to no one may be anybody, in anybody's name: no more is sent there than must be.
  const most = kind === PORT_UNREACHABLE ? L4[i]! - embedded + LEAST_TRANSPORT : LARGEST_ERROR - headers
  const copied = Math.min(END[i]! - embedded, most)
  const at = beginReply(i, headers + copied, ipv4.PROTO_ICMP, source, ERROR_TOS)
  if (at < 0) return
  const message = at + ethernet.HEADER_LEN + ipv4.MIN_HEADER_LEN
  icmp.writeError(mem, message, TYPES[kind]!, CODES[kind]!, word)
  copyBytes(embedded, message + icmp.EMBEDDED, copied)
  icmp.writeChecksum(mem, message, icmp.HEADER_LEN + copied)
  const length = ethernet.HEADER_LEN + headers + copied
  if ((ingress & HAIRPIN) === 0) sendBy(port, at, length)
  else if (!sendBack(i, at, length)) return
  counters[CELL.icmpErrorsSent + kind]! += 1
}

/**
 * An error about a hairpin's second half: its sender, as it stands in the packet, is an external endpoint of ours. It
 * goes there as if it had come from outside, addressed to us as the packet was. False if there is no room in the ring.
 */
function sendBack(i: number, at: number, length: number): boolean {
  copyBytes(AT[i]!, at, ethernet.HEADER_LEN)
  const owner = ownerOfTuple(keyWord(protocolIn(KEY[i]!), OUTSIDE), DST[i]!, SRC[i]!, invertPorts(PORTS[i]!))
  return handOverBuilt(at, length, owner, OUTSIDE, HAIRPIN)
}

/** Tells the sender of TCP segment i that its connection doesn't exist: the reset that the addressee would send. */
export function sendReset(i: number): void {
  if (!mayReply(i)) return
  const segment = L4[i]!
  const length = ipv4.MIN_HEADER_LEN + tcp.MIN_HEADER_LEN
  const at = beginReply(i, length, ipv4.PROTO_TCP, ipv4.dst(mem, IP[i]!), 0)
  if (at < 0) return
  const ip = at + ethernet.HEADER_LEN
  const reset = ip + ipv4.MIN_HEADER_LEN
  tcp.emit(mem, reset, tcp.dstPort(mem, segment), tcp.srcPort(mem, segment), tcp.RST)
  tcp.setSeq(mem, reset, tcp.ack(mem, segment))
  checksum.writeTransportChecksum(mem, ip)
  sendBy(port, at, ethernet.HEADER_LEN + length)
  counters[CELL.resetsSent]! += 1
}

/** Ethernet and IPv4 header of an answer to packet i, `length` bytes from the IPv4 header on; -1 without room. */
function beginReply(i: number, length: number, protocol: ProtocolNumber, source: number, tos: number): number {
  const at = scratchFrame(ethernet.HEADER_LEN + length)
  if (at < 0) return -1
  const ip = at + ethernet.HEADER_LEN
  ethernet.answerTo(mem, at, AT[i]!)
  ipv4.setHeaderLen(mem, ip, ipv4.MIN_HEADER_LEN)
  ipv4.setTos(mem, ip, tos)
  ipv4.setTotalLength(mem, ip, length)
  ipv4.setId(mem, ip, 0)
  // An atomic datagram (RFC 6864): its identification means nothing.
  ipv4.setFragmentWord(mem, ip, ipv4.DONT_FRAGMENT)
  ipv4.setTtl(mem, ip, TTL)
  ipv4.setProtocol(mem, ip, protocol)
  ipv4.setSrc(mem, ip, source)
  ipv4.setDst(mem, ip, ipv4.src(mem, IP[i]!))
  ipv4.writeChecksum(mem, ip)
  return at
}
