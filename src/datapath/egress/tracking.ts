// Tracking as the pipeline calls it: by protocol, with what follows from a change of a connection's state for its
// mapping and for recycling (conntrack/track.shard.ts, nat/bindings.shard.ts). Owner: this thread.

import { type Base, CONN, rowAt, SEEN_REPLY } from '../../conntrack/connection-table.ts'
import { cold, hot } from '../../conntrack/connections.shard.ts'
import { type Direction, protocolIn, type Verdict } from '../../conntrack/terms.ts'
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

/** Notes in its connection's row what packet i does to it; the verdict says whether the packet may go on. */
export function track(i: number, base: Base, direction: Direction): Verdict {
  const before = hot[base + STATE]!
  const verdict = trackByProtocol(i, base, direction)
  const after = hot[base + STATE]!
  if (after !== before) noteChange(base, before, after)
  return verdict
}

/** A reset that the gateway itself sends ends the connection, as one from the sender of this direction would. */
export function trackReset(base: Base, direction: Direction): void {
  const before = hot[base + STATE]!
  trackTcp(base, direction, tcp.RST)
  noteChange(base, before, hot[base + STATE]!)
}

function trackByProtocol(i: number, base: Base, direction: Direction): Verdict {
  const protocol = protocolIn(KEY[i]!)
  if (KIND[i] === LATER_FRAGMENT) return trackOther(base, direction, protocol)
  if (protocol === ipv4.PROTO_UDP) return trackUdp(base, direction)
  if (protocol !== ipv4.PROTO_TCP) return trackOther(base, direction, protocol)
  const flags = tcp.flags(mem, L4[i]!)
  // A segment that closes the connection must be intact; elsewhere a wrong checksum stays wrong, for the receiver to
  // see.
  if ((flags & CLOSING) !== 0 && !transportIntact(i)) return TCP_CHECKSUM
  return trackTcp(base, direction, flags)
}

/**
 * The transport checksum is right; or the link vouches for it or will write it (offloading); or it covers fragments.
 */
export function transportIntact(i: number): boolean {
  if (KIND[i] !== FLOW || (virtio.flags(mem, AT[i]!) & OFFLOADED) !== 0) return true
  return checksum.transportChecksumOk(mem, IP[i]!)
}

/** Tracking has changed the row's state word: what follows from it for mappings and recycling. */
function noteChange(base: Base, before: number, after: number): void {
  if (((before ^ after) & SEEN_REPLY) !== 0) onReplySeen(rowAt(base))
  if ((after & 0xff) === ipv4.PROTO_TCP && isClosed(base)) onClosed(rowAt(base))
}

/** Counts a packet. Counts are 32 bits in the row; how often each has wrapped is counted beside it. */
export function count(base: Base, row: Row, direction: Direction, length: number): void {
  const packets = base + PACKETS + direction
  const bytes = base + BYTES + direction
  hot[packets] = hot[packets]! + 1
  if (hot[packets] === 0) (direction === 0 ? cold.packetWraps : cold.packetWrapsReply)[row]! += 1
  const before = hot[bytes]!
  const after = (before + length) | 0
  hot[bytes] = after
  if (before < 0 && after >= 0) (direction === 0 ? cold.byteWraps : cold.byteWrapsReply)[row]! += 1
}
