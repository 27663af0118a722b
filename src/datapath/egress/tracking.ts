// Tracking as the pipeline calls it: by protocol, with what follows from a change of a connection's state for its
// mapping and for recycling (conntrack/track.shard.ts, nat/bindings.shard.ts). Owner: this thread.

import { ASSURED, type Base, CONN, rowAt, SEEN_REPLY } from '../../conntrack/connection-table.ts'
import { cold, hot } from '../../conntrack/connections.shard.ts'
import { applyTcp, closeTcp, examineTcp, isBelieved, isMomentous, passUnexamined } from '../../conntrack/tcp.shard.ts'
import { isEstablished, trackEstablished } from '../../conntrack/tcp-established.shard.ts'
import { readSegment } from '../../conntrack/tcp-segment.ts'
import { ACCEPT, type Direction, protocolIn, REPEAT, type Verdict } from '../../conntrack/terms.ts'
import { trackOther, trackUdp } from '../../conntrack/track.shard.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import type { Row } from '../../memory/brand.ts'
import { onReplySeen, requeue } from '../../nat/bindings.shard.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, END, FIRST_FRAGMENT, FLOW, IP, KEY, KIND, L4, LATER_FRAGMENT } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'
import { extendByLaterFragment, noteFirstFragment } from './fragmented-segments.ts'

const { state: STATE, packets: PACKETS, bytes: BYTES } = CONN
const TCP_CHECKSUM = DROP['tcp-checksum']
const OFFLOADED = virtio.NEEDS_CHECKSUM | virtio.DATA_VALID

/** Notes in its connection's row what packet i does to it; the verdict says whether the packet may go on. */
export function track(i: number, base: Base, direction: Direction): Verdict {
  const before = hot[base + STATE]!
  // Nearly all packets are of connections that are assured, and change nothing but numbers and times.
  if (KIND[i] === FLOW) {
    const protocol = protocolIn(KEY[i]!)
    if (protocol === ipv4.PROTO_TCP) {
      const length = END[i]! - L4[i]!
      if (isEstablished(before) && trackEstablished(mem, L4[i]!, length, base, direction)) return ACCEPT
    } else if (protocol === ipv4.PROTO_UDP && (before & ASSURED) !== 0) return trackUdp(base, direction)
  }
  const verdict = trackByProtocol(i, base, direction)
  const after = hot[base + STATE]!
  if (after !== before) noteChange(base, before, after)
  return verdict
}

/**
 * The first half of track(), for a packet that something else may still keep from going on: the verdict, and nothing is
 * noted. Only TCP has one; whatever else comes is accepted.
 */
export function examine(i: number, base: Base, direction: Direction): Verdict {
  if (protocolIn(KEY[i]!) !== ipv4.PROTO_TCP) return ACCEPT
  if (KIND[i] === LATER_FRAGMENT) return passUnexamined()
  readSegment(mem, L4[i]!, END[i]! - L4[i]!)
  return examineTcp(base, direction)
}

/** The second half: the packet that was just examined goes on, or waits here to go on later. */
export function note(i: number, base: Base, direction: Direction): void {
  const before = hot[base + STATE]!
  const protocol = protocolIn(KEY[i]!)
  if (KIND[i] === LATER_FRAGMENT) trackLaterFragment(i, base, direction)
  else if (protocol === ipv4.PROTO_TCP) apply(i, base, direction)
  else if (protocol === ipv4.PROTO_UDP) trackUdp(base, direction)
  else trackOther(base, direction, protocol)
  const after = hot[base + STATE]!
  if (after !== before) noteChange(base, before, after)
}

/** The gateway itself has reset the connection. */
export function trackReset(base: Base): void {
  const before = hot[base + STATE]!
  closeTcp(base)
  noteChange(base, before, hot[base + STATE]!)
}

function trackByProtocol(i: number, base: Base, direction: Direction): Verdict {
  const protocol = protocolIn(KEY[i]!)
  if (KIND[i] === LATER_FRAGMENT) return trackLaterFragment(i, base, direction)
  if (protocol === ipv4.PROTO_UDP) return trackUdp(base, direction)
  if (protocol !== ipv4.PROTO_TCP) return trackOther(base, direction, protocol)
  readSegment(mem, L4[i]!, END[i]! - L4[i]!)
  const verdict = examineTcp(base, direction)
  if (verdict >= 0) return verdict
  // A segment that changes more than the windows of a flow must be intact. Elsewhere a wrong checksum stays wrong, for
  // the receiver to see: to sum up every segment would cost more than all else that is done with it.
  if ((verdict !== ACCEPT || isMomentous(base, direction)) && !transportIntact(i)) return TCP_CHECKSUM
  if (verdict !== REPEAT) apply(i, base, direction)
  return verdict
}

/** Packet i, the segment that was examined, goes on. */
function apply(i: number, base: Base, direction: Direction): void {
  applyTcp(base, direction)
  if (KIND[i] === FIRST_FRAGMENT && isBelieved()) noteFirstFragment(i)
}

/**
 * Packet i follows a first fragment that was tracked. Of TCP that one has the numbers: what it has not changed, because
 * it was not believed, the rest of the segment can't either.
 */
function trackLaterFragment(i: number, base: Base, direction: Direction): Verdict {
  const protocol = protocolIn(KEY[i]!)
  if (protocol !== ipv4.PROTO_TCP) return trackOther(base, direction, protocol)
  extendByLaterFragment(i)
  return ACCEPT
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
  requeue(rowAt(base))
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
