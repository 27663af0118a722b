// Servers that answer every packet by a rule and know no connection: a SYN by a SYN/ACK from the number 0 on, the ACK
// behind it by a greeting, a datagram by itself. So whoever floods needs to hear nobody, and a server costs next to
// nothing. All works in place, on a whole frame.

import * as checksum from '../../src/wire/checksum.ts'
import * as ethernet from '../../src/wire/ethernet.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import * as udp from '../../src/wire/udp.ts'

const MAC = 6
/** Of a server of FTP (RFC 959 5.4). */
export const GREETING = '220 ready\r\n'
const GREETING_BYTES = new TextEncoder().encode(GREETING)
/** An answer takes so many bytes more than its frame at most. */
export const LONGER = GREETING.length

/** Turns the frame at `at` into its answer; its length, 0 if there is none. */
export function answer(mem: DataView, at: number): number {
  const ip = at + ethernet.HEADER_LEN
  const l4 = ip + ipv4.headerLen(mem, ip)
  const protocol = ipv4.protocol(mem, ip)
  if (protocol === ipv4.PROTO_TCP) {
    if (!answerSegment(mem, ip, l4)) return 0
  } else if (protocol !== ipv4.PROTO_UDP || ipv4.isFragment(mem, ip)) return 0
  turnRound(mem, at, ip, l4)
  checksum.writeTransportChecksum(mem, ip)
  return ethernet.HEADER_LEN + ipv4.totalLength(mem, ip)
}

function answerSegment(mem: DataView, ip: number, l4: number): boolean {
  const flags = tcp.flags(mem, l4)
  if (flags === tcp.SYN) {
    tcp.setAck(mem, l4, tcp.seq(mem, l4) + 1)
    tcp.setSeq(mem, l4, 0)
    tcp.setFlags(mem, l4, tcp.SYN | tcp.ACK)
    return true
  }
  const payload = l4 + tcp.headerLen(mem, l4)
  const hasPayload = payload !== ip + ipv4.totalLength(mem, ip)
  if (flags !== tcp.ACK || tcp.ack(mem, l4) !== 1 || hasPayload) return false
  tcp.setAck(mem, l4, tcp.seq(mem, l4))
  tcp.setSeq(mem, l4, 1)
  tcp.setFlags(mem, l4, tcp.PSH | tcp.ACK)
  for (const [i, byte] of GREETING_BYTES.entries()) mem.setUint8(payload + i, byte)
  ipv4.setTotalLength(mem, ip, payload + GREETING_BYTES.length - ip)
  return true
}

function turnRound(mem: DataView, at: number, ip: number, l4: number): void {
  for (let i = 0; i < MAC; i++) {
    const to = mem.getUint8(at + i)
    mem.setUint8(at + i, mem.getUint8(at + MAC + i))
    mem.setUint8(at + MAC + i, to)
  }
  const src = ipv4.src(mem, ip)
  ipv4.setSrc(mem, ip, ipv4.dst(mem, ip))
  ipv4.setDst(mem, ip, src)
  ipv4.setTtl(mem, ip, 64)
  ipv4.writeChecksum(mem, ip)
  // Ports lie at the same place in both protocols.
  udp.setPorts(mem, l4, swapped(udp.ports(mem, l4)))
}

const swapped = (ports: number): number => (ports << 16) | (ports >>> 16)
