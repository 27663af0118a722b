// Protocols that natloom knows no ports of, and whose checksum covers the addresses all the same, by a pseudo-header:
// UDP-Lite (RFC 3828 3.1) and DCCP (RFC 4340 9.1). Both have the checksum at the same place. What else is routed over
// IPv4 without TCP or UDP has none (GRE, ESP, SCTP, IGMP, OSPF, PIM, RSVP, L2TP), or an integrity check that no
// translation survives (AH, RFC 4302 3.3.3). Every function takes the memory a packet lies in and where its transport
// header begins.

import type { ProtocolNumber } from './address.ts'
import { applyDelta, applyDeltaToPartial } from './checksum.ts'
import { PROTO_DCCP, PROTO_UDPLITE } from './ipv4.ts'

const CHECKSUM = 6
/** As much of the header as has to be there: the checksum is the last of it. */
export const MIN_HEADER_LEN = 8

export const hasPseudoHeader = (protocol: ProtocolNumber): boolean =>
  protocol === PROTO_UDPLITE || protocol === PROTO_DCCP

/**
 * Repairs the checksum after a change of the addresses. Either protocol's covers the pseudo-header whatever part of
 * the payload it covers. A sum of zero is sent as ones, which UDP-Lite demands and DCCP's receivers take for the same.
 */
export function adjustChecksum(mem: DataView, at: number, delta: number): void {
  const field = at + CHECKSUM
  mem.setUint16(field, applyDelta(mem.getUint16(field, true), delta) || 0xffff, true)
}

/** The same where the field holds the sum of the pseudo-header only (virtio-net NEEDS_CHECKSUM). */
export function adjustPartialChecksum(mem: DataView, at: number, delta: number): void {
  const field = at + CHECKSUM
  mem.setUint16(field, applyDeltaToPartial(mem.getUint16(field, true), delta), true)
}
