// Tracking: what a packet of a known connection does to it (nf_conntrack_proto_*.c). One function a protocol, called
// with the row and the packet's direction before the packet is changed; each refreshes the row as its protocol asks
// and answers with a verdict. Every update is one i32 store that is valid alone; a timeout follows from the state.
//
// Sequence windows (I-IV of the window test) will be tested where trackTcp() begins, on untranslated numbers.

import { DROP } from '../counters/drop-reasons.ts'
import type { Row, Seconds } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import type { Ports, ProtocolNumber } from '../wire/address.ts'
import { PROTO_GRE, PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import {
  ASSURED,
  type Base,
  baseOf,
  CONN,
  EXPECTED,
  rowAt,
  SEEN_REPLY,
  SIMULTANEOUS_OPEN,
  TCP_STATE_MASK,
  TCP_STATE_SHIFT,
} from './connection-table.ts'
import { cold, hot } from './connections.shard.ts'
import { fault } from './fault-points.ts'
import { dequeue } from './queues.shard.ts'
import * as tcp from './tcp-state.ts'
import type { CtInfo, Direction, Verdict } from './terms.ts'
import {
  ACCEPT,
  ACCEPT_AND_END,
  CT_ESTABLISHED,
  CT_IS_REPLY,
  CT_NEW,
  CT_RELATED,
  destinationPort,
  INSIDE,
  REPEAT,
} from './terms.ts'
import { DEFAULT_TIMEOUTS, type Timeouts, tcpTimeouts } from './timeouts.ts'

const { state: STATE, lastSeen: LAST_SEEN, timeout: TIMEOUT } = CONN
const TCP_FLAGS_ILLEGAL = DROP['tcp-flags']
const TCP_STATE_INVALID = DROP['tcp-state']
const DNS = 53
/** UDP is assured once two-way traffic has lasted longer than this many seconds. */
const UDP_ASSURED_AFTER = 2

let timeouts: Timeouts = DEFAULT_TIMEOUTS
let tcpTimeout = tcpTimeouts(DEFAULT_TIMEOUTS)

export function attachTimeouts(wanted: Timeouts): void {
  timeouts = wanted
  tcpTimeout = tcpTimeouts(wanted)
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

/** The first packet in the reply direction has come: the connection is no longer one that may be recycled. */
function noteReply(base: Base): void {
  dequeue(rowAt(base))
  hot[base + STATE]! |= SEEN_REPLY
  fault('reply noted')
}

/** The timeout that a row's state asks for: they are two stores, and a crash may come between. */
export function timeoutOf(row: Row): Seconds {
  const base = baseOf(row)
  const word = hot[base + STATE]!
  const protocol = word & 0xff
  if (protocol === PROTO_TCP) return tcpTimeout[(word & TCP_STATE_MASK) >> TCP_STATE_SHIFT]!
  const ports = hot[base + CONN.origPorts]!
  if ((word & SEEN_REPLY) !== 0) {
    if (protocol === PROTO_UDP && destinationPort(ports) !== DNS) return timeouts.udpStream
    if (protocol === PROTO_GRE) return timeouts.greStream
  }
  return firstTimeout(protocol, ports)
}

export function trackTcp(base: Base, direction: Direction, flags: number): Verdict {
  const segment = tcp.SEGMENT_OF[flags]!
  if (segment === tcp.ILLEGAL) return TCP_FLAGS_ILLEGAL
  const word = hot[base + STATE]!
  const state = (word & TCP_STATE_MASK) >> TCP_STATE_SHIFT
  const next = tcp.NEXT_STATE[(direction << 7) | (segment << 4) | state]!
  if (next === tcp.ESTABLISHED && state === tcp.ESTABLISHED && (word & ASSURED) !== 0) {
    hot[base + LAST_SEEN] = now
    return ACCEPT
  }
  return changeTcp(base, direction, segment, state, next)
}

function changeTcp(base: Base, direction: Direction, segment: number, state: number, next: number): Verdict {
  if (next === tcp.INVALID) return TCP_STATE_INVALID
  if (next === tcp.IGNORE) return ACCEPT
  // A SYN in TIME_WAIT or CLOSE opens anew.
  if (next === tcp.SYN_SENT && state >= tcp.TIME_WAIT && state !== tcp.SYN_SENT2) return REPEAT
  const replied = (hot[base + STATE]! & SEEN_REPLY) !== 0
  // A reset that is the only answer to a SYN: nobody is there, the port is free at once.
  if (segment === tcp.RST && direction === 1 && !replied) return ACCEPT_AND_END
  if (direction === 1 && !replied) noteReply(base)

  let word = hot[base + STATE]!
  if (next === tcp.SYN_SENT2) word |= SIMULTANEOUS_OPEN
  // The table can't tell a simultaneous open's last ACK, which may come from either end, from an ordinary one.
  const simultaneous = (word & SIMULTANEOUS_OPEN) !== 0
  if (simultaneous && direction === 1 && segment === tcp.ACK && state === tcp.SYN_RECV) next = tcp.ESTABLISHED
  if (next === tcp.ESTABLISHED && (state === tcp.SYN_RECV || state === tcp.ESTABLISHED) && (word & SEEN_REPLY) !== 0)
    word |= ASSURED
  // A SYN sent again without an answer gives the connection no more time. Else lastSeen comes first: if the thread dies
  // here, its successor stores the new state's timeout (timeoutOf), which must not be over already.
  if (next !== tcp.SYN_SENT || replied) hot[base + LAST_SEEN] = now
  hot[base + STATE] = (word & ~TCP_STATE_MASK) | (next << TCP_STATE_SHIFT)
  fault('state changed')
  hot[base + TIMEOUT] = tcpTimeout[next]!
  return ACCEPT
}

/** TIME_WAIT and CLOSE: over, and kept only so that late segments find their way. */
export function isClosed(base: Base): boolean {
  const state = (hot[base + STATE]! & TCP_STATE_MASK) >> TCP_STATE_SHIFT
  return state === tcp.TIME_WAIT || state === tcp.CLOSE
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
  if ((hot[base + STATE]! & SEEN_REPLY) !== 0 && now - cold.created[row]! > UDP_ASSURED_AFTER)
    hot[base + STATE]! |= ASSURED
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
  return ACCEPT
}
