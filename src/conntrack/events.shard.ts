// What this shard tells about connections, expectations and packets (nf_conntrack_ecache.c): each function writes one
// record into the shard's event ring (memory/event-ring.ts), if a reader wants that kind. The records' words have
// names (event-table.ts); addresses and ports are as loaded (terms.ts).
//
// Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { cutEvents, EVENT, EventWriter } from '../memory/event-ring.ts'
import type { Addr, Ports } from '../wire/address.ts'
import { baseOf, CONN } from './connection-table.ts'
import { cold, hot } from './connections.shard.ts'
import { EXPECT_EVENT, type ExpectEnd, FLOW_EVENT, PACKET_EVENT } from './event-table.ts'
import { EXPECTATION } from './expectation-table.ts'
import type { CtInfo, Direction, KeyWord, Verdict } from './terms.ts'

type EventKind = (typeof EVENT)[keyof typeof EVENT]

const events = new EventWriter(cutEvents(attached().events))
const { records } = events

/** True if a reader wants an event for each packet. */
export const packetsWanted = (): boolean => events.wants(EVENT.packet)

/** A connection has begun, and its row says all of it. */
export function flowNew(row: Row): void {
  if (events.wants(EVENT.flowNew)) flow(EVENT.flowNew, row)
}

/** A connection is about to end. */
export function flowEnd(row: Row): void {
  if (events.wants(EVENT.flowEnd)) flow(EVENT.flowEnd, row)
}

function flow(kind: EventKind, row: Row): void {
  const at = events.begin(kind, now)
  if (at < 0) return
  const base = baseOf(row)
  records[at + FLOW_EVENT.state] = hot[base + CONN.state]!
  records[at + FLOW_EVENT.origSrc] = hot[base + CONN.origSrc]!
  records[at + FLOW_EVENT.origDst] = hot[base + CONN.origDst]!
  records[at + FLOW_EVENT.origPorts] = hot[base + CONN.origPorts]!
  records[at + FLOW_EVENT.replySrc] = hot[base + CONN.replySrc]!
  records[at + FLOW_EVENT.replyDst] = hot[base + CONN.replyDst]!
  records[at + FLOW_EVENT.replyPorts] = hot[base + CONN.replyPorts]!
  records[at + FLOW_EVENT.row] = row
  records[at + FLOW_EVENT.generation] = hot[base + CONN.generation]!
  records[at + FLOW_EVENT.masterShard] = cold.masterShard[row]!
  records[at + FLOW_EVENT.masterRow] = cold.masterRow[row]!
  records[at + FLOW_EVENT.masterGeneration] = cold.masterGeneration[row]!
  events.end()
}

// Of an expectation: the table's words, and where those of its slot begin. To be called while the slot is its caller's.

export function expectNew(fields: Int32Array, base: number): void {
  if (events.wants(EVENT.expectNew)) expectation(EVENT.expectNew, fields, base, 0)
}

export function expectMatch(fields: Int32Array, base: number): void {
  if (events.wants(EVENT.expectMatch)) expectation(EVENT.expectMatch, fields, base, 0)
}

export function expectEnd(fields: Int32Array, base: number, cause: ExpectEnd): void {
  if (events.wants(EVENT.expectEnd)) expectation(EVENT.expectEnd, fields, base, cause)
}

function expectation(kind: EventKind, fields: Int32Array, base: number, cause: ExpectEnd): void {
  const at = events.begin(kind, now)
  if (at < 0) return
  records[at + EXPECT_EVENT.key] = fields[base + EXPECTATION.key]!
  records[at + EXPECT_EVENT.src] = fields[base + EXPECTATION.src]!
  records[at + EXPECT_EVENT.srcMask] = fields[base + EXPECTATION.srcMask]!
  records[at + EXPECT_EVENT.srcPort] = fields[base + EXPECTATION.srcPort]!
  records[at + EXPECT_EVENT.savedAddress] = fields[base + EXPECTATION.savedAddress]!
  records[at + EXPECT_EVENT.savedPort] = fields[base + EXPECTATION.savedPort]!
  records[at + EXPECT_EVENT.helper] = fields[base + EXPECTATION.helper]!
  records[at + EXPECT_EVENT.class] = fields[base + EXPECTATION.class]!
  records[at + EXPECT_EVENT.masterSrc] = fields[base + EXPECTATION.masterSrc]!
  records[at + EXPECT_EVENT.masterDst] = fields[base + EXPECTATION.masterDst]!
  records[at + EXPECT_EVENT.masterPorts] = fields[base + EXPECTATION.masterPorts]!
  records[at + EXPECT_EVENT.masterKey] = fields[base + EXPECTATION.masterKey]!
  records[at + EXPECT_EVENT.ticket] = fields[base + EXPECTATION.ticket]!
  records[at + EXPECT_EVENT.cause] = cause
  events.end()
}

/** A packet, and what became of it: the words of PACKET_EVENT. */
export interface PacketNote {
  key: KeyWord
  src: Addr
  dst: Addr
  ports: Ports
  verdict: Verdict
  /** -1: it belongs to no connection. */
  direction: Direction | -1
  /** What it is to its connection (track.shard.ts), -1 without one. */
  ctinfo: CtInfo | -1
  /** The connection's state word after it, 0 without one. */
  state: number
}

/** What became of a packet. Ask packetsWanted() before. */
export function packet(note: PacketNote): void {
  const at = events.begin(EVENT.packet, now)
  if (at < 0) return
  records[at + PACKET_EVENT.key] = note.key
  records[at + PACKET_EVENT.src] = note.src
  records[at + PACKET_EVENT.dst] = note.dst
  records[at + PACKET_EVENT.ports] = note.ports
  records[at + PACKET_EVENT.verdict] = note.verdict
  records[at + PACKET_EVENT.direction] = note.direction
  records[at + PACKET_EVENT.ctinfo] = note.ctinfo
  records[at + PACKET_EVENT.state] = note.state
  events.end()
}
