// Tracking as the pipeline calls it: by protocol, with what follows from a change of a connection's state for its
// mapping and for recycling (conntrack/track.shard.ts, nat/bindings.shard.ts). Owner: this thread.

import { CONN, CONN_SHIFT, SEEN_REPLY } from '../../conntrack/connection-table.ts'
import { cold, hot } from '../../conntrack/connections.shard.ts'
import type { Direction } from '../../conntrack/terms.ts'
import { isClosed, trackOther, trackTcp, trackUdp } from '../../conntrack/track.shard.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import type { Row } from '../../memory/brand.ts'
import { onClosed, onReplySeen } from '../../nat/bindings.shard.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, FLOW, IP, KEY, KIND, L4, LATER_FRAGMENT } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'

const { state: STATE, packets: PACKETS, bytes: BYTES } = CONN
const TCP_CHECKSUM = DROP['tcp-checksum']
const OFFLOADED = virtio.NEEDS_CHECKSUM | virtio.DATA_VALID
const CLOSING = tcp.FIN | tcp.RST

/** What packet i does to its connection: a verdict. */
export function track(i: number, base: number, direction: Direction): number {
  const before = hot[base + STATE]!
  const verdict = trackByProtocol(i, base, direction)
  const after = hot[base + STATE]!
  if (after !== before) noteChange(base, before, after)
  return verdict
}

function trackByProtocol(i: number, base: number, direction: Direction): number {
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
  if (((before ^ after) & SEEN_REPLY) !== 0) onReplySeen(base >> CONN_SHIFT)
  if ((after & 0xff) === ipv4.PROTO_TCP && isClosed(base)) onClosed(base >> CONN_SHIFT)
}

/** Counts are 32 bits in the row; a count that falls has wrapped. */
export function count(base: number, row: Row, direction: Direction, length: number): void {
  const packets = base + PACKETS + direction
  const bytes = base + BYTES + direction
  hot[packets] = hot[packets]! + 1
  if (hot[packets] === 0) (direction === 0 ? cold.packetWraps : cold.packetWrapsReply)[row]! += 1
  const before = hot[bytes]!
  const after = (before + length) | 0
  hot[bytes] = after
  if (before < 0 && after >= 0) (direction === 0 ? cold.byteWraps : cold.byteWrapsReply)[row]! += 1
}
