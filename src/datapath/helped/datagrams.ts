// Datagrams of helped connections: read whole, and written anew where a helper has rewritten them, with lengths and
// checksum to match (nf_nat_mangle_udp_packet). A checksum that the sender left out (RFC 768) stays left out; one that
// the link was to compute is computed here. Owner: this thread.

import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import { AT, END, IP, L4, LENGTH } from '../packet/burst.ts'
import { bytes, copyBytes, mem, scratchFrame } from '../packet/packet-memory.ts'

/** `length` characters of the text from `at` become another text. */
interface Replacement {
  readonly at: number
  readonly length: number
  readonly text: string
}

/** Payload of packet i, a character a byte; undefined of a super-packet, whose datagrams can't be told apart. */
export function datagramText(i: number): string | undefined {
  if ((virtio.gsoType(mem, AT[i]!) & ~virtio.GSO_ECN) !== virtio.GSO_NONE) return undefined
  const at = L4[i]! + udp.HEADER_LEN
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, L4[i]! + udp.length(mem, L4[i]!) - at).toString('latin1')
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
