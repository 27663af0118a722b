// Translation of a packet of a known connection: what arrives with the tuple of one direction leaves as the inverse of
// the other direction's tuple (nf_nat_packet). Checksums follow by the deltas that the row holds ready, RFC 1624; under
// virtio-net's NEEDS_CHECKSUM the field holds the pseudo-header's sum only, so only addresses count there.

import { type Base, CONN, rowAt, TUPLE_WORDS } from '../../conntrack/connection-table.ts'
import { hot } from '../../conntrack/connections.shard.ts'
import type { Direction, Ref } from '../../conntrack/terms.ts'
import { invertPorts, refOf } from '../../conntrack/terms.ts'
import type { Ports, ProtocolNumber } from '../../wire/address.ts'
import { addDeltas, applyDelta, applyDeltaToPartial } from '../../wire/checksum.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as portless from '../../wire/portless.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, type At, FIRST_FRAGMENT, IP, KIND, L4, LATER_FRAGMENT } from '../packet/burst.ts'
import { identificationOf } from '../packet/identification.ts'
import { mem } from '../packet/packet-memory.ts'
import { rememberIdentification } from './original-identifications.ts'

const CHECKSUM_DELTA = CONN.checksumDelta
/** Added to the IPv4 header's delta, this takes out of it what the change of the TTL adds. */
const TTL_UNDONE = 1
/** Offset of the checksum from the TTL, as one word: TTL, protocol, checksum. */
const TTL_WORD = 8

/** Rewrites packet i of the row at `base`, going in `direction`: addresses, ports, TTL, identification, checksums. */
export function translate(i: number, base: Base, direction: Direction): void {
  const ip = IP[i]!
  const other = base + (1 - direction) * TUPLE_WORDS
  const delta = hot[base + CHECKSUM_DELTA + direction]!
  const ipDelta = delta & 0xffff
  // One store for TTL and checksum. The delta includes the TTL's.
  const word = mem.getInt32(ip + TTL_WORD, true)
  mem.setInt32(ip + TTL_WORD, ((word & 0xffff) - 1) | (applyDelta(word >>> 16, ipDelta) << 16), true)
  ipv4.setSrc(mem, ip, hot[other + 1]!)
  ipv4.setDst(mem, ip, hot[other]!)
  if (KIND[i]! <= LATER_FRAGMENT) identify(i, refOf(rowAt(base), direction))
  if (KIND[i] === LATER_FRAGMENT) return
  translateTransport(L4[i]!, (word >>> 8) & 0xff, hot[other + 2]!, delta, virtio.needsChecksum(mem, AT[i]!))
}

/** A fragment leaves with its datagram's new identification. */
function identify(i: number, ref: Ref): void {
  const ip = IP[i]!
  const original = ipv4.id(mem, ip)
  const chosen = identificationOf(i)
  if (chosen === original) return
  ipv4.changeId(mem, ip, chosen)
  if (KIND[i] === FIRST_FRAGMENT) rememberIdentification(ref, chosen, original)
}

/** `deltas` has the transport checksum's in its high half, the IPv4 header's in its low one. */
function translateTransport(at: At, protocol: ProtocolNumber, reply: Ports, deltas: number, partial: boolean): void {
  const delta = deltas >>> 16
  const ipDelta = deltas & 0xffff
  if (protocol === ipv4.PROTO_TCP) {
    if (partial) tcp.setChecksum(mem, at, applyDeltaToPartial(tcp.checksum(mem, at), addDeltas(ipDelta, TTL_UNDONE)))
    else tcp.setChecksum(mem, at, applyDelta(tcp.checksum(mem, at), delta))
    tcp.setPorts(mem, at, invertPorts(reply))
  } else if (protocol === ipv4.PROTO_UDP) {
    if (partial) udp.setChecksum(mem, at, applyDeltaToPartial(udp.checksum(mem, at), addDeltas(ipDelta, TTL_UNDONE)))
    else udp.adjustChecksum(mem, at, delta)
    udp.setPorts(mem, at, invertPorts(reply))
  } else if (protocol === ipv4.PROTO_ICMP) {
    const isQuery = icmp.isQuery(icmp.type(mem, at))
    icmp.adjustChecksum(mem, at, delta)
    icmp.setId(mem, at, isQuery ? reply >>> 16 : reply & 0xffff)
  } else if (portless.hasPseudoHeader(protocol)) {
    if (partial) portless.adjustPartialChecksum(mem, at, addDeltas(ipDelta, TTL_UNDONE))
    else portless.adjustChecksum(mem, at, delta)
  }
}
