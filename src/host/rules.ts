// Which packets natloom hides from the kernel, as rules. Authority: netfilter's hooks and priorities
// (linux/netfilter_ipv4.h), nft_fib and nft_socket of the kernel. Nothing here is kept; rule-tables.ts puts them in
// force.
//
// natloom's packet sockets get each packet beside the kernel, behind tc and netdev ingress. What natloom carries, the
// chain `prerouting` drops for the kernel, before anything else there (defragmentation is at -400). On our interfaces
// the kernel keeps:
//   - frames that are not IPv4, and those of a VLAN: they never come here by our interface
//   - broadcast and multicast (DHCP, mDNS)
//   - packets for the host itself, except NAT's and forwarded ports on a shared address; ICMP always
//   - NAT's ports on which the host has a socket, unless NAT has given out that very port: a contested one
//   - packets from inside to inside, and packets that are routed by a third interface
// A packet without a route is dropped too: natloom answers that the destination is unreachable, and the kernel must not
// answer as well. A later fragment has no ports, so no rule for ports drops it: the kernel queues it, gets no first
// fragment and discards it.
//
// The chain `forward` is the net below. What is to be forwarded is decided above by the main and local tables alone,
// as natloom itself decides; where a policy rule (`ip rule`) or somebody's DNAT has the kernel forward a packet between
// our sides nevertheless, it would leave untranslated.
//
// An interface is asked for by its name and by its index, and is ours if either says so: one that is renamed keeps its
// index, one that is made anew keeps its name. So neither lets a packet out before natloom has heard of it.
//
// The chain `output` is for the time until a contested port is found, by looks about once a second. A socket that has
// just been opened on a port of one of NAT's connections gets that connection's segments, and the kernel would answer
// each that no connection of the host takes with a reset (net/ipv4/tcp_ipv4.c, tcp_v4_send_reset): RST alone. It is
// never sent from NAT's ports. What ends a connection of the host's own has an ACK and is sent.

import type { Addr } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import type { BaseChain } from './nf-tables.ts'
import {
  ACCEPT,
  ADDRESS_TYPE,
  addresses,
  bytes,
  DESTINATION,
  DESTINATION_PORT,
  DROP,
  type Expression,
  INPUT_INDEX,
  INPUT_NAME,
  IP_PROTOCOL,
  L4_PROTOCOL,
  LINK_PACKET_TYPE,
  type Load,
  match,
  matchNot,
  matchPorts,
  names,
  numbers,
  OUTPUT_INDEX,
  OUTPUT_NAME,
  ports,
  ROUTE_EXISTS,
  ROUTE_OUTPUT_INDEX,
  ROUTE_OUTPUT_NAME,
  SOCKET_TRANSPARENT,
  SOURCE,
  SOURCE_PORT,
  TCP_FLAGS,
} from './nft-expressions.ts'
import type { PortRange } from './port-range.ts'

/** A TCP or UDP port (by protocol number) of one address or, if it is null, of every shared one. */
export interface ForwardedPort {
  readonly protocol: number
  readonly address: Addr | null
  readonly port: number
}

/** A port of the shared addresses that NAT has given out and on which the host has a socket. */
export interface ContestedPort {
  readonly protocol: number
  readonly port: number
}

export interface Interfaces {
  /** At least one; whether they exist does not matter. */
  readonly names: readonly string[]
  /** Of those that have these names, or had them last. None is on both sides. */
  readonly indexes: readonly number[]
}

export interface RuleSet {
  readonly inside: Interfaces
  readonly outside: Interfaces
  /** Addresses that NAT shares with the host. */
  readonly shared: readonly Addr[]
  /** Addresses that are NAT's alone. */
  readonly pool: readonly Addr[]
  /** TCP and UDP ports that are NAT's on the shared addresses, as far as the host has no socket there. */
  readonly natPorts: PortRange
  /** Those of them that are NAT's although the host has a socket there. */
  readonly contested: readonly ContestedPort[]
  /** Protocols without ports that NAT translates on the shared addresses. */
  readonly protocols: readonly number[]
  /** Forwarded ports of shared addresses. */
  readonly forwarded: readonly ForwardedPort[]
}

export interface Chain extends BaseChain {
  readonly rules: readonly (readonly Expression[])[]
}

/** NF_INET_PRE_ROUTING, NF_INET_FORWARD, NF_INET_LOCAL_OUT */
const PREROUTING = 0
const FORWARD = 2
const OUTPUT = 3
const BEFORE_DEFRAGMENTATION = -450
const BEFORE_USERS_RULES = -300
const PACKET_HOST = 0
const RST = 0x04
/** RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST */
const FOR_THE_HOST = [2, 3, 5]

export const chainsOf = (set: RuleSet): Chain[] => [
  { name: 'prerouting', hook: PREROUTING, priority: BEFORE_DEFRAGMENTATION, rules: preroutingRules(set) },
  { name: 'forward', hook: FORWARD, priority: BEFORE_USERS_RULES, rules: forwardRules(set) },
  { name: 'output', hook: OUTPUT, priority: BEFORE_USERS_RULES, rules: outputRules(set) },
]

function preroutingRules(set: RuleSet): Expression[][] {
  const { inside, outside, shared, pool, protocols } = set
  const hidden: Expression[][] = []
  if (pool.length > 0) hidden.push([...match(DESTINATION, addresses(pool)), DROP])
  if (shared.length > 0) hidden.push(...natPortRules(set), ...forwardedRules(set))
  if (shared.length > 0 && protocols.length > 0)
    hidden.push([
      ...byNone(CAME_BY, inside),
      ...match(DESTINATION, addresses(shared)),
      ...match(IP_PROTOCOL, bytes(protocols)),
      DROP,
    ])
  return [
    [...byNone(CAME_BY, both(inside, outside)), ACCEPT],
    ...hidden,
    [...matchNot(LINK_PACKET_TYPE, bytes([PACKET_HOST])), ACCEPT],
    // A destination of the host's has no `oif` either, so it is accepted before a missing route is looked for.
    [...match(ADDRESS_TYPE, numbers(FOR_THE_HOST)), ACCEPT],
    ...dropBy(ROUTED_BY, outside),
    [...match(ROUTE_EXISTS, numbers([0])), DROP],
    [...byNone(CAME_BY, outside), ACCEPT],
    ...dropBy(ROUTED_BY, inside),
  ]
}

function natPortRules({ shared, natPorts, contested }: RuleSet): Expression[][] {
  const natPort = [
    ...match(DESTINATION, addresses(shared)),
    ...match(L4_PROTOCOL, bytes([PROTO_TCP, PROTO_UDP])),
    ...matchPorts(DESTINATION_PORT, natPorts),
  ]
  return [
    ...byProtocol(contested).map(([protocol, list]) => portRule(shared, protocol, list)),
    // Any value: without a socket the rule ends before it is compared.
    [...natPort, ...match(SOCKET_TRANSPARENT, bytes([0, 1])), ACCEPT],
    [...natPort, DROP],
  ]
}

const forwardedRules = ({ shared, forwarded }: RuleSet): Expression[][] =>
  shared.flatMap((address) =>
    byProtocol(forwarded.filter((each) => (each.address ?? address) === address)).map(([protocol, list]) =>
      portRule([address], protocol, list),
    ),
  )

const portRule = (at: readonly Addr[], protocol: number, list: readonly number[]): Expression[] => [
  ...match(DESTINATION, addresses(at)),
  ...match(L4_PROTOCOL, bytes([protocol])),
  ...match(DESTINATION_PORT, ports(list)),
  DROP,
]

/** Each protocol with its ports, none of them twice. */
function byProtocol(list: readonly ContestedPort[]): (readonly [protocol: number, ports: number[]])[] {
  const found = new Map<number, Set<number>>()
  for (const { protocol, port } of list) found.set(protocol, (found.get(protocol) ?? new Set()).add(port))
  return [...found].map(([protocol, set]) => [protocol, [...set]] as const)
}

const forwardRules = ({ inside, outside }: RuleSet): Expression[][] => [
  [...byNone(CAME_BY, both(inside, outside)), ACCEPT],
  ...dropBy(LEAVES_BY, outside),
  [...byNone(CAME_BY, outside), ACCEPT],
  ...dropBy(LEAVES_BY, inside),
]

function outputRules({ shared, natPorts }: RuleSet): Expression[][] {
  if (shared.length === 0) return []
  const natPort = [
    ...match(SOURCE, addresses(shared)),
    ...match(IP_PROTOCOL, bytes([PROTO_TCP])),
    ...matchPorts(SOURCE_PORT, natPorts),
  ]
  // By whatever interface it would leave: the peer is where the routes say.
  return [[...matchNot(OUTPUT_NAME, names(['lo'])), ...natPort, ...match(TCP_FLAGS, bytes([RST])), DROP]]
}

/** What tells an interface of a packet's way, in both manners. */
interface Way {
  readonly name: Load
  readonly index: Load
}
const CAME_BY: Way = { name: INPUT_NAME, index: INPUT_INDEX }
const ROUTED_BY: Way = { name: ROUTE_OUTPUT_NAME, index: ROUTE_OUTPUT_INDEX }
const LEAVES_BY: Way = { name: OUTPUT_NAME, index: OUTPUT_INDEX }

const both = (a: Interfaces, b: Interfaces): Interfaces => ({
  names: [...a.names, ...b.names],
  indexes: [...a.indexes, ...b.indexes],
})

/** It is none of these interfaces, neither by its name nor by its index. */
const byNone = (way: Way, { names: list, indexes }: Interfaces): Expression[] => [
  ...matchNot(way.name, names(list)),
  ...(indexes.length > 0 ? matchNot(way.index, numbers(indexes)) : []),
]

/** If it is one of these, by its name or by its index, the packet is natloom's. */
const dropBy = (way: Way, { names: list, indexes }: Interfaces): Expression[][] => [
  [...match(way.name, names(list)), DROP],
  ...(indexes.length > 0 ? [[...match(way.index, numbers(indexes)), DROP]] : []),
]
