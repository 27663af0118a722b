// Frames that the driver tests send: numbered ones, and TCP segments that need offloads. Authority: linux/virtio_net.h
// (struct virtio_net_hdr, little-endian).

import { VIRTIO_NET_HEADER } from '../../src/io/driver.ts'

const ETH = 14
const IP = 20
const TCP = 20
const NEEDS_CSUM = 1
const GSO_TCPV4 = 1

/** The address of a driver's end of every link under test. */
export const NEAR_MAC = '02:00:00:00:00:02'

/**
 * A frame to NEAR_MAC that says it has IPv4, with a number where the packet should begin and, behind it, bytes that
 * follow from the number and their position. The kernel, to which that is no packet, discards it.
 */
export function numbered(number: number, length = 60): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, i) => number * 7 + i)
  const view = new DataView(frame.buffer)
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1])
  view.setUint16(12, 0x0800)
  view.setUint32(ETH, number)
  return frame
}

export const numberOf = (frame: Uint8Array): number => new DataView(frame.buffer, frame.byteOffset).getUint32(ETH)

/** The same frame with an 802.1Q tag. */
export function tagged(frame: Uint8Array, vlan: number): Uint8Array {
  return Uint8Array.of(...frame.subarray(0, 12), 0x81, 0, vlan >> 8, vlan & 0xff, ...frame.subarray(12))
}

/** A TCP segment whose checksum is left to the link; with gsoSize the link also cuts it into segments. */
export function superPacket(shape: { payload: number; gsoSize?: number }): { header: Uint8Array; frame: Uint8Array } {
  const frame = Uint8Array.from({ length: ETH + IP + TCP + shape.payload }, (_, i) => i * 13)
  const view = new DataView(frame.buffer)
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0])
  frame.set([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], ETH)
  view.setUint16(ETH + 2, IP + TCP + shape.payload)
  view.setUint16(ETH + 10, ~sum(view, ETH, IP))
  frame.set([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0], ETH + IP)
  view.setUint16(ETH + IP + 16, sum(view, ETH + 12, 8) + 6 + TCP + shape.payload)
  const header = new Uint8Array(VIRTIO_NET_HEADER)
  const fields = new DataView(header.buffer)
  fields.setUint8(0, NEEDS_CSUM)
  fields.setUint8(1, shape.gsoSize ? GSO_TCPV4 : 0)
  fields.setUint16(2, ETH + IP + TCP, true)
  fields.setUint16(4, shape.gsoSize ?? 0, true)
  fields.setUint16(6, ETH + IP, true)
  fields.setUint16(8, 16, true)
  return { header, frame }
}

/** What a virtio-net header asks for, without hdr_len, which the kernel sets by itself. */
export function offload(header: Uint8Array) {
  const fields = new DataView(header.buffer, header.byteOffset, VIRTIO_NET_HEADER)
  return {
    needsChecksum: (fields.getUint8(0) & NEEDS_CSUM) !== 0,
    gsoType: fields.getUint8(1),
    gsoSize: fields.getUint16(4, true),
    checksumStart: fields.getUint16(6, true),
    checksumOffset: fields.getUint16(8, true),
  }
}

/** The ones' complement sum of 16-bit words. */
function sum(view: DataView, at: number, length: number): number {
  let total = 0
  for (let i = 0; i < length; i += 2) total += view.getUint16(at + i)
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}
