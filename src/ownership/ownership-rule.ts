// Which shard owns a packet: the one definition behind the kernel's dispatch (a generated cBPF program), a dispatcher's,
// and each shard's own, which hands on what is not its own. The owner follows from numbers that the packet carries, the
// side it came by, and what the coordinator has decided (leases of port blocks, static rules). No table of flows is
// asked, and which of several inside interfaces it was does not count.
//
// Wherever natloom invents a number, it invents it so that both directions have one owner: the external port of an
// inside endpoint is always taken from a block that the endpoint's owner leases, whoever takes it. So
// ownerOf(packet) === ownerOf(its answer after translation), and each connection and mapping lives in one shard.
//
//   rule                                   from inside                           from outside
//   1  chosen external port or identifier  hash(protocol, source, its port/2)    lessee of the destination port's block
//   2  dictated external endpoint          hash(protocol, destination, its port) hash(protocol, source, its port)
//   3  protocol without ports              hash(protocol, destination)           hash(protocol, source)
//   5  ICMP error                          as the answer to the packet that it quotes
//   6  fragment                            hash(protocol, source, destination, identification)
//
// Number 4 is kept for twice-NAT. Rule 6 goes before all others and holds for first fragments too: their owner learns
// the ports from the first one, then hands each over without its identification, as if it were whole. Rule 7, hairpin,
// follows: the sender's owner translates the source, then asks once more, as if the packet had come from outside; each
// half is a connection of its own and obeys rules 1 to 3. (Rule 8 is about the handing over itself.)
//
// All numbers are in numeric order, 32 bits, as cBPF loads them; whether signed does not matter. Pure: what it is given
// is only read.

import type { KeyWord, Side } from '../conntrack/terms.ts'
import { INSIDE } from '../conntrack/terms.ts'
import { type Externals, spaceOf } from '../nat/externals.ts'
import type { PortForward } from '../nat/port-forward-rules.ts'
import type { Addr, ProtocolNumber } from '../wire/address.ts'
import { swap32 } from '../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'

/** What a packet carries that decides who owns it. */
export interface PacketNumbers {
  readonly protocol: ProtocolNumber
  readonly source: number
  readonly destination: Addr
  /**
   * Of TCP and UDP. An ICMP query or its answer has its identifier here and in the destination port, since one number
   * serves both ends; everything else has 0.
   */
  readonly sourcePort: number
  readonly destinationPort: number
  /** The identification of a fragment, until it has been handed over by rule 6. */
  readonly fragment?: number
  /** The packet that an ICMP error quotes. What that one quotes in its turn, or whether it was a fragment, is not asked. */
  readonly quoted?: PacketNumbers
}

/** How packets are divided: among how many shards, under which key, and who leases which block of external ports. */
export interface Leases {
  /** 1 or more. */
  readonly shards: number
  /** A random 32-bit word, drawn at each start: without it nobody can aim at one shard. */
  readonly key: KeyWord
  readonly externals: Externals
}

/** A set of endpoints: all whose address lies in a prefix and whose port lies in a range. */
export interface Endpoints {
  /** null: every protocol; then with all ports. */
  readonly protocol: ProtocolNumber | null
  readonly network: number
  readonly mask: number
  /** Both included. ICMP identifiers count as ports: only a rule for all ports speaks for them. */
  readonly firstPort: number
  readonly lastPort: number
}

/** Forwards, ranges, 1:1 and prefixes: the external endpoints that they dictate, and the inside ends of those. */
export interface StaticRules {
  readonly external: readonly Endpoints[]
  readonly inside: readonly Endpoints[]
}

export const NO_RULES: StaticRules = { external: [], inside: [] }

const ANY = { network: 0, mask: 0 }

/** Where nothing is translated: every inside endpoint is its own external one, so the remote end says who the owner is. */
export const UNTRANSLATED: StaticRules = {
  external: [],
  inside: [{ protocol: null, ...ANY, firstPort: 0, lastPort: 65535 }],
}

/**
 * What forwards dictate. One of every external address says so of every address: what comes from outside to an address
 * that is none of NAT's has the same owner anyway, so the rules stay as they are when external addresses change.
 */
export const staticRules = (forwards: readonly PortForward[]): StaticRules => ({
  external: forwards.map(({ protocol, address, port }) => ({
    protocol,
    ...(address === null ? ANY : { network: swap32(address), mask: -1 }),
    firstPort: port,
    lastPort: port,
  })),
  inside: forwards.map(({ protocol, toAddress, toPort }) => ({
    protocol,
    network: swap32(toAddress),
    mask: -1,
    firstPort: toPort,
    lastPort: toPort,
  })),
})

/** The shard (0 .. shards-1) that a packet belongs to. Any packet has one, whether or not it is worth anything there. */
export function ownerOf(side: Side, packet: PacketNumbers, leases: Leases, rules: StaticRules): number {
  const { protocol, source, destination, sourcePort, destinationPort, fragment, quoted } = packet
  if (fragment !== undefined) return ownerOfFragment(protocol, source, destination, fragment, leases)
  if (quoted !== undefined)
    return ownerOfFlow(
      side,
      quoted.protocol,
      quoted.destination,
      quoted.destinationPort,
      quoted.source,
      quoted.sourcePort,
      leases,
      rules,
    )
  return ownerOfFlow(side, protocol, source, sourcePort, destination, destinationPort, leases, rules)
}

/** Rule 6, without an object for who asks for each packet. */
export const ownerOfFragment = (
  protocol: ProtocolNumber,
  source: number,
  destination: Addr,
  identification: number,
  { key, shards }: Leases,
): number => mix(mix(mix(key, source), destination), withProtocol(protocol, identification)) % shards

/** Rules 1 to 3, without an object for who asks for each packet. */
export function ownerOfFlow(
  side: Side,
  protocol: ProtocolNumber,
  source: number,
  sourcePort: number,
  destination: Addr,
  destinationPort: number,
  leases: Leases,
  rules: StaticRules,
): number {
  const mayChoose = hasPorts(protocol)
  if (side === INSIDE) {
    if (mayChoose && !includes(rules.inside, protocol, source, sourcePort))
      return spread(source, protocol, pairOf(protocol, sourcePort), leases)
    return spread(destination, protocol, destinationPort, leases)
  }
  if (mayChoose && !includes(rules.external, protocol, destination, destinationPort)) {
    const lessee = lesseeOf(leases.externals, protocol, destination, destinationPort)
    // Nobody's port has no mapping. The host's own traffic comes this way, too, and had better be spread.
    if (lessee >= 0) return lessee
  }
  return spread(source, protocol, sourcePort, leases)
}

const hasPorts = (protocol: ProtocolNumber): boolean =>
  protocol === PROTO_TCP || protocol === PROTO_UDP || protocol === PROTO_ICMP

/** An even port and the odd one after it (RTP and RTCP, RFC 3550 section 11) count as one: a call stays in one shard. */
const pairOf = (protocol: ProtocolNumber, port: number): number => (protocol === PROTO_ICMP ? port : port >> 1)

function includes(sets: readonly Endpoints[], protocol: ProtocolNumber, address: Addr, port: number): boolean {
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

/** -1 if nobody leases the port's block, or the address is none of NAT's. */
function lesseeOf(externals: Externals, protocol: ProtocolNumber, address: Addr, port: number): number {
  const entry = externals.find(swap32(address))
  return entry < 0 ? -1 : externals.ownerOfBlock(entry, spaceOf(protocol), Math.floor(port / externals.blockSize))
}

// --- the hash: it only spreads load, and is made of what classic BPF can compute ---
//
//   hash(protocol, address, port)                      stir(stir(key, address), protocol << 16 | port)
//   hash(protocol, source, destination, identification)  stir(stir(stir(key, source), destination), protocol << 16 | id)
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

const spread = (address: Addr, protocol: ProtocolNumber, port: number, { key, shards }: Leases): number =>
  mix(mix(key, address), withProtocol(protocol, port)) % shards
