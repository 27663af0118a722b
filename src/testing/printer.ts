// One line about a frame, in tcpdump's manner (tcpdump -n): for logs, traces and failed tests. Any bytes may come: what
// is cut short is marked as tcpdump marks it, `[|tcp]`, and nothing throws. Allocates freely: never on the packet path.

import { formatAddress, formatMac } from '../wire/address.ts'
import * as arp from '../wire/arp.ts'
import * as ethernet from '../wire/ethernet.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as udp from '../wire/udp.ts'

/** The frame whose Ethernet header is at `at`; nothing past `length` bytes from there is read. */
export function print(mem: DataView, at: number, length: number): string {
  const end = Math.min(at + length, mem.byteLength)
  if (!ethernet.fits(mem, at, end)) return '[|ether]'
  const type = ethernet.etherType(mem, at)
  const payloadAt = at + ethernet.HEADER_LEN
  if (type === ethernet.TYPE_IPV4) return printIpv4(mem, payloadAt, end)
  if (type === ethernet.TYPE_ARP) return printArp(mem, payloadAt, end)
  const number = `0x${type.toString(16).padStart(4, '0')}`
  const name = ETHER_TYPES[type]
  return `ethertype ${name ? `${name} (${number})` : number}, length ${end - at}`
}

const ETHER_TYPES: Readonly<Record<number, string>> = {
  [ethernet.TYPE_VLAN]: '802.1Q',
  [ethernet.TYPE_IPV6]: 'IPv6',
}

function printArp(mem: DataView, at: number, end: number): string {
  if (!arp.fits(mem, at, end)) return 'ARP, [|arp]'
  const sender = formatAddress(arp.sender(mem, at))
  const length = `length ${end - at}`
  const operation = arp.operation(mem, at)
  if (operation === arp.REQUEST)
    return `ARP, Request who-has ${formatAddress(arp.target(mem, at))} tell ${sender}, ${length}`
  if (operation === arp.REPLY) return `ARP, Reply ${sender} is-at ${formatMac(mem, arp.senderMacAt(at))}, ${length}`
  return `ARP, Unknown (${operation}), ${length}`
}

function printIpv4(mem: DataView, at: number, end: number): string {
  if (end - at < ipv4.MIN_HEADER_LEN) return 'IP [|ip]'
  if (ipv4.version(mem, at) !== 4) return `IP${ipv4.version(mem, at)} [version is not 4]`
  const headerLen = ipv4.headerLen(mem, at)
  if (headerLen < ipv4.MIN_HEADER_LEN) return `IP bad-hlen ${headerLen}`
  const totalLength = ipv4.totalLength(mem, at)
  if (totalLength < headerLen) return `IP bad-len ${totalLength}`
  if (end - at < headerLen) return 'IP [|ip]'

  const packetEnd = Math.min(end, at + totalLength)
  const src = formatAddress(ipv4.src(mem, at))
  const dst = formatAddress(ipv4.dst(mem, at))
  const protocol = ipv4.protocol(mem, at)
  const payload = { at: at + headerLen, end: packetEnd, length: totalLength - headerLen, protocol, src, dst }
  const word = ipv4.fragmentWord(mem, at)
  const offset = (word & ipv4.OFFSET_MASK) * 8
  const more = (word & ipv4.MORE_FRAGMENTS) !== 0
  if (offset > 0) {
    const fragment = `fragment id ${ipv4.id(mem, at)} offset ${offset}${more ? '+' : ''}`
    return `IP ${src} > ${dst}: ${nameOf(protocol)}, ${fragment}, length ${payload.length}`
  }
  const marked = more ? `, fragment id ${ipv4.id(mem, at)} offset 0+` : ''
  return `IP ${printTransport(mem, payload)}${marked}`
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  [ipv4.PROTO_ICMP]: 'icmp',
  [ipv4.PROTO_TCP]: 'tcp',
  [ipv4.PROTO_UDP]: 'udp',
  [ipv4.PROTO_GRE]: 'gre',
  [ipv4.PROTO_ESP]: 'esp',
}

const nameOf = (protocol: number): string => PROTOCOLS[protocol] ?? `ip-proto-${protocol}`

/** What follows an IPv4 header, and what the header says of it. */
interface Ipv4Payload {
  readonly at: number
  /** Where the bytes end; the packet may have been cut short. */
  readonly end: number
  /** As the header claims. */
  readonly length: number
  readonly protocol: number
  readonly src: string
  readonly dst: string
}

function printTransport(mem: DataView, payload: Ipv4Payload): string {
  const { at, end, length, protocol, src, dst } = payload
  if (protocol === ipv4.PROTO_TCP) return printTcp(mem, payload)
  if (protocol === ipv4.PROTO_UDP) return printUdp(mem, payload)
  if (protocol === ipv4.PROTO_ICMP) return `${src} > ${dst}: ${printIcmp(mem, at, end, length)}`
  return `${src} > ${dst}: ${nameOf(protocol)} ${length}`
}

const FLAG_LETTERS = 'FSRP.UEW'

function printTcp(mem: DataView, { at, end, length, src, dst }: Ipv4Payload): string {
  if (end - at < tcp.MIN_HEADER_LEN) return `${src} > ${dst}: [|tcp]`
  const between = `${src}.${tcp.srcPort(mem, at)} > ${dst}.${tcp.dstPort(mem, at)}:`
  const headerLen = tcp.headerLen(mem, at)
  if (headerLen < tcp.MIN_HEADER_LEN || headerLen > length) return `${between} [bad hdr length ${headerLen}]`
  const flags = tcp.flags(mem, at)
  const letters = [...FLAG_LETTERS].filter((_, bit) => flags & (1 << bit)).join('')
  const payload = length - headerLen
  const parts = [`Flags [${letters || 'none'}]`]
  const seq = tcp.seq(mem, at) >>> 0
  if (payload > 0) parts.push(`seq ${seq}:${(seq + payload) >>> 0}`)
  else if (flags & (tcp.SYN | tcp.FIN | tcp.RST)) parts.push(`seq ${seq}`)
  if (flags & tcp.ACK) parts.push(`ack ${tcp.ack(mem, at) >>> 0}`)
  parts.push(`win ${tcp.window(mem, at)}`)
  if (flags & tcp.URG) parts.push(`urg ${tcp.urgent(mem, at)}`)
  if (end - at < headerLen) parts.push('options [|tcp]')
  else if (headerLen > tcp.MIN_HEADER_LEN) parts.push(`options [${printOptions(mem, at)}]`)
  return `${between} ${parts.join(', ')}, length ${payload}`
}

function printOptions(mem: DataView, at: number): string {
  const end = at + tcp.headerLen(mem, at)
  const printed: string[] = []
  let i = at + tcp.MIN_HEADER_LEN
  while (i < end) {
    const kind = mem.getUint8(i)
    if (kind === tcp.OPTION_END) {
      printed.push('eol')
      break
    }
    const length = kind === tcp.OPTION_NOP ? 1 : i + 2 > end ? 0 : mem.getUint8(i + 1)
    if (length === 0 || (kind !== tcp.OPTION_NOP && length < 2) || i + length > end) {
      printed.push('bad opt')
      break
    }
    printed.push(printOption(mem, i, kind, length))
    i += length
  }
  return printed.join(',')
}

function printOption(mem: DataView, at: number, kind: number, length: number): string {
  if (kind === tcp.OPTION_NOP) return 'nop'
  if (kind === tcp.OPTION_MSS && length === 4) return `mss ${mem.getUint16(at + 2)}`
  if (kind === tcp.OPTION_WINDOW_SCALE && length === 3) return `wscale ${mem.getUint8(at + 2)}`
  if (kind === tcp.OPTION_SACK_PERMITTED && length === 2) return 'sackOK'
  if (kind === tcp.OPTION_TIMESTAMPS && length === 10)
    return `TS val ${mem.getUint32(at + 2)} ecr ${mem.getUint32(at + 6)}`
  if (kind === tcp.OPTION_SACK) {
    const count = tcp.sackBlocks(mem, at)
    const blocks = Array.from({ length: count }, (_, i) => {
      const block = tcp.sackBlock(at, i)
      return `{${tcp.sackLeft(mem, block) >>> 0}:${tcp.sackRight(mem, block) >>> 0}}`
    })
    return `sack ${count} ${blocks.join('')}`
  }
  return `unknown-${kind}`
}

function printUdp(mem: DataView, { at, end, src, dst }: Ipv4Payload): string {
  if (end - at < udp.HEADER_LEN) return `${src} > ${dst}: [|udp]`
  const length = udp.length(mem, at)
  const said = length < udp.HEADER_LEN ? `bad length ${length}` : `length ${length - udp.HEADER_LEN}`
  return `${src}.${udp.srcPort(mem, at)} > ${dst}.${udp.dstPort(mem, at)}: UDP, ${said}`
}

// --- ICMP ---

const QUERIES: Readonly<Record<number, string>> = {
  [icmp.ECHO_REPLY]: 'echo reply',
  [icmp.ECHO_REQUEST]: 'echo request',
  [icmp.TIMESTAMP_REQUEST]: 'time stamp query',
  [icmp.TIMESTAMP_REPLY]: 'time stamp reply',
  [icmp.INFORMATION_REQUEST]: 'information request',
  [icmp.INFORMATION_REPLY]: 'information reply',
  [icmp.MASK_REQUEST]: 'address mask request',
  [icmp.MASK_REPLY]: 'address mask reply',
}

function printIcmp(mem: DataView, at: number, end: number, length: number): string {
  if (!icmp.fits(mem, at, end)) return '[|icmp]'
  const type = icmp.type(mem, at)
  const query = QUERIES[type]
  const id = ((icmp.id(mem, at) & 0xff) << 8) | (icmp.id(mem, at) >>> 8)
  if (query) return `ICMP ${query}, id ${id}, seq ${icmp.seq(mem, at)}, length ${length}`
  return `ICMP ${printError(mem, at, end)}, length ${length}`
}

function printError(mem: DataView, at: number, end: number): string {
  const code = icmp.code(mem, at)
  switch (icmp.type(mem, at)) {
    case icmp.UNREACHABLE:
      return printUnreachable(mem, at, end, code)
    case icmp.SOURCE_QUENCH:
      return 'source quench'
    case icmp.REDIRECT:
      return `redirect to ${formatAddress(mem.getInt32(at + 4, true))}`
    case icmp.TIME_EXCEEDED:
      return code === icmp.TTL_EXCEEDED ? 'time exceeded in-transit' : 'ip reassembly time exceeded'
    case icmp.PARAMETER_PROBLEM:
      return `parameter problem - octet ${mem.getUint8(at + 4)}`
    default:
      return `type-#${icmp.type(mem, at)}`
  }
}

function printUnreachable(mem: DataView, at: number, end: number, code: number): string {
  const embeddedAt = at + icmp.EMBEDDED
  if (end - embeddedAt < ipv4.MIN_HEADER_LEN) return `unreachable - #${code} [|icmp]`
  const dst = formatAddress(ipv4.dst(mem, embeddedAt))
  if (code === icmp.NET_UNREACHABLE) return `net ${dst} unreachable`
  if (code === icmp.HOST_UNREACHABLE) return `host ${dst} unreachable`
  if (code === icmp.PROTOCOL_UNREACHABLE) return `${dst} protocol ${ipv4.protocol(mem, embeddedAt)} unreachable`
  if (code === icmp.PORT_UNREACHABLE) return `${dst} ${printEmbeddedPort(mem, embeddedAt, end)} unreachable`
  if (code === icmp.FRAGMENTATION_NEEDED) {
    const mtu = icmp.nextHopMtu(mem, at)
    return `${dst} unreachable - need to frag${mtu ? ` (mtu ${mtu})` : ''}`
  }
  if (code === icmp.ADMINISTRATIVELY_PROHIBITED) return `host ${dst} unreachable - admin prohibited filter`
  return `${dst} unreachable - #${code}`
}

function printEmbeddedPort(mem: DataView, embeddedAt: number, end: number): string {
  const protocol = ipv4.protocol(mem, embeddedAt)
  const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`
  const portAt = embeddedAt + ipv4.headerLen(mem, embeddedAt)
  if (protocol !== ipv4.PROTO_TCP && protocol !== ipv4.PROTO_UDP) return `${name} port`
  return portAt + 4 > end ? `${name} port` : `${name} port ${udp.dstPort(mem, portAt)}`
}
