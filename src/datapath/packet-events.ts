// A packet's event (conntrack/events.shard.ts): which connection it belonged to, and what became of it. Only while
// somebody listens: connections are looked up here once more, so that the pipeline keeps nothing for it. Owner: this
// thread.

import { baseOf } from '../conntrack/connection-table.ts'
import { findConnection, stateWordOf } from '../conntrack/connections.shard.ts'
import { type PacketNote, packet } from '../conntrack/events.shard.ts'
import type { KeyWord, Ref, Verdict } from '../conntrack/terms.ts'
import {
  ACCEPT,
  CT_IS_REPLY,
  CT_RELATED,
  directionOf,
  HANDED_OVER,
  hashTuple,
  invertPorts,
  keyWord,
  QUEUED,
  rowOf,
} from '../conntrack/terms.ts'
import { ctinfo } from '../conntrack/track.shard.ts'
import type { Addr, Ports } from '../wire/address.ts'
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

/** Instead of protocol and side: the packet is malformed, and was dropped before its tuple was read. */
const NO_KEY = -1

/** The packet in hand, before anything was done with it: its kind, its connection, and what will be reported of it. */
let kind = 0
let ref: Ref = 0
const note: PacketNote = { key: 0, src: 0, dst: 0, ports: 0, verdict: ACCEPT, direction: -1, ctinfo: -1, state: 0 }

/** Packet i is about to be settled. */
export function notePacket(i: number): void {
  kind = KIND[i]!
  const hasTuple = kind < QUEUED
  note.key = hasTuple ? KEY[i]! : NO_KEY
  note.src = hasTuple ? SRC[i]! : 0
  note.dst = hasTuple ? DST[i]! : 0
  note.ports = kind === FLOW ? PORTS[i]! : 0
  ref = kind === FLOW ? find(note.key, note.src, note.dst, note.ports) : kind === ICMP_ERROR ? findEmbedded(i) : 0
}

const find = (key: KeyWord, src: Addr, dst: Addr, ports: Ports): Ref =>
  findConnection(key, src, dst, ports, hashTuple(key, src, dst, ports))

function findEmbedded(i: number): Ref {
  if (!readEmbedded(i)) return 0
  return find(keyWord(protocol, side), ipv4.dst(mem, embedded), ipv4.src(mem, embedded), invertPorts(embeddedPorts))
}

/** Reports packet i, noted before, with this verdict. A packet that was handed over is reported by its new shard. */
export function reportPacket(i: number, verdict: Verdict): void {
  if (verdict === HANDED_OVER) return
  // The ports of a fragment are known by now, if they ever will be.
  if (KIND[i] === LATER_FRAGMENT || KIND[i] === FIRST_FRAGMENT) note.ports = PORTS[i]!
  // The packet may have made a connection, or ended one and made another; the row of an ended one can still be read.
  const hasTuple = kind !== ICMP_ERROR && note.key !== NO_KEY && KIND[i] !== FRAGMENT
  const now = hasTuple ? find(note.key, note.src, note.dst, note.ports) : ref
  const its = now !== 0 ? now : ref
  note.verdict = verdict
  note.direction = -1
  note.ctinfo = -1
  note.state = 0
  if (its !== 0) {
    const direction = directionOf(its)
    note.direction = direction
    note.ctinfo = kind === ICMP_ERROR ? CT_RELATED + direction * CT_IS_REPLY : ctinfo(rowOf(its), direction)
    note.state = stateWordOf(baseOf(rowOf(its)))
  }
  packet(note)
}
