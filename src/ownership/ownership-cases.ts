// The ownership rule (ownership-rule.ts), rules 1 to 3, as cases that a machine without loops can tell apart: who owns
// a packet of TCP, UDP or ICMP, by the endpoint on natloom's own side of it. That is the source of what comes from
// inside and the destination of what comes from outside ("near"); the other endpoint is remote.
//
//   from     usually   but
//   inside   CHOSEN    REMOTE where a static rule dictates the external endpoint
//   outside  REMOTE    HOME on external addresses; there a shard for ports leased elsewhere, REMOTE for ports that
//                      nobody leases or a static rule dictates
//
// What differs from CHOSEN or HOME is an exception: a run of ports with one answer, the same on however many addresses.
// There may be more of them than a program holds. Then static rules stay, and of leases the widest runs; of
// the others the program names a wrong owner, which hands their packets over. Pure, but for the leases, which it reads.

import type { Side } from '../conntrack/terms.ts'
import { INSIDE } from '../conntrack/terms.ts'
import type { Entry } from '../memory/brand.ts'
import type { Externals } from '../nat/externals.ts'
import type { AddrHost, PortHost, ProtocolNumber } from '../wire/address.ts'
import { ntohl } from '../wire/address.ts'
import { PROTO_ICMP, PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import type { LeaseRuns } from './lease-runs.ts'
import type { Endpoints, Leases, StaticRules } from './ownership-rule.ts'

/** Protocols that have ports, or identifiers instead, by space. */
const PROTOCOLS = [PROTO_TCP, PROTO_UDP, PROTO_ICMP] as const

/** Who owns a packet: one of these, or a shard, from 0 on. */
export type Answer = number
/** Where the port's block is at home. */
export const HOME = -1
/** By the hash of the remote endpoint. */
export const REMOTE = -2
/** By the hash of the near endpoint. */
export const CHOSEN = -3

/** From `first` on until the next case. */
export interface PortCase {
  readonly first: PortHost
  readonly answer: Answer
}
export interface AddressCase {
  /** Unsigned. */
  readonly first: AddrHost
  /** Of TCP, UDP and ICMP, in this order. */
  readonly ports: readonly (readonly PortCase[])[]
}

/** An answer for all near endpoints whose address and port lie in two ranges, ends included. */
export interface Area {
  readonly firstAddress: AddrHost
  readonly lastAddress: AddrHost
  /** null: all. */
  readonly protocol: ProtocolNumber | null
  readonly firstPort: PortHost
  readonly lastPort: PortHost
  readonly answer: Answer
}

/**
 * Ranges of addresses with the same cases; all addresses above the last one have the usual answer. Enough for 1024
 * addresses of which no two are neighbours, and leaves a program room for 1000 cases of ports.
 */
const MAX_RANGES = 2560
const LAST_PORT = 65535
const LAST_ADDRESS = 0xffffffff

/** Each with the addresses that it holds for; those that are worth most first. */
export function exceptionsOf(side: Side, { externals }: Leases, rules: StaticRules, runs: LeaseRuns): Area[][] {
  const isInside = side === INSIDE
  const dictated = (isInside ? rules.inside : rules.external).map(dictatedArea)
  const leased = isInside ? [] : leasedElsewhere(externals, runs).sort((a, b) => width(b) - width(a))
  const exceptions = new Map<string, Area[]>()
  for (const area of [...dictated, ...leased]) {
    const name = nameOf(area)
    const elsewhere = exceptions.get(name)
    if (elsewhere) elsewhere.push(area)
    else exceptions.set(name, [area])
  }
  return [...exceptions.values()]
}

/** By address, from 0 on. */
export function casesOf(
  side: Side,
  externals: Externals,
  exceptions: readonly (readonly Area[])[],
  runs: LeaseRuns,
): AddressCase[] {
  if (side === INSIDE) return addressCases(exceptions.flat(), CHOSEN)
  return addressCases([...exceptions.flat(), ...homes(externals, runs)], REMOTE)
}

const dictatedArea = ({ protocol, network, mask, firstPort, lastPort }: Endpoints): Area => ({
  firstAddress: (network & mask) >>> 0,
  lastAddress: (network | ~mask) >>> 0,
  protocol,
  firstPort,
  lastPort,
  answer: REMOTE,
})

/** All ports of an address: this is where the other areas are cut out. */
function homes(externals: Externals, { entries }: LeaseRuns): Area[] {
  const all = { protocol: null, firstPort: 0, lastPort: LAST_PORT, answer: HOME }
  return entries.map((entry) => ({ ...addressArea(externals, entry), ...all }))
}

function leasedElsewhere(externals: Externals, runs: LeaseRuns): Area[] {
  return runs.all().map(({ entry, space, firstPort, lastPort, lessee }) => ({
    ...addressArea(externals, entry),
    protocol: PROTOCOLS[space]!,
    firstPort,
    lastPort,
    answer: lessee < 0 ? REMOTE : lessee,
  }))
}

function addressArea(externals: Externals, entry: Entry): Pick<Area, 'firstAddress' | 'lastAddress'> {
  const address = ntohl(externals.addressOf(entry)) >>> 0
  return { firstAddress: address, lastAddress: address }
}

/** Says all of an area but the addresses. */
const nameOf = ({ protocol, firstPort, lastPort, answer }: Area): string =>
  `${protocol} ${firstPort} ${lastPort} ${answer}`

const width = ({ firstPort, lastPort }: Area): number => lastPort - firstPort

// --- areas, of which the first one that covers an endpoint counts, cut into cases ---

function addressCases(areas: readonly Area[], usual: Answer): AddressCase[] {
  const cut = pieces(areas, (area) => [area.firstAddress, area.lastAddress], LAST_ADDRESS)
  // Of a thousand addresses most are covered alike.
  const alike = new Map<string, { readonly ports: PortCase[][]; readonly meaning: string }>()
  const casesFor = (covering: readonly Area[]) => {
    const name = covering.map(nameOf).join()
    const known = alike.get(name)
    if (known) return known
    const ports = PROTOCOLS.map((protocol) => portCases(covering, protocol, usual))
    const found = { ports, meaning: JSON.stringify(ports) }
    alike.set(name, found)
    return found
  }
  const cases = cut.map(({ first, covering }) => ({ first, ...casesFor(covering) }))
  const distinct = merged(cases, ({ meaning }) => meaning).map(({ first, ports }) => ({ first, ports }))
  const above = distinct[MAX_RANGES]
  if (!above) return distinct
  return [...distinct.slice(0, MAX_RANGES), { first: above.first, ports: portsAlike(usual) }]
}

const portsAlike = (answer: Answer): PortCase[][] => PROTOCOLS.map(() => [{ first: 0, answer }])

function portCases(areas: readonly Area[], protocol: ProtocolNumber, usual: Answer): PortCase[] {
  const ofProtocol = areas.filter((area) => (area.protocol ?? protocol) === protocol)
  const cut = pieces(ofProtocol, (area) => [area.firstPort, area.lastPort], LAST_PORT)
  const cases = cut.map(({ first, covering }) => ({ first, answer: covering[0]?.answer ?? usual }))
  return merged(cases, ({ answer }) => answer)
}

/** The stretches from 0 to `last` between the ends of areas, each with the areas that cover it, in their order. */
function pieces(
  areas: readonly Area[],
  endsOf: (area: Area) => [first: number, last: number],
  last: number,
): { first: number; covering: Area[] }[] {
  const beginning = new Map<number, number[]>([[0, []]])
  const at = (first: number): number[] => {
    const there = beginning.get(first) ?? []
    beginning.set(first, there)
    return there
  }
  areas.forEach((area, i) => {
    const [from, to] = endsOf(area)
    if (from > to) return
    at(from).push(i)
    if (to < last) at(to + 1)
  })
  let open: number[] = []
  return [...beginning]
    .sort(([a], [b]) => a - b)
    .map(([first, more]) => {
      open = [...open.filter((i) => endsOf(areas[i]!)[1] >= first), ...more].sort((a, b) => a - b)
      return { first, covering: open.map((i) => areas[i]!) }
    })
}

/** The cases without those that say the same as the one before. */
function merged<T>(cases: readonly T[], meaning: (of: T) => string | number): T[] {
  const meanings = cases.map(meaning)
  return cases.filter((_, i) => i === 0 || meanings[i] !== meanings[i - 1])
}
