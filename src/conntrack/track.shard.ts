// Tracking: what a packet of a known connection does to it (nf_conntrack_proto_*.c). One function a protocol, called
// with the row and the packet's direction before the packet is changed; each refreshes the row as its protocol asks
// and answers with a verdict. Every update is one i32 store that is valid alone; a timeout follows from the state.
// TCP's is in tcp.shard.ts.

import type { Row, Seconds } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Ports, ProtocolNumber } from '../wire/address.ts'
import { PROTO_GRE, PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { ASSURED, type Base, baseOf, CONN, EXPECTED, rowAt, SEEN_REPLY, TCP_STATE_SHIFT } from './connection-table.ts'
import { cold, hot } from './connections.shard.ts'
import { noteReply } from './tcp.shard.ts'
import * as tcp from './tcp-state.ts'
import { attachTcpTimeouts, tcpTimeoutOf } from './tcp-timeout.shard.ts'
import type { CtInfo, Direction, Verdict } from './terms.ts'
import { ACCEPT, CT_ESTABLISHED, CT_IS_REPLY, CT_NEW, CT_RELATED, destinationPort, INSIDE } from './terms.ts'
import { DEFAULT_TIMEOUTS, type Timeouts, tcpTimeouts } from './timeouts.ts'

const { state: STATE, lastSeen: LAST_SEEN, timeout: TIMEOUT } = CONN
const DNS = 53
/** What has no handshake is assured once two-way traffic has lasted longer than this many seconds. */
const ASSURED_AFTER = 2

let timeouts: Timeouts = DEFAULT_TIMEOUTS
let tcpTimeout = tcpTimeouts(DEFAULT_TIMEOUTS)

export function attachTimeouts(wanted: Timeouts): void {
  timeouts = wanted
  tcpTimeout = tcpTimeouts(wanted)
  attachTcpTimeouts(wanted)
}

/**
 * For a packet that tracking has accepted (nf_ct_get). An ICMP error about the connection is RELATED whatever else,
 * IS_REPLY added if it goes in the direction of its answers.
 */
export function ctinfo(row: Row, direction: Direction): CtInfo {
  if (direction === 1) return CT_ESTABLISHED + CT_IS_REPLY
  const word = hot[baseOf(row) + STATE]!
  if ((word & SEEN_REPLY) !== 0) return CT_ESTABLISHED
  return (word & EXPECTED) !== 0 ? CT_RELATED : CT_NEW
}

export function hasExpired(row: Row): boolean {
  const base = baseOf(row)
  return now - hot[base + LAST_SEEN]! >= hot[base + TIMEOUT]!
}

/** The state word's bits that a connection begins with, from its first packet (of TCP: a SYN, nothing else opens). */
export const firstState = (protocol: ProtocolNumber): number =>
  protocol === PROTO_TCP ? tcp.SYN_SENT << TCP_STATE_SHIFT : 0

/** Seconds that a connection in its first packet's state may wait for more. */
export function firstTimeout(protocol: ProtocolNumber, ports: Ports): Seconds {
  if (protocol === PROTO_TCP) return tcpTimeout[tcp.SYN_SENT]!
  if (protocol === PROTO_UDP) return destinationPort(ports) === DNS ? timeouts.udpDns : timeouts.udpUnreplied
  if (protocol === PROTO_ICMP) return timeouts.icmp
  return protocol === PROTO_GRE ? timeouts.greUnreplied : timeouts.generic
}

/** The timeout that a row's state asks for: they are two stores, and a crash may come between. */
export function timeoutOf(row: Row): Seconds {
  const base = baseOf(row)
  const word = hot[base + STATE]!
  const protocol = word & 0xff
  if (protocol === PROTO_TCP) return tcpTimeoutOf(base)
  const ports = hot[base + CONN.origPorts]!
  if ((word & SEEN_REPLY) !== 0) {
    if (protocol === PROTO_UDP && destinationPort(ports) !== DNS) return timeouts.udpStream
    if (protocol === PROTO_GRE) return timeouts.greStream
  }
  return firstTimeout(protocol, ports)
}

export function trackUdp(base: Base, direction: Direction): Verdict {
  const word = hot[base + STATE]!
  if ((word & ASSURED) !== 0) hot[base + LAST_SEEN] = now
  else changeUdp(base, direction, word)
  return ACCEPT
}

function changeUdp(base: Base, direction: Direction, word: number): void {
  const row = rowAt(base)
  if (direction === 1 && (word & SEEN_REPLY) === 0) {
    noteReply(base)
    if (destinationPort(hot[base + CONN.origPorts]!) !== DNS) hot[base + TIMEOUT] = timeouts.udpStream
  }
  if (!refreshes(base, direction)) return
  hot[base + LAST_SEEN] = now
  if ((hot[base + STATE]! & SEEN_REPLY) !== 0 && now - cold.created[row]! > ASSURED_AFTER) hot[base + STATE]! |= ASSURED
}

/** A sender outside keeps alive only what the inside end has answered (RFC 4787 REQ-6 and its security note). */
function refreshes(base: Base, direction: Direction): boolean {
  const word = hot[base + STATE]!
  const openedInside = ((word >> 8) & 1) === INSIDE
  return openedInside || direction === 1 || (word & SEEN_REPLY) !== 0
}

/** ICMP queries, and protocols of which only the addresses are known. */
export function trackOther(base: Base, direction: Direction, protocol: ProtocolNumber): Verdict {
  if (direction === 1 && (hot[base + STATE]! & SEEN_REPLY) === 0) {
    noteReply(base)
    if (protocol === PROTO_GRE) hot[base + TIMEOUT] = timeouts.greStream
  }
  if (refreshes(base, direction)) hot[base + LAST_SEEN] = now
  if ((hot[base + STATE]! & (SEEN_REPLY | ASSURED)) === SEEN_REPLY) assureTunnel(base, protocol)
  return ACCEPT
}

/**
 * A tunnel without ports is in use as UDP is. (Linux assures GRE at its first answer and the others never, so that it
 * may end an ESP tunnel in use to make room.) A ping is not: each of its queries stands for itself. What other
 * protocols have here is fragments, which show no state.
 */
function assureTunnel(base: Base, protocol: ProtocolNumber): void {
  if (protocol === PROTO_ICMP || protocol === PROTO_TCP || protocol === PROTO_UDP) return
  if (now - cold.created[rowAt(base)]! > ASSURED_AFTER) hot[base + STATE]! |= ASSURED
}
