// The virtio-net header, virtio 1.2 section 5.1.6, as PACKET_VNET_HDR puts it before each frame: which checksum is
// still to be computed, and whether a frame is a super-packet to be cut into segments. Ten bytes, native byte order
// (little-endian here). Every function takes the memory a frame lies in and where its *Ethernet* header begins; the
// virtio-net header ends there. Offsets in it count from the Ethernet header. A frame that is forwarded keeps its
// header, so that checksum and segmentation offload pass through; code that builds a frame clears it.

import { complement, sum } from './checksum.ts'

export const HEADER_LEN = 10
const FLAGS = -10
const GSO_TYPE = -9
const HEADER_LENGTH = -8
const GSO_SIZE = -6
const CHECKSUM_START = -4
const CHECKSUM_OFFSET = -2

/** The checksum field holds the pseudo-header's sum; the rest from checksumStart on is still to be added. */
export const NEEDS_CHECKSUM = 1
/** The transport checksum was verified when the frame was received. */
export const DATA_VALID = 2

export const GSO_NONE = 0
export const GSO_TCPV4 = 1
/** Fragmentation of UDP into IP fragments (obsolete). */
export const GSO_UDP = 3
export const GSO_TCPV6 = 4
/** Segmentation of UDP into datagrams. */
export const GSO_UDP_L4 = 5
/** Set beside the others: the first segment alone carries CWR. */
export const GSO_ECN = 0x80

export const flags = (mem: DataView, at: number): number => mem.getUint8(at + FLAGS)
export const needsChecksum = (mem: DataView, at: number): boolean => (mem.getUint8(at + FLAGS) & NEEDS_CHECKSUM) !== 0
export const gsoType = (mem: DataView, at: number): number => mem.getUint8(at + GSO_TYPE)
/** Ethernet, IP and transport header of a super-packet together: a hint, to be checked before it is trusted. */
export const headerLength = (mem: DataView, at: number): number => mem.getUint16(at + HEADER_LENGTH, true)
/** Payload of each segment of a super-packet. */
export const gsoSize = (mem: DataView, at: number): number => mem.getUint16(at + GSO_SIZE, true)
export const checksumStart = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM_START, true)
/** Counts from checksumStart. */
export const checksumOffset = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM_OFFSET, true)

export const setFlags = (mem: DataView, at: number, value: number): void => mem.setUint8(at + FLAGS, value)
export const setGsoType = (mem: DataView, at: number, value: number): void => mem.setUint8(at + GSO_TYPE, value)
export const setHeaderLength = (mem: DataView, at: number, value: number): void =>
  mem.setUint16(at + HEADER_LENGTH, value, true)
export const setGsoSize = (mem: DataView, at: number, value: number): void => mem.setUint16(at + GSO_SIZE, value, true)
export const setChecksumStart = (mem: DataView, at: number, value: number): void =>
  mem.setUint16(at + CHECKSUM_START, value, true)
export const setChecksumOffset = (mem: DataView, at: number, value: number): void =>
  mem.setUint16(at + CHECKSUM_OFFSET, value, true)

/** A frame as it stands: no offload. */
export function clear(mem: DataView, at: number): void {
  mem.setInt32(at - 10, 0, true)
  mem.setInt32(at - 6, 0, true)
  mem.setInt16(at - 2, 0, true)
}

/**
 * Turns the partial checksum of a frame of `length` bytes into a full one, for a link that can't compute it. Returns
 * whether the frame's checksum is complete now. If not, the frame is as it was: the offsets are nonsense, or it is a
 * super-packet, which has a checksum for each segment. A computed zero is written as ones, as UDP wants it; to TCP both
 * mean the same.
 */
export function completeChecksum(mem: DataView, at: number, length: number): boolean {
  if (!needsChecksum(mem, at)) return true
  const start = checksumStart(mem, at)
  const field = start + checksumOffset(mem, at)
  if (gsoType(mem, at) !== GSO_NONE || field + 2 > length) return false
  mem.setUint16(at + field, complement(sum(mem, at + start, length - start)) || 0xffff, true)
  clear(mem, at)
  return true
}
