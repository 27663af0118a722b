// Which shard owns a packet: the one definition behind the kernel's dispatch (a generated cBPF program), a
// dispatcher's, and each shard's own, which hands on what is not its own. The owner follows from numbers that the
// packet carries, the side it came by, and what the coordinator has decided (leases of port blocks, static rules). No
// table of flows is asked, and which of several inside interfaces it was does not count.
//
// Wherever natloom invents a number, it invents it so that both directions have one owner: the external port of an
// inside endpoint is always taken from a block that the endpoint's owner leases, whoever takes it. So
// ownerOf(packet) === ownerOf(its answer after translation), and each connection and mapping lives in one shard.
//
//   rule                                   from inside                           from outside
//   1  chosen external port or identifier  hash(protocol, source, its port/2)    lessee of the destination port's block
//   2  dictated external endpoint          hash(protocol, destination, its port) hash(protocol, source, its port)
//   3  protocol without ports              hash(protocol, destination)           hash(protocol, source)
//   5  ICMP error                          as the answer to the packet that it embeds
//   6  fragment                            hash(protocol, source, destination, identification)
//
// Number 4 is kept for twice-NAT. Rule 6 goes before all others and holds for first fragments too: their owner learns
// the ports from the first one, then hands each over without its identification, as if it were whole. Rule 7, hairpin,
// follows: the sender's owner translates the source, then asks once more, as if the packet had come from outside; each
// half is a connection of its own and obeys rules 1 to 3. (Rule 8 is about the handing over itself.)
//
// The rule computes with numbers in numeric order, 32 bits, as cBPF loads them; whether signed does not matter. Pure:
// what it is given is only read.

import type { KeyWord, Side } from '../conntrack/terms.ts'
import { destinationPort, INSIDE, keyWord, portsWord, protocolIn, sideIn, sourcePort } from '../conntrack/terms.ts'
import type { Shard } from '../memory/brand.ts'
import { type Externals, spaceOf } from '../nat/externals.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import type { Addr, AddrHost, PortHost, Ports, ProtocolNumber } from '../wire/address.ts'
import { htonl, ntohl } from '../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'

/** What a packet carries that decides who owns it. */
export interface PacketNumbers {
  readonly protocol: ProtocolNumber
  readonly source: AddrHost
  readonly destination: AddrHost
  /**
   * Of TCP and UDP. An ICMP query or its answer has its identifier here and in the destination port, since one number
   * serves both ends; everything else has 0.
   */
  readonly sourcePort: PortHost
  readonly destinationPort: PortHost
  /** The identification of a fragment, until it has been handed over by rule 6. */
  readonly fragment?: number
  /**
   * The packet that an ICMP error embeds. What that one embeds in its turn, or whether it was a fragment, is not asked.
   */
  readonly embedded?: PacketNumbers
}

/** How packets are divided: among how many shards, under which key, and who leases which block of external ports. */
export interface Leases {
  /** 1 or more. */
  readonly shards: number
  /** A random 32-bit word, drawn at each start: without it nobody can aim at one shard. */
  readonly key: number
  readonly externals: Externals
}

/** A set of endpoints: all whose address lies in a prefix and whose port lies in a range. */
export interface Endpoints {
  /** null: every protocol; then with all ports. */
  readonly protocol: ProtocolNumber | null
  readonly network: AddrHost
  readonly mask: AddrHost
  /** Both included. ICMP identifiers count as ports: only a rule for all ports speaks for them. */
  readonly firstPort: PortHost
  readonly lastPort: PortHost
}

/** Port forwards, ranges, 1:1 and prefixes: the external endpoints that they dictate, and the inside ends of those. */
export interface StaticRules {
  readonly external: readonly Endpoints[]
  readonly inside: readonly Endpoints[]
}

/** All that the owner of a packet is told by. */
export interface OwnershipRule {
  readonly leases: Leases
  readonly rules: StaticRules
}

export const NO_RULES: StaticRules = { external: [], inside: [] }

const ANY = { network: 0, mask: 0 }

/** Where nothing is translated: every inside endpoint is its own external one, so the remote end decides the owner. */
export const UNTRANSLATED: StaticRules = {
  external: [],
  inside: [{ protocol: null, ...ANY, firstPort: 0, lastPort: 65535 }],
}

/**
 * What port forwards dictate. One of every external address holds for every address: what comes from outside to an
 * address that is none of NAT's has the same owner anyway, so the rules stay as they are when external addresses
 * change.
 */
export const staticRules = (forwards: readonly PortForward[]): StaticRules => ({
  external: forwards.map(({ protocol, address, port }) => ({
    protocol,
    ...(address === null ? ANY : { network: ntohl(address), mask: -1 }),
    firstPort: port,
    lastPort: port,
  })),
  inside: forwards.map(({ protocol, toAddress, toPort }) => ({
    protocol,
    network: ntohl(toAddress),
    mask: -1,
    firstPort: toPort,
    lastPort: toPort,
  })),
})

/**
 * The shard (0 .. shards-1) that a packet belongs to. Any packet has one, whether or not it is worth anything there.
 */
export function ownerOf(side: Side, packet: PacketNumbers, leases: Leases, rules: StaticRules): Shard {
  const { protocol, source, destination, sourcePort, destinationPort, fragment, embedded } = packet
  if (fragment !== undefined) return ownerOfFragment(protocol, htonl(source), htonl(destination), fragment, leases)
  const by = { leases, rules }
  if (embedded === undefined)
    return ownerOfFlow(
      keyWord(protocol, side),
      htonl(source),
      htonl(destination),
      portsWord(sourcePort, destinationPort),
      by,
    )
  // What would answer the embedded packet.
  const ports = portsWord(embedded.destinationPort, embedded.sourcePort)
  return ownerOfFlow(keyWord(embedded.protocol, side), htonl(embedded.destination), htonl(embedded.source), ports, by)
}

/** Rule 6, of a packet as loaded; the identification is numeric. */
export const ownerOfFragment = (
  protocol: ProtocolNumber,
  src: Addr,
  dst: Addr,
  identification: number,
  { key, shards }: Leases,
): Shard => mix(mix(mix(key, ntohl(src)), ntohl(dst)), withProtocol(protocol, identification)) % shards

/** Rules 1 to 3, of a tuple as loaded (conntrack/terms.ts), but that of ICMP both ports are the identifier. */
export function ownerOfFlow(key: KeyWord, src: Addr, dst: Addr, ports: Ports, { leases, rules }: OwnershipRule): Shard {
  const protocol = protocolIn(key)
  const source = ntohl(src)
  const destination = ntohl(dst)
  const from = sourcePort(ports)
  const to = destinationPort(ports)
  const mayChoose = hasPorts(protocol)
  if (sideIn(key) === INSIDE) {
    if (mayChoose && !includes(rules.inside, protocol, source, from))
      return spread(protocol, source, pairOf(protocol, from), leases)
    return spread(protocol, destination, to, leases)
  }
  if (mayChoose && !includes(rules.external, protocol, destination, to)) {
    const lessee = lesseeOf(leases.externals, protocol, dst, to)
    // A port that nobody leases has no mapping. The host's own traffic comes here, too, and had better be spread.
    if (lessee >= 0) return lessee
  }
  return spread(protocol, source, from, leases)
}

const hasPorts = (protocol: ProtocolNumber): boolean =>
  protocol === PROTO_TCP || protocol === PROTO_UDP || protocol === PROTO_ICMP

/**
 * An even port and the odd one after it (RTP and RTCP, RFC 3550 section 11) count as one: a call stays in one shard.
 */
const pairOf = (protocol: ProtocolNumber, port: PortHost): number => (protocol === PROTO_ICMP ? port : port >> 1)

function includes(sets: readonly Endpoints[], protocol: ProtocolNumber, address: AddrHost, port: PortHost): boolean {
  for (let i = 0; i < sets.length; i++) {
    const set = sets[i]!
    if (
      (set.protocol === null || set.protocol === protocol) &&
      ((address ^ set.network) & set.mask) === 0 &&
      port >= set.firstPort &&
      port <= set.lastPort
    )
      return true
  }
  return false
}

/** The shard that leases a port's block; -1 if nobody does, or the address is none of NAT's. */
function lesseeOf(externals: Externals, protocol: ProtocolNumber, address: Addr, port: PortHost): Shard {
  const entry = externals.find(address)
  return entry < 0 ? -1 : externals.ownerOfBlock(entry, spaceOf(protocol), Math.floor(port / externals.blockSize))
}

// --- the hash: it only spreads load, and is made of what classic BPF can compute ---
//
//   hash(protocol, address, port)                      mix(mix(key, address), protocol << 16 | port)
//   hash(protocol, source, destination, identification)  mix(mix(mix(key, source), destination), protocol << 16 | id)
// modulo the number of shards, all unsigned.

/**
 * One round, step by step: x becomes (x ^ (x >>> shift)) * factor, unsigned and modulo 2^32. The constants are those of
 * MurmurHash3's 32-bit finaliser, under which each bit of x changes about half of the result's.
 */
export const ROUND = [
  { shift: 16, factor: 0x85ebca6b },
  { shift: 13, factor: 0xc2b2ae35 },
  { shift: 16, factor: 1 },
] as const

/** Takes a word into the hash x, which begins as the key: by XOR, then a round. Unsigned. */
export function mix(x: number, word: number): number {
  let next = x ^ word
  for (let step = 0; step < ROUND.length; step++)
    next = Math.imul(next ^ (next >>> ROUND[step]!.shift), ROUND[step]!.factor)
  return next >>> 0
}

const withProtocol = (protocol: ProtocolNumber, number: number): number => (protocol << 16) | number

const spread = (protocol: ProtocolNumber, address: AddrHost, port: number, { key, shards }: Leases): Shard =>
  mix(mix(key, address), withProtocol(protocol, port)) % shards
