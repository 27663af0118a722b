// The ownership rule (ownership-rule.ts) as this shard asks it: of packets in the burst, of tuples, of what an error quotes. It
// is asked only about what this shard's tables don't know: a connection found in them is this shard's. With one shard
// there is nothing to ask. Owner: this thread.

import type { Side } from '../../conntrack/terms.ts'
import { INSIDE } from '../../conntrack/terms.ts'
import { type Leases, ownerOfFlow, ownerOfFragment, type StaticRules } from '../../ownership/ownership-rule.ts'
import type { Addr, Ports, ProtocolNumber } from '../../wire/address.ts'
import { swap16, swap32 } from '../../wire/address.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { DST, FIRST_FRAGMENT, FLOW, IP, KEY, KIND, L4, PORTS, SRC, side } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'

let leases: Leases
let rules: StaticRules
let shard = 0

export function attachPacketOwner(number: number, itsLeases: Leases, itsRules: StaticRules): void {
  shard = number
  leases = itsLeases
  rules = itsRules
}

/** Another shard's, or this one's; -1 for this one's, so that the common answer is one comparison. */
const other = (owner: number): number => (owner === shard ? -1 : owner)

/** The shard that packet i's flow belongs to, -1 if it is this one. */
export const otherOwner = (i: number): number => (leases.shards === 1 ? -1 : other(ownerOfPacket(i)))

/** The shard where packet i's fragments come together, -1 if it is this one. */
export const otherFragmentOwner = (i: number): number => (leases.shards === 1 ? -1 : other(ownerOfFragments(i)))

/** The shard where packet i's fragments come together. */
export function ownerOfFragments(i: number): number {
  const id = swap16(ipv4.id(mem, IP[i]!))
  return ownerOfFragment(KEY[i]! & 0xff, swap32(SRC[i]!), swap32(DST[i]!), id, leases)
}

/** The shard that packet i belongs to. */
export function ownerOfPacket(i: number): number {
  const protocol = KEY[i]! & 0xff
  return ownerOfTuple(side, protocol, SRC[i]!, DST[i]!, protocol === ipv4.PROTO_ICMP ? identifier(i) : PORTS[i]!)
}

/** To the rule an ICMP identifier is both ports. A later fragment doesn't show it: it follows its record. */
function identifier(i: number): number {
  if (KIND[i] !== FLOW && KIND[i] !== FIRST_FRAGMENT) return PORTS[i]!
  return bothPorts(icmp.id(mem, L4[i]!))
}

export const bothPorts = (id: number): number => id | (id << 16)

/** Addresses and ports as loaded; of ICMP the ports word has the identifier twice. */
export function ownerOfTuple(fromSide: Side, protocol: ProtocolNumber, src: Addr, dst: Addr, ports: Ports): number {
  if (leases.shards === 1) return 0
  return ownerOfFlow(
    fromSide,
    protocol,
    swap32(src),
    swap16(ports & 0xffff),
    swap32(dst),
    swap16(ports >>> 16),
    leases,
    rules,
  )
}

/** The same as `otherOwner` for a tuple. */
export const otherOwnerOfTuple = (protocol: ProtocolNumber, src: Addr, dst: Addr, ports: Ports): number =>
  leases.shards === 1 ? -1 : other(ownerOfTuple(side, protocol, src, dst, ports))

/** The shard that what an inside endpoint sends belongs to, whomever it sends to: rule 1. Port as loaded. */
export const ownerOfInside = (protocol: ProtocolNumber, address: Addr, port: number): number =>
  ownerOfTuple(INSIDE, protocol, address, 0, port)
