// The frames of a warm-up: what a client and a server say to each other in one UDP flow, one TCP connection, one echo.
// Headers are written by wire/; addresses are those for benchmarks (RFC 2544 C.2.2: 198.18.0.0/15), so that even a
// mistake names nobody. Frames are made before they are used, outside of the packet memory.

import { type Addr, type PortHost, type ProtocolNumber, parseAddress } from '../../wire/address.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'

export const CLIENT: Addr = parseAddress('198.18.0.2')
export const LAN_ADDRESS: Addr = parseAddress('198.18.0.1')
export const LAN_PREFIX: Addr = parseAddress('198.18.0.0')
export const EXTERNAL: Addr = parseAddress('198.18.1.1')
export const ROUTER: Addr = parseAddress('198.18.1.254')
export const WAN_PREFIX: Addr = parseAddress('198.18.1.0')
export const SERVER: Addr = parseAddress('198.19.0.2')

/** Of the gateway's port, and of the neighbour behind it. */
export const portMac = (port: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 1, port)
export const neighbourMac = (port: number): Uint8Array => Uint8Array.of(2, 0, 0, 0, 2, port)

/** Which way a packet goes: the driver's port that it comes by, and its addresses. */
export interface Way {
  readonly port: number
  readonly src: Addr
  readonly dst: Addr
}

export interface Segment {
  readonly from: PortHost
  readonly to: PortHost
  readonly flags: number
  readonly seq: number
  readonly ack: number
  readonly text?: string
}

const TTL = 64
const ECHO_BYTES = 56

export function udpFrame(way: Way, from: PortHost, to: PortHost, payload: number): Uint8Array {
  return frame(way, ipv4.PROTO_UDP, udp.HEADER_LEN + payload, (mem, at) => udp.emit(mem, at, from, to, payload))
}

export function tcpFrame(way: Way, { from, to, flags, seq, ack, text = '' }: Segment): Uint8Array {
  return frame(way, ipv4.PROTO_TCP, tcp.MIN_HEADER_LEN + text.length, (mem, at) => {
    tcp.emit(mem, at, from, to, flags)
    tcp.setSeq(mem, at, seq)
    tcp.setAck(mem, at, ack)
    tcp.setWindow(mem, at, 0xffff)
    for (let i = 0; i < text.length; i++) mem.setUint8(at + tcp.MIN_HEADER_LEN + i, text.charCodeAt(i))
  })
}

export function echoFrame(way: Way, type: number, id: number): Uint8Array {
  const length = icmp.HEADER_LEN + ECHO_BYTES
  return frame(way, ipv4.PROTO_ICMP, length, (mem, at) => {
    mem.setUint8(at, type)
    icmp.setId(mem, at, id)
    icmp.writeChecksum(mem, at, length)
  })
}

/** A frame with an IPv4 packet of `length` bytes behind its header, whose transport header `write` writes. */
function frame(
  { port, src, dst }: Way,
  protocol: ProtocolNumber,
  length: number,
  write: (mem: DataView, at: number) => void,
): Uint8Array {
  const bytes = new Uint8Array(ethernet.HEADER_LEN + ipv4.MIN_HEADER_LEN + length)
  const mem = new DataView(bytes.buffer)
  bytes.set(portMac(port), 0)
  bytes.set(neighbourMac(port), 6)
  ethernet.setEtherType(mem, 0, ethernet.TYPE_IPV4)
  const ip = ethernet.HEADER_LEN
  ipv4.setHeaderLen(mem, ip, ipv4.MIN_HEADER_LEN)
  ipv4.setTotalLength(mem, ip, ipv4.MIN_HEADER_LEN + length)
  ipv4.setTtl(mem, ip, TTL)
  ipv4.setProtocol(mem, ip, protocol)
  ipv4.setSrc(mem, ip, src)
  ipv4.setDst(mem, ip, dst)
  ipv4.writeChecksum(mem, ip)
  write(mem, ip + ipv4.MIN_HEADER_LEN)
  if (protocol !== ipv4.PROTO_ICMP) checksum.writeTransportChecksum(mem, ip)
  return bytes
}
