// Builds whole, valid frames from a description: for tests, the lab and benches, where clarity counts and allocation
// does not. Everything that a receiver checks (lengths, checksums) is computed; what a test wants broken, it breaks
// afterwards with the setters of the header in question. Addresses are text; what is no address throws the RangeError
// of wire/address.ts.

import { parseAddress, parseMac } from '../wire/address.ts'
import * as checksum from '../wire/checksum.ts'
import * as ethernet from '../wire/ethernet.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as tcp from '../wire/tcp.ts'
import * as udp from '../wire/udp.ts'
import * as virtioNet from '../wire/virtio-net.ts'

/** MAC addresses in text; locally administered ones by default. */
export interface EthernetSpec {
  readonly src?: string
  readonly dst?: string
}

export interface Ipv4Spec {
  readonly src: string
  readonly dst: string
  /** Default 64. */
  readonly ttl?: number
  readonly tos?: number
  readonly id?: number
  readonly dontFragment?: boolean
  readonly moreFragments?: boolean
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number
  /** Padded with zeros to a multiple of 4; at most 40 bytes. */
  readonly options?: Uint8Array
}

export interface TcpSpec {
  readonly sport: number
  readonly dport: number
  /** Default: that of a connection in which both ends begin at 0 and have said nothing yet: 0 in a SYN, else 1. */
  readonly seq?: number
  /** Default: the other end's SYN, 1, with the flag A; else 0. */
  readonly ack?: number
  /** Letters as in tcpdump: F S R P U E W, and A or . for ACK. Default 'A'. */
  readonly flags?: string
  /** Default 64240. */
  readonly window?: number
  /** Padded with zeros to a multiple of 4; at most 40 bytes. */
  readonly options?: Uint8Array
}

export interface UdpSpec {
  readonly sport: number
  readonly dport: number
  /** 'none': the field stays zero. */
  readonly checksum?: 'none'
}

/** A query or reply has id and seq and the payload; an error has `embedded`, the IPv4 packet that it is about. */
export interface IcmpSpec {
  readonly type: number
  readonly code?: number
  /** In numeric order, as people read it. */
  readonly id?: number
  readonly seq?: number
  /** The next-hop MTU of a FRAGMENTATION_NEEDED. */
  readonly mtu?: number
  readonly embedded?: Uint8Array
}

/** One of tcp, udp, icmp, protocol says what the IPv4 packet carries. */
export interface FrameSpec {
  readonly eth?: EthernetSpec
  readonly ip: Ipv4Spec
  readonly tcp?: TcpSpec
  readonly udp?: UdpSpec
  readonly icmp?: IcmpSpec
  /** Only the payload follows the IPv4 header: another protocol, or a later fragment. */
  readonly protocol?: { readonly number: number }
  readonly payload?: Uint8Array | string
  /** TCP and UDP: the field gets the pseudo-header's sum, the virtio-net header the rest of the work. */
  readonly partialChecksum?: boolean
  /** A super-packet of segments with this much payload, TCP or UDP; its checksum is partial. */
  readonly gso?: { readonly size: number }
}

const DEFAULT_SRC = '02:00:00:00:00:01'
const DEFAULT_DST = '02:00:00:00:00:02'
const DEFAULT_TTL = 64
const DEFAULT_WINDOW = 64240
const MAX_OPTIONS = 40
const MAX_TOTAL_LENGTH = 0xffff

/**
 * Writes the frame with its Ethernet header at `at` and its virtio-net header before it; returns its length from `at`.
 * @throws RangeError if the spec can't be a packet: it carries nothing, has more than 40 bytes of options or 65535 in
 * all, an unknown flag, or a partial checksum without TCP or UDP.
 */
export function build(mem: DataView, at: number, spec: FrameSpec): number {
  const ipAt = at + ethernet.HEADER_LEN
  const payload = bytesOf(spec.payload)
  const ipOptions = padded(spec.ip.options, 'IPv4')
  const headerLen = ipv4.MIN_HEADER_LEN + ipOptions.length
  const transportAt = ipAt + headerLen
  const carried = carriedBy(spec)
  if ((spec.partialChecksum || spec.gso) && !spec.tcp && !spec.udp)
    throw new RangeError('a partial checksum: only TCP and UDP have one')
  const totalLength = headerLen + carried.headerLen + carried.embedded.length + payload.length
  if (totalLength > MAX_TOTAL_LENGTH)
    throw new RangeError(`a packet of ${totalLength} bytes: IPv4 has at most ${MAX_TOTAL_LENGTH}`)

  writeEthernet(mem, at, spec.eth ?? {})
  writeIpv4(mem, ipAt, spec.ip, { options: ipOptions, protocol: carried.protocol, totalLength })
  carried.write(mem, transportAt, totalLength - headerLen)
  const embeddedAt = transportAt + carried.headerLen
  copy(mem, embeddedAt, carried.embedded)
  copy(mem, embeddedAt + carried.embedded.length, payload)

  virtioNet.clear(mem, at)
  if (spec.partialChecksum || spec.gso) writePartialChecksum(mem, at, ipAt, carried)
  else if (!spec.protocol && spec.udp?.checksum !== 'none') checksum.writeTransportChecksum(mem, ipAt)
  if (spec.gso) writeGso(mem, at, spec.gso.size, embeddedAt - at, carried.protocol)
  return ethernet.HEADER_LEN + totalLength
}

/** The frame in memory of its own; the virtio-net header lies before it in the same buffer. */
export function frame(spec: FrameSpec): Uint8Array {
  const mem = new DataView(new ArrayBuffer(virtioNet.HEADER_LEN + ethernet.HEADER_LEN + MAX_TOTAL_LENGTH))
  const length = build(mem, virtioNet.HEADER_LEN, spec)
  const buffer = mem.buffer.slice(0, virtioNet.HEADER_LEN + length)
  return new Uint8Array(buffer, virtioNet.HEADER_LEN)
}

/**
 * The fragments of an unfragmented frame, in order. All but the last have `size` bytes of IPv4 payload, a multiple of
 * 8. @throws RangeError if `size` is no positive multiple of 8.
 */
export function fragments(whole: Uint8Array, size: number): Uint8Array[] {
  if (size < 8 || size % 8 !== 0) throw new RangeError(`fragments of ${size} bytes: use a positive multiple of 8`)
  const from = new DataView(whole.buffer, whole.byteOffset, whole.byteLength)
  const ipAt = ethernet.HEADER_LEN
  const payloadAt = ipAt + ipv4.headerLen(from, ipAt)
  const end = ipAt + ipv4.totalLength(from, ipAt)
  const made: Uint8Array[] = []
  for (let next = payloadAt; next < end; next += size) {
    const pieceEnd = Math.min(next + size, end)
    made.push(fragment(whole, payloadAt, next, pieceEnd, pieceEnd < end))
  }
  return made
}

function fragment(whole: Uint8Array, payloadAt: number, start: number, end: number, more: boolean): Uint8Array {
  const ipAt = virtioNet.HEADER_LEN + ethernet.HEADER_LEN
  const mem = new DataView(new ArrayBuffer(virtioNet.HEADER_LEN + payloadAt + end - start))
  copy(mem, virtioNet.HEADER_LEN, whole.subarray(0, payloadAt))
  const headerLen = start === payloadAt ? ipv4.headerLen(mem, ipAt) : ipv4.copiedOptions(mem, ipAt, ipAt)
  ipv4.setHeaderLen(mem, ipAt, headerLen)
  ipv4.setTotalLength(mem, ipAt, headerLen + end - start)
  ipv4.setFragmentWord(mem, ipAt, ((start - payloadAt) >>> 3) | (more ? ipv4.MORE_FRAGMENTS : 0))
  ipv4.writeChecksum(mem, ipAt)
  copy(mem, ipAt + headerLen, whole.subarray(start, end))
  return new Uint8Array(mem.buffer, virtioNet.HEADER_LEN, ethernet.HEADER_LEN + headerLen + end - start)
}

// --- the layers ---

/** What the IPv4 packet carries: how long its header is, an ICMP error's embedded packet, and how it is written. */
interface Carried {
  readonly protocol: number
  readonly headerLen: number
  readonly embedded: Uint8Array
  /** `length` is that of the whole IPv4 payload. */
  write(mem: DataView, at: number, length: number): void
}

const NOTHING = new Uint8Array(0)

function carriedBy(spec: FrameSpec): Carried {
  if (spec.tcp) return carriedTcp(spec.tcp)
  if (spec.udp) return carriedUdp(spec.udp)
  if (spec.icmp) return carriedIcmp(spec.icmp)
  if (spec.protocol) return { protocol: spec.protocol.number, headerLen: 0, embedded: NOTHING, write() {} }
  throw new RangeError('a frame carries one of tcp, udp, icmp, protocol')
}

function carriedTcp(spec: TcpSpec): Carried {
  const options = padded(spec.options, 'TCP')
  const headerLen = tcp.MIN_HEADER_LEN + options.length
  const flags = flagsOf(spec.flags ?? 'A')
  return {
    protocol: ipv4.PROTO_TCP,
    headerLen,
    embedded: NOTHING,
    write(mem, at) {
      tcp.emit(mem, at, spec.sport, spec.dport, flags)
      tcp.setSeq(mem, at, spec.seq ?? ((flags & tcp.SYN) !== 0 ? 0 : 1))
      tcp.setAck(mem, at, spec.ack ?? ((flags & tcp.ACK) !== 0 ? 1 : 0))
      tcp.setWindow(mem, at, spec.window ?? DEFAULT_WINDOW)
      tcp.setHeaderLen(mem, at, headerLen)
      copy(mem, at + tcp.MIN_HEADER_LEN, options)
    },
  }
}

const carriedUdp = (spec: UdpSpec): Carried => ({
  protocol: ipv4.PROTO_UDP,
  headerLen: udp.HEADER_LEN,
  embedded: NOTHING,
  write: (mem, at, length) => udp.emit(mem, at, spec.sport, spec.dport, length - udp.HEADER_LEN),
})

const carriedIcmp = (spec: IcmpSpec): Carried => ({
  protocol: ipv4.PROTO_ICMP,
  headerLen: icmp.HEADER_LEN,
  embedded: spec.embedded ?? NOTHING,
  write(mem, at) {
    // The second word of a query is its identifier and sequence number; otherwise the two are written alike.
    const rest = spec.mtu ?? ((spec.id ?? 0) << 16) | (spec.seq ?? 0)
    icmp.writeError(mem, at, spec.type, spec.code ?? 0, rest)
  },
})

function writeEthernet(mem: DataView, at: number, spec: EthernetSpec): void {
  const words = ethernet.addressWords(parseMac(spec.dst ?? DEFAULT_DST), parseMac(spec.src ?? DEFAULT_SRC))
  ethernet.setAddressWords(mem, at, ...words)
  ethernet.setEtherType(mem, at, ethernet.TYPE_IPV4)
}

interface Ipv4Rest {
  /** Padded. */
  readonly options: Uint8Array
  readonly protocol: number
  readonly totalLength: number
}

function writeIpv4(mem: DataView, at: number, spec: Ipv4Spec, { options, protocol, totalLength }: Ipv4Rest): void {
  const flags = (spec.dontFragment ? ipv4.DONT_FRAGMENT : 0) | (spec.moreFragments ? ipv4.MORE_FRAGMENTS : 0)
  ipv4.setHeaderLen(mem, at, ipv4.MIN_HEADER_LEN + options.length)
  ipv4.setTos(mem, at, spec.tos ?? 0)
  ipv4.setTotalLength(mem, at, totalLength)
  ipv4.setId(mem, at, spec.id ?? 0)
  ipv4.setFragmentWord(mem, at, flags | ((spec.fragmentOffset ?? 0) >>> 3))
  ipv4.setTtl(mem, at, spec.ttl ?? DEFAULT_TTL)
  ipv4.setProtocol(mem, at, protocol)
  ipv4.setSrc(mem, at, parseAddress(spec.src))
  ipv4.setDst(mem, at, parseAddress(spec.dst))
  copy(mem, at + ipv4.MIN_HEADER_LEN, options)
  ipv4.writeChecksum(mem, at)
}

function writePartialChecksum(mem: DataView, at: number, ipAt: number, carried: Carried): void {
  const start = ipAt + ipv4.headerLen(mem, ipAt)
  const offset = checksum.checksumOffset(carried.protocol)
  const length = ipv4.totalLength(mem, ipAt) - ipv4.headerLen(mem, ipAt)
  const sum = checksum.pseudoHeader(ipv4.src(mem, ipAt), ipv4.dst(mem, ipAt), carried.protocol, length)
  mem.setUint16(start + offset, sum, true)
  virtioNet.setFlags(mem, at, virtioNet.NEEDS_CHECKSUM)
  virtioNet.setChecksumStart(mem, at, start - at)
  virtioNet.setChecksumOffset(mem, at, offset)
}

function writeGso(mem: DataView, at: number, size: number, headersLength: number, protocol: number): void {
  virtioNet.setGsoType(mem, at, protocol === ipv4.PROTO_TCP ? virtioNet.GSO_TCPV4 : virtioNet.GSO_UDP_L4)
  virtioNet.setGsoSize(mem, at, size)
  virtioNet.setHeaderLength(mem, at, headersLength)
}

// --- bytes ---

const FLAG_LETTERS: Readonly<Record<string, number>> = {
  F: tcp.FIN,
  S: tcp.SYN,
  R: tcp.RST,
  P: tcp.PSH,
  A: tcp.ACK,
  '.': tcp.ACK,
  U: tcp.URG,
  E: tcp.ECE,
  W: tcp.CWR,
}

function flagsOf(letters: string): number {
  let flags = 0
  for (const letter of letters) {
    const flag = FLAG_LETTERS[letter]
    if (flag === undefined) throw new RangeError(`"${letter}" is no TCP flag: use letters of FSRPAUEW`)
    flags |= flag
  }
  return flags
}

function bytesOf(payload: Uint8Array | string | undefined): Uint8Array {
  return typeof payload === 'string' ? new TextEncoder().encode(payload) : (payload ?? NOTHING)
}

function padded(options: Uint8Array | undefined, header: string): Uint8Array {
  const given = options ?? NOTHING
  if (given.length > MAX_OPTIONS)
    throw new RangeError(`${given.length} bytes of options: a header of ${header} has room for ${MAX_OPTIONS}`)
  const whole = new Uint8Array((given.length + 3) & ~3)
  whole.set(given)
  return whole
}

const copy = (mem: DataView, at: number, bytes: Uint8Array): void =>
  new Uint8Array(mem.buffer, mem.byteOffset + at, bytes.length).set(bytes)
