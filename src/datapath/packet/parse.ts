// Stage 1: what each packet is. Everything that can be wrong with the packet alone is found here, each with a reason of
// its own, and nothing after this stage reads past END. The checks are those of RFC 1812 5.2.2 and of the transport
// protocols' own documents; lengths are checked before whatever they allow to read.

import { keyWord, NOT_OURS } from '../../conntrack/terms.ts'
import { DROP } from '../../counters/drop-reasons.ts'
import { hash4 } from '../../memory/siphash.ts'
import type { Ports, ProtocolNumber } from '../../wire/address.ts'
import * as checksum from '../../wire/checksum.ts'
import * as ethernet from '../../wire/ethernet.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import * as portless from '../../wire/portless.ts'
import * as tcp from '../../wire/tcp.ts'
import * as udp from '../../wire/udp.ts'
import * as virtio from '../../wire/virtio-net.ts'
import {
  AT,
  DST,
  END,
  FLOW,
  FRAGMENT,
  HASH,
  ICMP_ERROR,
  IP,
  KEY,
  KIND,
  type Kind,
  L4,
  LENGTH,
  PORTS,
  SRC,
  side,
} from './burst.ts'
import { mem } from './packet-memory.ts'

const FRAME_SHORT = DROP['frame-short']
const IP_SHORT = DROP['ip-short']
const IP_VERSION = DROP['ip-version']
const IP_HEADER_LENGTH = DROP['ip-header-length']
const IP_TOTAL_LENGTH = DROP['ip-total-length']
const IP_CHECKSUM = DROP['ip-checksum']
const IP_OPTIONS = DROP['ip-options']
const IP_SOURCE = DROP['ip-source']
const TCP_SHORT = DROP['tcp-short']
const TCP_DATA_OFFSET = DROP['tcp-data-offset']
const TCP_OPTIONS = DROP['tcp-options']
const UDP_SHORT = DROP['udp-short']
const UDP_LENGTH = DROP['udp-length']
const PORT_ZERO = DROP['port-zero']
const ICMP_SHORT = DROP['icmp-short']
const ICMP_CHECKSUM = DROP['icmp-checksum']
const ICMP_TYPE = DROP['icmp-type']
const FRAGMENT_LENGTH = DROP['fragment-length']
const FRAGMENT_TINY = DROP['fragment-tiny']
const TRANSPORT_SHORT = DROP['transport-short']

/** If any of these bits is set, the packet is a fragment. */
const FRAGMENT_BITS = ipv4.MORE_FRAGMENTS | ipv4.OFFSET_MASK
const OFFLOADED = virtio.NEEDS_CHECKSUM | virtio.DATA_VALID

/** Fills KIND for packets 0 .. count-1, and the other columns as far as each packet can be read. */
export function parseBurst(count: number, macHigh: number, macLow: number): void {
  for (let i = 0; i < count; i++) KIND[i] = parse(i, macHigh, macLow)
}

/**
 * Fills HASH. A loop of its own, so that the long chains of dependent steps of several packets overlap, and without a
 * look at KIND: of what is no flow the hash means nothing, and costs less than a branch that is guessed wrong.
 */
export function hashBurst(count: number): void {
  for (let i = 0; i < count; i++) HASH[i] = hash4(SRC[i]!, DST[i]!, PORTS[i]!, KEY[i]!)
}

function parse(i: number, macHigh: number, macLow: number): Kind {
  const at = AT[i]!
  const length = LENGTH[i]!
  if (length < ethernet.HEADER_LEN) return FRAME_SHORT
  if (ethernet.dstHigh(mem, at) !== macHigh || ethernet.dstLow(mem, at) !== macLow) return NOT_OURS
  if (ethernet.etherType(mem, at) !== ethernet.TYPE_IPV4) return NOT_OURS

  const ip = at + ethernet.HEADER_LEN
  const room = length - ethernet.HEADER_LEN
  if (room < ipv4.MIN_HEADER_LEN) return IP_SHORT
  const versionAndLength = ipv4.versionAndLength(mem, ip)
  if (versionAndLength >> 4 !== 4) return IP_VERSION
  const headerLength = (versionAndLength & 15) << 2
  if (headerLength < ipv4.MIN_HEADER_LEN || headerLength > room) return IP_HEADER_LENGTH
  const totalLength = ipv4.totalLength(mem, ip)
  if (totalLength < headerLength || totalLength > room) return IP_TOTAL_LENGTH
  if (!ipv4.headerOk(mem, ip)) return IP_CHECKSUM
  if (headerLength > ipv4.MIN_HEADER_LEN && ipv4.optionsFault(mem, ip)) return IP_OPTIONS
  const src = ipv4.src(mem, ip)
  // 0/8, 127/8, and 224/4 and above: the first octet is the low byte of the word.
  const first = src & 0xff
  if (first === 0 || first === 127 || first >= 224) return IP_SOURCE

  IP[i] = ip
  L4[i] = ip + headerLength
  END[i] = ip + totalLength
  SRC[i] = src
  DST[i] = ipv4.dst(mem, ip)
  const protocol = ipv4.protocol(mem, ip)
  KEY[i] = keyWord(protocol, side)
  const fragment = ipv4.fragmentWord(mem, ip) & FRAGMENT_BITS
  return fragment === 0 ? parseTransport(i, protocol, true) : parseFragment(fragment, headerLength, totalLength)
}

/** The datagram that a fragment belongs to must not be longer than one can be, its header included. */
function parseFragment(word: number, headerLength: number, totalLength: number): Kind {
  const payload = totalLength - headerLength
  const offset = (word & ipv4.OFFSET_MASK) << 3
  const more = (word & ipv4.MORE_FRAGMENTS) !== 0
  if (payload === 0 || (more && (payload & 7) !== 0) || offset + totalLength > 65535) return FRAGMENT_LENGTH
  return FRAGMENT
}

/**
 * Reads the transport header of packet i into PORTS; returns its kind, or what is wrong with it. Of a first fragment
 * (`whole` false) only the header has to be there.
 */
export function parseTransport(i: number, protocol: ProtocolNumber, whole: boolean): Kind {
  if (protocol === ipv4.PROTO_TCP) return parseTcp(i, whole)
  if (protocol === ipv4.PROTO_UDP) return parseUdp(i, whole)
  if (protocol === ipv4.PROTO_ICMP) return parseIcmp(i, whole)
  if (portless.hasPseudoHeader(protocol) && END[i]! - L4[i]! < portless.MIN_HEADER_LEN) return TRANSPORT_SHORT
  PORTS[i] = 0
  return FLOW
}

function parseTcp(i: number, whole: boolean): Kind {
  const at = L4[i]!
  const room = END[i]! - at
  if (room < tcp.MIN_HEADER_LEN) return whole ? TCP_SHORT : FRAGMENT_TINY
  const headerLength = tcp.headerLen(mem, at)
  if (headerLength < tcp.MIN_HEADER_LEN) return TCP_DATA_OFFSET
  if (headerLength > room) return whole ? TCP_DATA_OFFSET : FRAGMENT_TINY
  if (headerLength > tcp.MIN_HEADER_LEN && tcp.optionsFault(mem, at)) return TCP_OPTIONS
  return setPorts(i, tcp.ports(mem, at))
}

function parseUdp(i: number, whole: boolean): Kind {
  const at = L4[i]!
  const room = END[i]! - at
  if (room < udp.HEADER_LEN) return whole ? UDP_SHORT : FRAGMENT_TINY
  const length = udp.length(mem, at)
  if (length < udp.HEADER_LEN || (whole && length > room)) return UDP_LENGTH
  return setPorts(i, udp.ports(mem, at))
}

function setPorts(i: number, ports: Ports): Kind {
  if ((ports & 0xffff) === 0 || ports >>> 16 === 0) return PORT_ZERO
  PORTS[i] = ports
  return FLOW
}

function parseIcmp(i: number, whole: boolean): Kind {
  const at = L4[i]!
  const room = END[i]! - at
  if (room < icmp.HEADER_LEN) return whole ? ICMP_SHORT : FRAGMENT_TINY
  if (whole && (virtio.flags(mem, AT[i]!) & OFFLOADED) === 0 && checksum.sum(mem, at, room) !== 0xffff)
    return ICMP_CHECKSUM
  const type = icmp.type(mem, at)
  if (icmp.isError(type)) return ICMP_ERROR
  if (icmp.isQuery(type)) PORTS[i] = icmp.id(mem, at) | (type << 16)
  else if (icmp.isReply(type)) PORTS[i] = icmp.queryOf(type) | (icmp.id(mem, at) << 16)
  else return ICMP_TYPE
  return FLOW
}
