// The ownership rule (ownership/ownership-rule.ts) as this shard asks it: of packets in the burst, and of tuples, such
// as that of the packet embedded in an ICMP error. It is asked only about what this shard's tables don't know: a
// connection found in them is this shard's. With one shard there is nothing to ask. Owner: this thread.

import type { KeyWord } from '../../conntrack/terms.ts'
import { INSIDE, keyWord, portsOf, protocolIn } from '../../conntrack/terms.ts'
import type { Shard } from '../../memory/brand.ts'
import {
  type Leases,
  type OwnershipRule,
  ownerOfFlow,
  ownerOfFragment,
  type StaticRules,
} from '../../ownership/ownership-rule.ts'
import type { Addr, Port, Ports, ProtocolNumber } from '../../wire/address.ts'
import * as icmp from '../../wire/icmp.ts'
import * as ipv4 from '../../wire/ipv4.ts'
import { DST, FIRST_FRAGMENT, FLOW, IP, KEY, KIND, L4, PORTS, SRC } from '../packet/burst.ts'
import { mem } from '../packet/packet-memory.ts'

let leases: Leases
let by: OwnershipRule
let shard: Shard = 0

export function attachPacketOwner(number: Shard, itsLeases: Leases, rules: StaticRules): void {
  shard = number
  leases = itsLeases
  by = { leases, rules }
}

/** -1 stands for this shard, so that the common answer is one comparison. */
const other = (owner: Shard): Shard => (owner === shard ? -1 : owner)

/** The shard that packet i's flow belongs to, -1 if it is this one. */
export const otherOwner = (i: number): Shard => (leases.shards === 1 ? -1 : other(ownerOfPacket(i)))

/** The shard where packet i's fragments come together, -1 if it is this one. */
export const otherFragmentOwner = (i: number): Shard => (leases.shards === 1 ? -1 : other(ownerOfFragments(i)))

/** The shard where packet i's fragments come together. */
export function ownerOfFragments(i: number): Shard {
  const identification = ipv4.id(mem, IP[i]!)
  return ownerOfFragment(protocolIn(KEY[i]!), SRC[i]!, DST[i]!, identification, leases)
}

/** The shard that packet i belongs to. */
export function ownerOfPacket(i: number): Shard {
  const isIcmp = protocolIn(KEY[i]!) === ipv4.PROTO_ICMP
  return ownerOfTuple(KEY[i]!, SRC[i]!, DST[i]!, isIcmp ? identifiers(i) : PORTS[i]!)
}

/** To the rule an ICMP identifier is both ports. A later fragment doesn't show it: it follows its record. */
function identifiers(i: number): Ports {
  if (KIND[i] !== FLOW && KIND[i] !== FIRST_FRAGMENT) return PORTS[i]!
  return bothPorts(icmp.id(mem, L4[i]!))
}

export const bothPorts = (id: Port): Ports => portsOf(id, id)

/** The shard that a tuple belongs to; of ICMP the ports word has the identifier twice. */
export const ownerOfTuple = (key: KeyWord, src: Addr, dst: Addr, ports: Ports): Shard =>
  leases.shards === 1 ? 0 : ownerOfFlow(key, src, dst, ports, by)

/** The same shard, but -1 if it is this one. */
export const otherOwnerOfTuple = (key: KeyWord, src: Addr, dst: Addr, ports: Ports): Shard =>
  leases.shards === 1 ? -1 : other(ownerOfTuple(key, src, dst, ports))

/** The shard that what an inside endpoint sends belongs to, whomever it sends to: rule 1. */
export const ownerOfInside = (protocol: ProtocolNumber, address: Addr, port: Port): Shard =>
  ownerOfTuple(keyWord(protocol, INSIDE), address, 0, portsOf(port, 0))
