// What a replay has to know of a captured packet before a shard has it: by which side it comes, and whose it is. Owner:
// none; everything is read from the packet.

import type { PacketNumbers } from '../ownership/ownership-rule.ts'
import { type Addr, contains, type Prefix } from '../wire/address.ts'
import * as checksum from '../wire/checksum.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as udp from '../wire/udp.ts'
import type { Side } from './messages.ts'

/** RFC 791: what an error quotes at least of the transport header. */
const QUOTED = 8

const viewOf = (packet: Uint8Array): DataView => new DataView(packet.buffer, packet.byteOffset, packet.byteLength)

/** Long enough for its addresses. */
export const isReadable = (packet: Uint8Array): boolean => packet.length >= ipv4.MIN_HEADER_LEN

export const sourceOf = (packet: Uint8Array): Addr => ipv4.src(viewOf(packet), 0)

/** The side that a packet comes by; undefined if both its ends are on one side: the gateway never sees it. */
export function sideOf(packet: Uint8Array, inside: readonly Prefix[]): Side | undefined {
  const mem = viewOf(packet)
  const isInside = (address: Addr): boolean => inside.some((prefix) => contains(prefix, address))
  const [from, to] = [isInside(ipv4.src(mem, 0)), isInside(ipv4.dst(mem, 0))]
  if (from === to) return undefined
  return from ? 'inside' : 'outside'
}

/** What decides whose flow a packet that comes from inside belongs to, or the answer to one from outside. */
export function numbersFromInside(packet: Uint8Array, side: Side): PacketNumbers {
  const read = numbers(viewOf(packet), 0, packet.length)
  return side === 'inside' ? read : turned(read)
}

const turned = ({ quoted, ...read }: PacketNumbers): PacketNumbers => ({
  ...read,
  source: read.destination,
  destination: read.source,
  sourcePort: read.destinationPort,
  destinationPort: read.sourcePort,
  // An error from outside is about what an inside end has sent; the rule turns a quote round once more.
  ...(quoted === undefined ? {} : { quoted: turned(quoted) }),
})

function numbers(mem: DataView, at: number, end: number, isQuote = false): PacketNumbers {
  const protocol = ipv4.protocol(mem, at)
  const transport = at + Math.max(ipv4.MIN_HEADER_LEN, ipv4.headerLen(mem, at))
  const read = { protocol, source: mem.getInt32(at + 12), destination: mem.getInt32(at + 16) }
  const none = { ...read, sourcePort: 0, destinationPort: 0 }
  if (end - transport < QUOTED || (ipv4.fragmentWord(mem, at) & ipv4.OFFSET_MASK) !== 0) return none
  if (protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP)
    return { ...read, sourcePort: tcp.srcPort(mem, transport), destinationPort: tcp.dstPort(mem, transport) }
  if (protocol !== ipv4.PROTO_ICMP) return none
  const quote = transport + icmp.EMBEDDED
  if (!isQuote && icmp.isError(icmp.type(mem, transport)))
    return end - quote < ipv4.MIN_HEADER_LEN ? none : { ...none, quoted: numbers(mem, quote, end, true) }
  const id = mem.getUint16(transport + 4)
  return { ...read, sourcePort: id, destinationPort: id }
}

/**
 * Completes the checksums that the capturing host had left to its network card: the transport's field holds the
 * pseudo-header's sum alone, with or without the length in it, or nothing; so does the IP header's. True if there was
 * one to complete. A packet that was not captured whole stays as it is.
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
  // Of UDP nothing in the field means that there is none (RFC 768), of TCP that it is missing.
  const isMissing = field === partial(length) || (isTcp && (field === 0 || field === partial(0)))
  if (!isMissing || checksum.transportChecksumOk(mem, 0)) return false
  checksum.writeTransportChecksum(mem, 0)
  return true
}
