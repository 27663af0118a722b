// Packets as the specifications write them down: `udp('10.0.0.5:5000', '192.0.2.7:53')`. And frames taken apart again.

import type { FrameSpec, IcmpSpec, Ipv4Spec, TcpSpec } from '../../src/testing/builder.ts'
import { print } from '../../src/testing/printer.ts'
import { formatAddress } from '../../src/wire/address.ts'
import * as icmp from '../../src/wire/icmp.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as tcp from '../../src/wire/tcp.ts'
import * as udpHeader from '../../src/wire/udp.ts'

const ETH = 14

/** What else there is to say about a packet. */
export interface More extends Omit<Partial<FrameSpec>, 'ip' | 'tcp' | 'udp' | 'icmp'> {
  readonly ip?: Partial<Ipv4Spec>
}

const split = (endpoint: string): [address: string, port: number] => {
  const [address, port] = endpoint.split(':')
  return [address!, Number(port)]
}

const base = (src: string, dst: string, more: More): FrameSpec => ({ ...more, ip: { src, dst, ...more.ip } })

export function udp(from: string, to: string, more: More & { checksum?: 'none' } = {}): FrameSpec {
  const [src, sport] = split(from)
  const [dst, dport] = split(to)
  const { checksum, ...rest } = more
  return { ...base(src, dst, rest), udp: { sport, dport, ...(checksum && { checksum }) } }
}

export function tcpSegment(
  from: string,
  to: string,
  flags: string,
  more: More & { tcp?: Partial<TcpSpec> } = {},
): FrameSpec {
  const [src, sport] = split(from)
  const [dst, dport] = split(to)
  const { tcp: header, ...rest } = more
  return { ...base(src, dst, rest), tcp: { sport, dport, flags, ...header } }
}

export const echo = (src: string, dst: string, id: number, more: More & { type?: number } = {}): FrameSpec => {
  const { type = icmp.ECHO_REQUEST, ...rest } = more
  return { ...base(src, dst, rest), icmp: { type, id, seq: 1 } }
}

export const echoReply = (src: string, dst: string, id: number, more: More = {}): FrameSpec =>
  echo(src, dst, id, { ...more, type: icmp.ECHO_REPLY })

/** An ICMP error about `sent`, a whole frame, that embeds `bytes` of its IPv4 packet. */
export function icmpError(
  src: string,
  dst: string,
  sent: Uint8Array,
  more: More & { icmp?: Partial<IcmpSpec>; bytes?: number } = {},
): FrameSpec {
  const { icmp: header, bytes = 28, ...rest } = more
  const embedded = sent.subarray(ETH, ETH + bytes)
  return { ...base(src, dst, rest), icmp: { type: icmp.UNREACHABLE, code: icmp.PORT_UNREACHABLE, ...header, embedded } }
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export interface Decoded {
  readonly src: string
  readonly dst: string
  readonly protocol: number
  readonly ttl: number
  readonly id: number
  readonly length: number
  readonly dontFragment: boolean
  readonly moreFragments: boolean
  /** Bytes. */
  readonly offset: number
  /** IPv4 options, and everything after the IPv4 header. */
  readonly options: Uint8Array
  readonly body: Uint8Array
  readonly sport: number
  readonly dport: number
  readonly flags: number
  readonly seq: number
  readonly ack: number
  readonly type: number
  readonly code: number
  /** Of an ICMP query or reply, in numeric order. */
  readonly icmpId: number
  readonly mtu: number
  /** Of an ICMP error: the packet embedded in it. */
  readonly embedded: Uint8Array
}

const NONE = new Uint8Array(0)

/** A frame from its Ethernet header on. What its protocol or its length doesn't have is 0 or empty. */
export function decode(frame: Uint8Array): Decoded {
  return decodeIp(frame.subarray(ETH))
}

/** A packet from its IPv4 header on. */
export function decodeIp(packet: Uint8Array): Decoded {
  const mem = viewOf(packet)
  const protocol = ipv4.protocol(mem, 0)
  const at = ipv4.headerLen(mem, 0)
  const room = packet.length - at
  const word = ipv4.fragmentWord(mem, 0)
  const hasPorts = (protocol === ipv4.PROTO_TCP || protocol === ipv4.PROTO_UDP) && room >= 4
  const isTcp = protocol === ipv4.PROTO_TCP && room >= tcp.MIN_HEADER_LEN
  const isIcmp = protocol === ipv4.PROTO_ICMP && room >= icmp.HEADER_LEN
  return {
    src: formatAddress(ipv4.src(mem, 0)),
    dst: formatAddress(ipv4.dst(mem, 0)),
    protocol,
    ttl: ipv4.ttl(mem, 0),
    id: ipv4.id(mem, 0),
    length: ipv4.totalLength(mem, 0),
    dontFragment: (word & ipv4.DONT_FRAGMENT) !== 0,
    moreFragments: (word & ipv4.MORE_FRAGMENTS) !== 0,
    offset: (word & ipv4.OFFSET_MASK) * 8,
    options: packet.subarray(ipv4.MIN_HEADER_LEN, at),
    body: packet.subarray(at),
    sport: hasPorts ? udpHeader.srcPort(mem, at) : 0,
    dport: hasPorts ? udpHeader.dstPort(mem, at) : 0,
    flags: isTcp ? tcp.flags(mem, at) : 0,
    seq: isTcp ? tcp.seq(mem, at) >>> 0 : 0,
    ack: isTcp ? tcp.ack(mem, at) >>> 0 : 0,
    type: isIcmp ? icmp.type(mem, at) : 0,
    code: isIcmp ? icmp.code(mem, at) : 0,
    icmpId: isIcmp ? mem.getUint16(at + 4) : 0,
    mtu: isIcmp ? icmp.nextHopMtu(mem, at) : 0,
    embedded: isIcmp ? packet.subarray(at + icmp.EMBEDDED) : NONE,
  }
}

/** `address:port` of either end. */
export const fromOf = (frame: Uint8Array): string => `${decode(frame).src}:${decode(frame).sport}`
export const toOf = (frame: Uint8Array): string => `${decode(frame).dst}:${decode(frame).dport}`

/** Frames as tcpdump would print them. */
export const printed = (frames: readonly Uint8Array[]): string[] =>
  frames.map((bytes) => print(viewOf(bytes), 0, bytes.length))
