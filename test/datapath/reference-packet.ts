// Packets as the reference NAT reads and writes them: bytewise, with nothing of src/wire, so that one mistake can't
// hide another. Addresses and ports are in numeric order.

export const TCP = 6
export const UDP = 17
export const ICMP = 1
const UDPLITE = 136
const DCCP = 33
/** Where the IPv4 header begins in a frame. */
export const IP = 14

const FIN = 1
const SYN = 2
const RST = 4
const ACK = 16
const ERRORS = [3, 4, 5, 11, 12]
const QUERIES = [8, 13, 15, 17]
const REPLIES: Readonly<Record<number, number>> = { 0: 8, 14: 13, 16: 15, 18: 17 }
const SOURCE_ROUTES = [131, 137]
/** Where a transport header has its checksum. */
const CHECKSUM_AT: Readonly<Record<number, number>> = { [TCP]: 16, [UDP]: 6, [ICMP]: 2, [UDPLITE]: 6, [DCCP]: 6 }

/** A NAT reads and rewrites what is behind the IPv4 header. */
export const hasTransportHeader = (protocol: number): boolean => CHECKSUM_AT[protocol] !== undefined

export const word = (bytes: Uint8Array, at: number): number => (bytes[at]! << 8) | bytes[at + 1]!
export const long = (bytes: Uint8Array, at: number): number => ((word(bytes, at) << 16) | word(bytes, at + 2)) >>> 0

export function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8
  bytes[at + 1] = value & 0xff
}

export function setLong(bytes: Uint8Array, at: number, value: number): void {
  setWord(bytes, at, value >>> 16)
  setWord(bytes, at + 2, value & 0xffff)
}

/** The one's complement sum of the bytes from `from` to before `to`, not folded; an odd last one filled up. */
function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0
  for (let at = from; at + 1 < to; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!
  return (to - from) & 1 ? total + (bytes[to - 1]! << 8) : total
}

function fold(total: number): number {
  let folded = total
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000)
  return folded
}

export const internetChecksum = (bytes: Uint8Array, from: number, to: number, start = 0): number =>
  ~fold(sum(bytes, from, to) + start) & 0xffff

/** What a packet says, as far as a NAT reads it. */
export class Packet {
  /** From the Ethernet header on, what lies behind the packet cut off. */
  readonly frame: Uint8Array
  readonly protocol: number
  readonly src: number
  readonly dst: number
  readonly ttl: number
  readonly id: number
  readonly more: boolean
  /** In bytes. */
  readonly offset: number
  /** Where the transport header begins. */
  readonly l4: number
  /** Of a packet with ports: these. Of an ICMP query its identifier and type, of a reply its query's type and that. */
  sport = 0
  dport = 0
  /** The header is there: of a later fragment it is not. */
  readonly hasHeader: boolean
  /** The ICMP error's embedded packet begins here; 0: it is none. */
  embedded = 0

  constructor(frame: Uint8Array) {
    this.frame = frame.length === IP + word(frame, IP + 2) ? frame : frame.subarray(0, IP + word(frame, IP + 2))
    this.protocol = frame[IP + 9]!
    this.src = long(frame, IP + 12)
    this.dst = long(frame, IP + 16)
    this.ttl = frame[IP + 8]!
    this.id = word(frame, IP + 4)
    this.more = (frame[IP + 6]! & 0x20) !== 0
    this.offset = (word(frame, IP + 6) & 0x1fff) * 8
    this.l4 = IP + (frame[IP]! & 15) * 4
    this.hasHeader = this.offset === 0
  }

  get isFragment(): boolean {
    return this.more || this.offset > 0
  }

  get flags(): number {
    return this.frame[this.l4 + 13]!
  }

  get isSyn(): boolean {
    return (this.flags & (FIN | SYN | RST | ACK)) === SYN
  }

  get isReset(): boolean {
    return (this.flags & RST) !== 0
  }

  get isQuery(): boolean {
    return QUERIES.includes(this.frame[this.l4]!)
  }

  get payload(): number {
    return this.frame.length - this.l4
  }

  /** The transport checksum is right, or can't be told. */
  get isIntact(): boolean {
    if (this.isFragment || (this.protocol === UDP && word(this.frame, this.l4 + 6) === 0)) return true
    return this.protocol !== TCP && this.protocol !== UDP ? true : transportChecksum(this) === 0
  }
}

/** What the checksum is with the field as it stands: 0 if it is right. */
function transportChecksum({ frame, l4, protocol }: Packet): number {
  const end = protocol === UDP ? l4 + word(frame, l4 + 4) : frame.length
  return internetChecksum(frame, l4, end, sum(frame, IP + 12, IP + 20) + protocol + (end - l4))
}

/** A packet that may be carried; else why no NAT may: it is malformed, or not for a router (RFC 1812 5.2.2, 5.3.7). */
export function readPacket(frame: Uint8Array): Packet | string {
  if (frame.length < IP + 20) return 'too short'
  if (word(frame, 12) !== 0x0800 || frame[IP]! >> 4 !== 4) return 'not IPv4'
  const headerLength = (frame[IP]! & 15) * 4
  const total = word(frame, IP + 2)
  if (headerLength < 20 || total < headerLength || IP + total > frame.length) return 'lengths'
  if (internetChecksum(frame, IP, IP + headerLength) !== 0) return 'header checksum'
  if (!areOptions(frame, IP + 20, IP + headerLength, SOURCE_ROUTES)) return 'options'
  const packet = new Packet(frame)
  const first = packet.src >>> 24
  if (first === 0 || first === 127 || first >= 224) return 'source'
  if (packet.isFragment) {
    if (packet.payload === 0 || (packet.more && packet.payload % 8 !== 0)) return 'fragment length'
    if (packet.offset + total > 65535) return 'fragment length'
  }
  return packet.hasHeader ? readTransport(packet) : packet
}

/** Both IPv4's and TCP's: a kind, and but for two of them a length. */
function areOptions(bytes: Uint8Array, from: number, to: number, forbidden: readonly number[] = []): boolean {
  for (let at = from; at < to; ) {
    const kind = bytes[at]!
    if (kind === 0) return true
    if (kind === 1) {
      at++
      continue
    }
    const length = at + 1 < to ? bytes[at + 1]! : 0
    if (length < 2 || at + length > to || forbidden.includes(kind)) return false
    at += length
  }
  return true
}

function readTransport(packet: Packet): Packet | string {
  const { frame, l4, protocol, payload } = packet
  if (protocol === ICMP) return readIcmp(packet)
  if (protocol === UDPLITE || protocol === DCCP) return payload < 8 ? 'transport length' : packet
  if (protocol !== TCP && protocol !== UDP) return packet
  if (payload < (protocol === TCP ? 20 : 8)) return 'transport length'
  packet.sport = word(frame, l4)
  packet.dport = word(frame, l4 + 2)
  if (packet.sport === 0 || packet.dport === 0) return 'port 0'
  if (protocol === UDP) {
    const length = word(frame, l4 + 4)
    return length < 8 || (!packet.isFragment && length > payload) ? 'transport length' : packet
  }
  const header = (frame[l4 + 12]! >> 4) * 4
  if (header < 20 || header > payload) return 'data offset'
  return areOptions(frame, l4 + 20, l4 + header) ? packet : 'TCP options'
}

function readIcmp(packet: Packet): Packet | string {
  const { frame, l4 } = packet
  if (packet.payload < 8) return 'transport length'
  if (!packet.isFragment && internetChecksum(frame, l4, frame.length) !== 0) return 'ICMP checksum'
  const type = frame[l4]!
  const queried = REPLIES[type]
  if (ERRORS.includes(type)) {
    packet.embedded = l4 + 8
    return packet.isFragment ? 'an ICMP error in fragments' : packet
  }
  if (QUERIES.includes(type)) [packet.sport, packet.dport] = [word(frame, l4 + 4), type]
  else if (queried !== undefined) [packet.sport, packet.dport] = [queried, word(frame, l4 + 4)]
  else return 'ICMP type'
  return packet
}

/** Where a packet goes from and to. */
export interface Ends {
  readonly src: number
  readonly sport: number
  readonly dst: number
  readonly dport: number
}

/** The packet as a router sends it on that has given it these ends, and of a fragment this identification. */
export function translated(packet: Packet, ends: Ends, id: number): Uint8Array {
  const { protocol, l4 } = packet
  const made = packet.frame.slice()
  made[IP + 8] = packet.ttl - 1
  setWord(made, IP + 4, id)
  setLong(made, IP + 12, ends.src)
  setLong(made, IP + 16, ends.dst)
  setWord(made, IP + 10, 0)
  setWord(made, IP + 10, internetChecksum(made, IP, l4))
  if (!packet.hasHeader) return made
  if (protocol === TCP || protocol === UDP) {
    setWord(made, l4, ends.sport)
    setWord(made, l4 + 2, ends.dport)
  } else if (protocol === ICMP) setWord(made, l4 + 4, packet.isQuery ? ends.sport : ends.dport)
  const at = CHECKSUM_AT[protocol]
  if (at === undefined || (protocol === UDP && word(made, l4 + at) === 0)) return made
  // RFC 1624: what the change of the words adds to the sum.
  const addresses = protocol === ICMP ? 0 : sum(made, IP + 12, IP + 20) - sum(packet.frame, IP + 12, IP + 20)
  const from = protocol === ICMP ? l4 + 4 : l4
  const ports = sum(made, from, from + 4) - sum(packet.frame, from, from + 4)
  const change = addresses + ports
  const adjusted = ~fold((~word(made, l4 + at) & 0xffff) + (change < 0 ? change + 0xffff * 8 : change)) & 0xffff
  setWord(made, l4 + at, adjusted === 0 && protocol !== TCP && protocol !== ICMP ? 0xffff : adjusted)
  return made
}

/** True if two frames are the same packet: a sum of zero has two forms, which mean the same but in UDP. */
export function isSamePacket(packet: Packet, wanted: Uint8Array, frame: Uint8Array): boolean {
  if (wanted.length !== frame.length) return false
  const at = packet.hasHeader ? CHECKSUM_AT[packet.protocol] : undefined
  const sumAt = at === undefined ? -2 : packet.l4 + at
  for (let i = 12; i < wanted.length; i++) if (wanted[i] !== frame[i] && i !== sumAt && i !== sumAt + 1) return false
  if (sumAt < 0) return true
  const [is, should] = [word(frame, sumAt), word(wanted, sumAt)]
  if (is === should) return true
  return packet.protocol !== UDP && is % 0xffff === 0 && should % 0xffff === 0
}
