// What this shard tells about connections, expectations and packets (nf_conntrack_ecache.c): each function writes one
// record into the shard's event ring (memory/event-ring.ts), if anybody wants to hear of it. Whoever reads them has the
// records' words by name (event-table.ts); addresses and ports are as loaded (terms.ts).
//
// Owner: the shard.

import { attached } from '../memory/attached.ts'
import type { Row } from '../memory/brand.ts'
import { now } from '../memory/clock.ts'
import { cutEvents, EVENT, EventWriter } from '../memory/event-ring.ts'
import type { Addr, Ports } from '../wire/address.ts'
import { CONN, CONN_SHIFT } from './connection-table.ts'
import { cold, hot } from './connections.shard.ts'
import { EXPECT_EVENT, FLOW_EVENT, PACKET_EVENT } from './event-table.ts'
import { EXPECTATION } from './expectation-table.ts'
import type { Direction, KeyWord, Verdict } from './terms.ts'

const events = new EventWriter(cutEvents(attached().events))
const { records } = events

/** Each packet is wanted. */
export const packetsWanted = (): boolean => events.wants(EVENT.packet)

/** A connection has begun, and its row says all of it. */
export function flowNew(row: Row): void {
  if (events.wants(EVENT.flowNew)) flow(EVENT.flowNew, row)
}

/** A connection is about to end. */
export function flowEnd(row: Row): void {
  if (events.wants(EVENT.flowEnd)) flow(EVENT.flowEnd, row)
}

function flow(kind: number, row: Row): void {
  const at = events.begin(kind, now)
  if (at < 0) return
  const base = row << CONN_SHIFT
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

// Of an expectation: the table's words, and where the slot's begin. To be called while the slot is its caller's.

export function expectNew(fields: Int32Array, slot: number): void {
  if (events.wants(EVENT.expectNew)) expectation(EVENT.expectNew, fields, slot, 0)
}

export function expectMatch(fields: Int32Array, slot: number): void {
  if (events.wants(EVENT.expectMatch)) expectation(EVENT.expectMatch, fields, slot, 0)
}

/** `cause`: an index of EXPECT_ENDS. */
export function expectEnd(fields: Int32Array, slot: number, cause: number): void {
  if (events.wants(EVENT.expectEnd)) expectation(EVENT.expectEnd, fields, slot, cause)
}

function expectation(kind: number, fields: Int32Array, slot: number, cause: number): void {
  const at = events.begin(kind, now)
  if (at < 0) return
  records[at + EXPECT_EVENT.key] = fields[slot + EXPECTATION.key]!
  records[at + EXPECT_EVENT.src] = fields[slot + EXPECTATION.src]!
  records[at + EXPECT_EVENT.srcMask] = fields[slot + EXPECTATION.srcMask]!
  records[at + EXPECT_EVENT.srcPort] = fields[slot + EXPECTATION.srcPort]!
  records[at + EXPECT_EVENT.savedAddress] = fields[slot + EXPECTATION.savedAddress]!
  records[at + EXPECT_EVENT.savedPort] = fields[slot + EXPECTATION.savedPort]!
  records[at + EXPECT_EVENT.helper] = fields[slot + EXPECTATION.helper]!
  records[at + EXPECT_EVENT.class] = fields[slot + EXPECTATION.class]!
  records[at + EXPECT_EVENT.masterSrc] = fields[slot + EXPECTATION.masterSrc]!
  records[at + EXPECT_EVENT.masterDst] = fields[slot + EXPECTATION.masterDst]!
  records[at + EXPECT_EVENT.masterPorts] = fields[slot + EXPECTATION.masterPorts]!
  records[at + EXPECT_EVENT.masterKey] = fields[slot + EXPECTATION.masterKey]!
  records[at + EXPECT_EVENT.ticket] = fields[slot + EXPECTATION.ticket]!
  records[at + EXPECT_EVENT.cause] = cause
  events.end()
}

/** What became of a packet. Ask packetsWanted() before. */
export function packet(
  key: KeyWord,
  src: Addr,
  dst: Addr,
  ports: Ports,
  verdict: Verdict,
  direction: Direction | -1,
  info: number,
  state: number,
): void {
  const at = events.begin(EVENT.packet, now)
  if (at < 0) return
  records[at + PACKET_EVENT.key] = key
  records[at + PACKET_EVENT.src] = src
  records[at + PACKET_EVENT.dst] = dst
  records[at + PACKET_EVENT.ports] = ports
  records[at + PACKET_EVENT.verdict] = verdict
  records[at + PACKET_EVENT.direction] = direction
  records[at + PACKET_EVENT.ctinfo] = info
  records[at + PACKET_EVENT.state] = state
  events.end()
}
