// A packet's event (conntrack/events.shard.ts): which connection it belonged to, and what became of it. Only while somebody
// listens: connections are looked up here once more, so that the pipeline keeps nothing for it. Owner: this thread.

import { CONN, CONN_SHIFT } from '../conntrack/connection-table.ts'
import { findConnection, hot } from '../conntrack/connections.shard.ts'
import { packet } from '../conntrack/events.shard.ts'
import type { Verdict } from '../conntrack/terms.ts'
import {
  CT_IS_REPLY,
  CT_RELATED,
  directionOf,
  HANDED_OVER,
  hashTuple,
  invertPorts,
  QUEUED,
} from '../conntrack/terms.ts'
import { ctinfo } from '../conntrack/track.shard.ts'
import * as ipv4 from '../wire/ipv4.ts'
import { embedded, embeddedPorts, protocol, readEmbedded } from './icmp/embedded-packet.ts'
import {
  DST,
  FIRST_FRAGMENT,
  FLOW,
  FRAGMENT,
  ICMP_ERROR,
  KEY,
  KIND,
  LATER_FRAGMENT,
  PORTS,
  SRC,
  side,
} from './packet/burst.ts'
import { mem } from './packet/packet-memory.ts'

/** No protocol and side: what was wrong with the packet was seen before its tuple. */
const NO_KEY = -1

// Of the packet in hand, before anything was done with it.
let kind = 0
let key = 0
let src = 0
let dst = 0
let ports = 0
/** Row << 1 | direction. */
let ref = 0

/** Packet i is about to be settled. */
export function notePacket(i: number): void {
  kind = KIND[i]!
  const hasTuple = kind < QUEUED
  key = hasTuple ? KEY[i]! : NO_KEY
  src = hasTuple ? SRC[i]! : 0
  dst = hasTuple ? DST[i]! : 0
  ports = kind === FLOW ? PORTS[i]! : 0
  ref = kind === FLOW ? find() : kind === ICMP_ERROR ? findEmbedded(i) : 0
}

const find = (): number => findConnection(src, dst, ports, key, hashTuple(src, dst, ports, key))

function findEmbedded(i: number): number {
  if (!readEmbedded(i)) return 0
  const answer = invertPorts(embeddedPorts)
  const [from, to, of] = [ipv4.dst(mem, embedded), ipv4.src(mem, embedded), protocol | (side << 8)]
  return findConnection(from, to, answer, of, hashTuple(from, to, answer, of))
}

/** Packet i, noted before, has this verdict. One that another shard has now is told of there. */
export function reportPacket(i: number, verdict: Verdict): void {
  if (verdict === HANDED_OVER) return
  // The ports of a fragment are known by now, if they ever will be.
  if (KIND[i] === LATER_FRAGMENT || KIND[i] === FIRST_FRAGMENT) ports = PORTS[i]!
  // It may have made the connection, or ended one and made another; of one that it has ended the words still stand.
  const hasTuple = kind !== ICMP_ERROR && key !== NO_KEY && KIND[i] !== FRAGMENT
  const now = hasTuple ? find() : ref
  const its = now !== 0 ? now : ref
  if (its === 0) {
    packet(key, src, dst, ports, verdict, -1, -1, 0)
    return
  }
  const direction = directionOf(its)
  const info = kind === ICMP_ERROR ? CT_RELATED + direction * CT_IS_REPLY : ctinfo(its >> 1, direction)
  packet(key, src, dst, ports, verdict, direction, info, hot[((its >> 1) << CONN_SHIFT) + CONN.state]!)
}
