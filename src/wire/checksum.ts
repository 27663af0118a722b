// The Internet checksum: computed (RFC 1071), changed in step with the data (RFC 1624), and as TCP, UDP and ICMP carry
// it. All arithmetic is on words as loaded (little-endian): one's complement addition does not care about byte order
// (RFC 1071 2(B)), so nothing is swapped. Words are counted from an even distance to the start of what is summed: a
// 16-bit field at an odd distance enters with its bytes swapped.
//
// One's complement has two zeros, and these are the rules that keep the incremental way equal to the full one:
//   - A sum is 0x0000 only if everything in it is zero; any other sum of zero is 0xffff. IPv4 headers and
//     pseudo-headers are never all zero, so their sums are 1..0xffff, and their checksums 0..0xfffe.
//   - A delta may be 0xffff (nothing changed) or 0 (0xffff became 0); both leave a sum of 1..0xffff as it is.
//   - So applyDelta and applyDeltaToPartial give exactly what a full computation over the changed data gives, if what
//     they started from was that of the old data. If that was wrong, the result is wrong: a bad sum stays bad.
//   - UDP: 0 on the wire means "none was computed" and stays; a computed 0 is sent as 0xffff (RFC 768). See
//     udp.adjustChecksum. 0xffff as the old value is understood as the 0 that it stands for.
//   - ICMP has no pseudo-header: an echo reply with identifier, sequence number and data of zeros does sum up to 0. See
//     icmp.adjustChecksum.

import { type Addr, type ProtocolNumber, swap16 } from './address.ts'
import * as ipv4 from './ipv4.ts'
import { fold } from './ones-complement.ts'

/**
 * The folded sum of `length` bytes (at most 128 KiB) and of `start`, a folded sum; an odd last byte is filled up with
 * a zero. Halves of each word go to accumulators of their own, which stay small integers: no carry is ever lost.
 */
export function sum(mem: DataView, at: number, length: number, start = 0): number {
  let low = start
  let high = 0
  const end = at + length
  let i = at
  for (const last = end - 16; i <= last; i += 16) {
    const a = mem.getInt32(i, true)
    const b = mem.getInt32(i + 4, true)
    const c = mem.getInt32(i + 8, true)
    const d = mem.getInt32(i + 12, true)
    low += (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff)
    high += (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)
  }
  for (const last = end - 2; i <= last; i += 2) low += mem.getUint16(i, true)
  if (i < end) low += mem.getUint8(i)
  return fold(fold(low) + fold(high))
}

/** Turns a folded sum into a checksum, and back. */
export const complement = (folded: number): number => ~folded & 0xffff

// --- RFC 1624: HC' = ~(~HC + ~m + m'), where ~m + m' is the delta ---

/** What a sum gains when the 16 bits `from` become `to`. */
export const delta16 = (from: number, to: number): number => fold((~from & 0xffff) + (to & 0xffff))

/** What a sum gains when 32 bits change: an address, a word of ports. */
export const delta32 = (from: number, to: number): number =>
  fold((~from & 0xffff) + (~from >>> 16) + (to & 0xffff) + (to >>> 16))

/** The delta of two changes together. */
export const addDeltas = (a: number, b: number): number => fold(a + b)

/** The checksum after a change of the data. */
export const applyDelta = (checksum: number, delta: number): number => complement(fold(complement(checksum) + delta))

/**
 * The checksum field after a change of the data, where the field holds the sum of the pseudo-header only, not
 * complemented (virtio-net NEEDS_CHECKSUM). Only changes of the pseudo-header count: addresses and length, not ports.
 */
export const applyDeltaToPartial = (field: number, delta: number): number => fold(field + delta)

// --- the checksum of TCP, UDP and ICMP ---

/** The folded sum of the pseudo-header, never 0; `length` is that of the transport header and its payload. */
export const pseudoHeader = (src: Addr, dst: Addr, protocol: ProtocolNumber, length: number): number =>
  fold((src & 0xffff) + (src >>> 16) + (dst & 0xffff) + (dst >>> 16) + (protocol << 8) + swap16(length))

const TCP_CHECKSUM = 16
const UDP_LENGTH = 4
const UDP_CHECKSUM = 6
const ICMP_CHECKSUM = 2

/** How far into the transport header the checksum lies, or -1 for a protocol other than TCP, UDP and ICMP. */
export function checksumOffset(protocol: ProtocolNumber): number {
  if (protocol === ipv4.PROTO_TCP) return TCP_CHECKSUM
  if (protocol === ipv4.PROTO_UDP) return UDP_CHECKSUM
  return protocol === ipv4.PROTO_ICMP ? ICMP_CHECKSUM : -1
}

/** The folded sum over pseudo-header (not for ICMP), transport header and payload, as long as the packet says. */
function transportSum(mem: DataView, ipAt: number): number {
  const protocol = ipv4.protocol(mem, ipAt)
  const at = ipAt + ipv4.headerLen(mem, ipAt)
  const length =
    protocol === ipv4.PROTO_UDP ? mem.getUint16(at + UDP_LENGTH) : ipv4.totalLength(mem, ipAt) - (at - ipAt)
  const start =
    protocol === ipv4.PROTO_ICMP ? 0 : pseudoHeader(ipv4.src(mem, ipAt), ipv4.dst(mem, ipAt), protocol, length)
  return sum(mem, at, length, start)
}

/**
 * Whether the transport checksum is right, or there is none: a UDP zero, another protocol. The packet at `ipAt` is no
 * fragment, its IPv4 and its transport header fit, and its virtio-net header says neither NEEDS_CHECKSUM (the field is
 * not a checksum) nor DATA_VALID (already verified).
 */
export function transportChecksumOk(mem: DataView, ipAt: number): boolean {
  const protocol = ipv4.protocol(mem, ipAt)
  const offset = checksumOffset(protocol)
  if (offset < 0) return true
  const field = ipAt + ipv4.headerLen(mem, ipAt) + offset
  if (protocol === ipv4.PROTO_UDP && mem.getUint16(field) === 0) return true
  return transportSum(mem, ipAt) === 0xffff
}

/**
 * Computes the transport checksum in full and writes it, under the conditions of transportChecksumOk. A packet of
 * another protocol stays as it is.
 */
export function writeTransportChecksum(mem: DataView, ipAt: number): void {
  const protocol = ipv4.protocol(mem, ipAt)
  const offset = checksumOffset(protocol)
  if (offset < 0) return
  const field = ipAt + ipv4.headerLen(mem, ipAt) + offset
  mem.setUint16(field, 0)
  const computed = complement(transportSum(mem, ipAt))
  mem.setUint16(field, protocol === ipv4.PROTO_UDP ? computed || 0xffff : computed, true)
}
