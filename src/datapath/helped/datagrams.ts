// Datagrams of helped connections: read whole, and written anew where a helper has rewritten them, with lengths and
// checksum to match (nf_nat_mangle_udp_packet). A checksum that the sender left out (RFC 768) stays left out; one that
// the link was to compute is computed here. Owner: this thread.

import { protocolIn } from '../../conntrack/terms.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, END, FLOW, IP, KEY, KIND, L4, LENGTH } from '../packet/burst.ts'
import { bytes, copyBytes, mem, scratchFrame } from '../packet/packet-memory.ts'

/** `length` characters of the text from `at` become another text. */
interface Replacement {
  readonly at: number
  readonly length: number
  readonly text: string
}

/** Packet i is several datagrams (UDP_SEGMENT) or segments in one. */
export const isSuperPacket = (i: number): boolean => (virtio.gsoType(mem, AT[i]!) & ~virtio.GSO_ECN) !== virtio.GSO_NONE

/** Payload of packet i, a character a byte; of a fragment all that is there behind the IP header. */
export function payloadText(i: number): string {
  const at = payloadAt(i)
  const isDatagram = protocolIn(KEY[i]!) === ipv4.PROTO_UDP && KIND[i] === FLOW && !isSuperPacket(i)
  const end = isDatagram ? L4[i]! + udp.length(mem, L4[i]!) : END[i]!
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at).toString('latin1')
}

function payloadAt(i: number): number {
  if (KIND[i] !== FLOW) return IP[i]! + ipv4.headerLen(mem, IP[i]!)
  return L4[i]! + (protocolIn(KEY[i]!) === ipv4.PROTO_UDP ? udp.HEADER_LEN : tcp.headerLen(mem, L4[i]!))
}

/** Rewrites packet i with replacements in rising order; false if there is no room, or it would be too long for IP. */
export function rewriteDatagram(i: number, text: string, replacements: readonly Replacement[]): boolean {
  let written = ''
  let from = 0
  for (const { at, length, text: replacement } of replacements) {
    written += text.slice(from, at) + replacement
    from = at + length
  }
  written += text.slice(from)
  const template = AT[i]!
  const ip = IP[i]! - template
  const transport = L4[i]! - template
  const headers = transport + udp.HEADER_LEN
  const frame = headers - ethernet.HEADER_LEN + written.length > 65535 ? -1 : scratchFrame(headers + written.length)
  if (frame < 0) return false
  copyBytes(template, frame, headers)
  bytes.set(Buffer.from(written, 'latin1'), frame + headers)
  const hadChecksum = udp.checksum(mem, frame + transport) !== 0
  ipv4.setTotalLength(mem, frame + ip, headers - ip + written.length)
  ipv4.writeChecksum(mem, frame + ip)
  udp.setLength(mem, frame + transport, udp.HEADER_LEN + written.length)
  if (hadChecksum) checksum.writeTransportChecksum(mem, frame + ip)
  AT[i] = frame
  LENGTH[i] = headers + written.length
  IP[i] = frame + ip
  L4[i] = frame + transport
  END[i] = frame + headers + written.length
  return true
}
