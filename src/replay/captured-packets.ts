// Reads of a captured packet what a replay needs before it gives it to a shard: the side that it comes by, and the
// numbers that its owner is computed from. Also completes checksums that were left to a network card.
// Owner: nobody; nothing is kept here.

import type { PacketNumbers } from '../ownership/ownership-rule.ts'
import { type Addr, contains, type Prefix } from '../wire/address.ts'
import * as checksum from '../wire/checksum.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as udp from '../wire/udp.ts'
import type { SideName } from './messages.ts'

/** RFC 792: an ICMP error embeds at least so many bytes of the transport header. */
const MIN_TRANSPORT = 8

const viewOf = (packet: Uint8Array): DataView => new DataView(packet.buffer, packet.byteOffset, packet.byteLength)

/** Whether the packet was captured up to its addresses at least. */
export const isReadable = (packet: Uint8Array): boolean => packet.length >= ipv4.MIN_HEADER_LEN

export const sourceOf = (packet: Uint8Array): Addr => ipv4.src(viewOf(packet), 0)

/** The side that a packet comes by; undefined if both its ends are on one side, since no gateway sees such a packet. */
export function sideOf(packet: Uint8Array, inside: readonly Prefix[]): SideName | undefined {
  const mem = viewOf(packet)
  const isInside = (address: Addr): boolean => inside.some((prefix) => contains(prefix, address))
  const [from, to] = [isInside(ipv4.src(mem, 0)), isInside(ipv4.dst(mem, 0))]
  if (from === to) return undefined
  return from ? 'inside' : 'outside'
}

/** The numbers that decide the owner of a packet's flow, in the direction from inside to outside. */
export function numbersFromInside(packet: Uint8Array, side: SideName): PacketNumbers {
  const read = numbers(viewOf(packet), 0, packet.length)
  return side === 'inside' ? read : reversed(read)
}

const reversed = ({ embedded, ...read }: PacketNumbers): PacketNumbers => ({
  ...read,
  source: read.destination,
  destination: read.source,
  sourcePort: read.destinationPort,
  destinationPort: read.sourcePort,
  // An ICMP error from outside embeds a packet from inside. The ownership rule reverses an embedded packet once more.
  ...(embedded === undefined ? {} : { embedded: reversed(embedded) }),
})

function numbers(mem: DataView, at: number, end: number, isEmbedded = false): PacketNumbers {
  const protocol = ipv4.protocol(mem, at)
  const transport = at + Math.max(ipv4.MIN_HEADER_LEN, ipv4.headerLen(mem, at))
  const read = { protocol, source: mem.getInt32(at + 12), destination: mem.getInt32(at + 16) }
  const none = { ...read, sourcePort: 0, destinationPort: 0 }
  if (end - transport < MIN_TRANSPORT || (ipv4.fragmentWord(mem, at) & ipv4.OFFSET_MASK) !== 0) return none
  if (protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP)
    return { ...read, sourcePort: tcp.srcPort(mem, transport), destinationPort: tcp.dstPort(mem, transport) }
  if (protocol !== ipv4.PROTO_ICMP) return none
  const embedded = transport + icmp.EMBEDDED
  if (!isEmbedded && icmp.isError(icmp.type(mem, transport)))
    return end - embedded < ipv4.MIN_HEADER_LEN ? none : { ...none, embedded: numbers(mem, embedded, end, true) }
  const id = mem.getUint16(transport + 4)
  return { ...read, sourcePort: id, destinationPort: id }
}

/**
 * Completes checksums that the capturing host had left to its network card. Then the transport's field holds only the
 * pseudo-header's sum, with or without the length in it, or 0, and the IP header's field holds 0. True if there was one
 * to complete. A packet that was not captured whole stays as it is.
 */
export function completeChecksums(packet: Uint8Array): boolean {
  const mem = viewOf(packet)
  if (!ipv4.fits(mem, 0, packet.length)) return false
  const lacksHeader = ipv4.checksum(mem, 0) === 0 && !ipv4.headerOk(mem, 0)
  if (lacksHeader) ipv4.writeChecksum(mem, 0)
  return completeTransport(mem) || lacksHeader
}

function completeTransport(mem: DataView): boolean {
  const protocol = ipv4.protocol(mem, 0)
  if (ipv4.isFragment(mem, 0)) return false
  const at = ipv4.headerLen(mem, 0)
  const length = ipv4.totalLength(mem, 0) - at
  const isTcp = protocol === ipv4.PROTO_TCP
  if (isTcp ? !tcp.fits(mem, at, at + length) : protocol !== ipv4.PROTO_UDP || !udp.fits(mem, at, at + length))
    return false
  const field = isTcp ? tcp.checksum(mem, at) : udp.checksum(mem, at)
  const partial = (bytes: number): number => checksum.pseudoHeader(ipv4.src(mem, 0), ipv4.dst(mem, 0), protocol, bytes)
  // A field of 0 means in UDP that the sender computed no checksum (RFC 768), in TCP that it is still missing.
  const isMissing = field === partial(length) || (isTcp && (field === 0 || field === partial(0)))
  if (!isMissing || checksum.transportChecksumOk(mem, 0)) return false
  checksum.writeTransportChecksum(mem, 0)
  return true
}
