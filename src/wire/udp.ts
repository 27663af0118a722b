// UDP, RFC 768. Every function takes the memory a packet lies in and where its UDP header begins. The checksum and the
// word of ports are as loaded, all else is in numeric order.

import type { PortHost, Ports } from './address.ts'
import { applyDelta } from './checksum.ts'

const SRC_PORT = 0
const DST_PORT = 2
const LENGTH = 4
const CHECKSUM = 6
export const HEADER_LEN = 8

/** No function below reads past `end` if this is true. Ask once, before any of them. */
export const fits = (mem: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_LEN && length(mem, at) >= HEADER_LEN && length(mem, at) <= end - at

/** Both ports as loaded: the source in the low half, network byte order within. */
export const ports = (mem: DataView, at: number): Ports => mem.getInt32(at + SRC_PORT, true)
export const srcPort = (mem: DataView, at: number): PortHost => mem.getUint16(at + SRC_PORT)
export const dstPort = (mem: DataView, at: number): PortHost => mem.getUint16(at + DST_PORT)
/** Header and payload in bytes. */
export const length = (mem: DataView, at: number): number => mem.getUint16(at + LENGTH)
/** As loaded; 0 means that none was computed. */
export const checksum = (mem: DataView, at: number): number => mem.getUint16(at + CHECKSUM, true)

export const setPorts = (mem: DataView, at: number, word: Ports): void => mem.setInt32(at + SRC_PORT, word, true)
export const setLength = (mem: DataView, at: number, value: number): void => mem.setUint16(at + LENGTH, value)
export const setChecksum = (mem: DataView, at: number, value: number): void => mem.setUint16(at + CHECKSUM, value, true)

/** Repairs the checksum after a change of the data: a zero stays zero, and a computed zero is sent as ones. */
export function adjustChecksum(mem: DataView, at: number, delta: number): void {
  const old = checksum(mem, at)
  if (old !== 0) setChecksum(mem, at, applyDelta(old, delta) || 0xffff)
}

/** Writes the header of a datagram with this much payload; the checksum is left zero for writeTransportChecksum. */
export function emit(mem: DataView, at: number, srcPort: PortHost, dstPort: PortHost, payloadLength: number): void {
  mem.setUint16(at + SRC_PORT, srcPort)
  mem.setUint16(at + DST_PORT, dstPort)
  setLength(mem, at, HEADER_LEN + payloadLength)
  setChecksum(mem, at, 0)
}
