// A reference translation for the ownership rule's tests: every kind of NAT in a line or two, on real leases of port
// blocks (nat/externals.ts), so that the rule is held for what nat/ doesn't build yet, too. All addresses and ports are
// in numeric order, as ownerOf() takes them.

import fc from 'fast-check'
import { INSIDE } from '../../src/conntrack/terms.ts'
import { bytesOf, Region } from '../../src/memory/region.ts'
import { Externals, POOL, SHARED, SPACES, spaceOf } from '../../src/nat/externals.ts'
import {
  type Endpoints,
  type Leases,
  mix,
  ownerOf,
  type PacketNumbers,
  type StaticRules,
  staticRules,
} from '../../src/ownership/ownership-rule.ts'
import { parseAddress, parsePrefix, swap32 } from '../../src/wire/address.ts'

export const ICMP = 1
export const TCP = 6
export const UDP = 17
export const GRE = 47
const ESP = 50
const SCTP = 132
const NO_PORTS = [GRE, ESP, SCTP, 0, 255]

export const address = (text: string): number => swap32(parseAddress(text))

// --- the gateway: two addresses whose ports are leased in blocks, and static rules ---

export const NAT_ADDRESSES = [address('203.0.113.1'), address('203.0.113.2')] as const

const all = (prefix: string): Endpoints => {
  const { address: network, mask } = parsePrefix(prefix)
  return { protocol: null, network: swap32(network), mask: swap32(mask), firstPort: 0, lastPort: 65535 }
}
const to = (server: string, toPort: number) => ({ toAddress: swap32(address(server)), toPort })
const some = (protocol: number, host: string, firstPort: number, lastPort: number): Endpoints => ({
  ...all(`${host}/32`),
  protocol,
  firstPort,
  lastPort,
})

const FORWARDED = staticRules([
  // Amid ports that are leased, and of every address.
  { protocol: TCP, address: swap32(address('203.0.113.1')), port: 8080, ...to('10.0.0.80', 80) },
  { protocol: UDP, address: null, port: 69, ...to('10.0.0.82', 69) },
])

export const RULES: StaticRules = {
  external: [
    ...FORWARDED.external,
    some(UDP, '203.0.113.2', 5000, 5099), // a range, which is no whole number of blocks
    all('203.0.113.10/32'), // 1:1
    all('198.51.100.0/24'), // a prefix
  ],
  inside: [...FORWARDED.inside, some(UDP, '10.0.0.81', 6000, 6099), all('10.0.0.90/32'), all('10.0.9.0/24')],
}

const isDictated = (protocol: number, endpoint: Endpoint): boolean =>
  RULES.external.some(
    (set) =>
      (set.protocol ?? protocol) === protocol &&
      (endpoint.address & set.mask) === set.network &&
      endpoint.port >= set.firstPort &&
      endpoint.port <= set.lastPort,
  )

/** How the gateway's shards share the work; plain, so that a counterexample is readable. */
export interface Setup {
  readonly shards: number
  readonly key: number
  readonly blockSize: number
  /** Of the leases. */
  readonly seed: number
}

export const u32 = (): fc.Arbitrary<number> => fc.nat(0xffffffff)
export const u16 = (): fc.Arbitrary<number> => fc.nat(0xffff)
export const setups = (): fc.Arbitrary<Setup> =>
  fc.record({
    shards: fc.integer({ min: 1, max: 16 }),
    key: u32(),
    blockSize: fc.constantFrom(16, 64, 256, 1024),
    seed: u16(),
  })

/** No address, no lease. */
export function nothingLeased(blockSize: number): Externals {
  const cut = (region: Region): Externals => new Externals(region, { capacity: NAT_ADDRESSES.length, blockSize })
  return cut(new Region(new SharedArrayBuffer(bytesOf(cut))))
}

/**
 * Blocks leased to anybody, at random: most away from home, some to nobody, at least one of each space to each shard.
 */
export function leasesOf({ shards, key, blockSize, seed }: Setup): Leases {
  const externals = nothingLeased(blockSize)
  for (const [entry, external] of NAT_ADDRESSES.entries()) {
    externals.add(swap32(external), entry === 0 ? SHARED : POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = 0; block < externals.blocksPerSpace; block++) {
        const random = mix(mix(seed, entry * SPACES + space), block) % (shards + 1)
        const shard = block < shards ? (block + seed) % shards : random - 1
        if (shard >= 0) externals.lease(entry, space, block, shard)
      }
  }
  return { shards, key, externals }
}

// --- flows, and how they are translated ---

export interface Endpoint {
  readonly address: number
  readonly port: number
}

/** A flow through the gateway. */
export interface Flow {
  readonly protocol: number
  /** The inside endpoint, and what it is translated to. */
  readonly inside: Endpoint
  readonly external: Endpoint
  /** The other end. */
  readonly remote: Endpoint
}

/** Random numbers that a flow is made of. */
export interface Draw {
  readonly host: number
  readonly port: number
  readonly entry: number
  readonly pick: number
  readonly remote: Endpoint
}

export const draws = (): fc.Arbitrary<Draw> =>
  fc.record({
    host: fc.nat(255),
    port: u16(),
    entry: fc.nat(NAT_ADDRESSES.length - 1),
    pick: u16(),
    remote: fc.record({ address: u32(), port: u16() }),
  })

/** What dynamic NAT does: any port that no rule dictates, of any block that the owner of the inside endpoint leases. */
export function choosePort(leases: Leases, protocol: number, inside: Endpoint, { entry, pick }: Draw): Endpoint {
  const { externals } = leases
  const owner = ownerOf(INSIDE, between(protocol, inside, { address: 0, port: 0 }), leases, RULES)
  const own = Array.from({ length: externals.blocksPerSpace }, (_, block) => block).filter(
    (block) => externals.ownerOfBlock(entry, spaceOf(protocol), block) === owner,
  )
  for (let tries = pick; ; tries++) {
    const block = own[Math.floor(tries / externals.blockSize) % own.length]!
    const port = block * externals.blockSize + (tries % externals.blockSize)
    const external = { address: NAT_ADDRESSES[entry]!, port }
    if (!isDictated(protocol, external)) return external
  }
}

/** A kind of NAT: which inside endpoint has which external one. */
export interface Kind {
  readonly name: string
  readonly protocols: readonly number[]
  /** The protocols of which an unasked packet to the external endpoint reaches the inside one. */
  readonly reachableBy: readonly number[]
  ends(leases: Leases, protocol: number, draw: Draw): Pick<Flow, 'inside' | 'external'>
}

const dynamic = (insideOf: (draw: Draw, protocol: number) => Endpoint): Kind['ends'] => {
  return (leases, protocol, draw) => {
    const inside = insideOf(draw, protocol)
    return { inside, external: choosePort(leases, protocol, inside, draw) }
  }
}
const anyHost = ({ host, port }: Draw): Endpoint => ({ address: address('10.0.1.0') + host, port })

export const KINDS: readonly Kind[] = [
  {
    name: 'a port chosen by dynamic NAT, or for a helper by whichever shard',
    protocols: [TCP, UDP],
    reachableBy: [TCP, UDP],
    ends: dynamic(anyHost),
  },
  {
    name: 'an ICMP identifier chosen by dynamic NAT',
    protocols: [ICMP],
    reachableBy: [],
    ends: dynamic(anyHost),
  },
  {
    name: 'a port chosen for what the forward to a host does not name: another port, another protocol',
    protocols: [TCP, UDP],
    reachableBy: [TCP, UDP],
    ends: dynamic(({ port }, protocol) => ({
      address: address('10.0.0.80'),
      port: protocol === UDP ? 80 : port === 80 ? 81 : port,
    })),
  },
  {
    name: 'a forwarded port',
    protocols: [TCP],
    reachableBy: [TCP],
    ends: () => ({
      inside: { address: address('10.0.0.80'), port: 80 },
      external: { address: address('203.0.113.1'), port: 8080 },
    }),
  },
  {
    name: 'a port forwarded on every address',
    protocols: [UDP],
    reachableBy: [UDP],
    ends: (_leases, _protocol, { entry }) => ({
      inside: { address: address('10.0.0.82'), port: 69 },
      external: { address: NAT_ADDRESSES[entry]!, port: 69 },
    }),
  },
  {
    name: 'a forwarded range of ports',
    protocols: [UDP],
    reachableBy: [UDP],
    ends: (_leases, _protocol, { pick }) => ({
      inside: { address: address('10.0.0.81'), port: 6000 + (pick % 100) },
      external: { address: address('203.0.113.2'), port: 5000 + (pick % 100) },
    }),
  },
  {
    name: 'an address translated 1:1',
    protocols: [TCP, UDP, ICMP, ...NO_PORTS],
    reachableBy: [TCP, UDP, ICMP, ...NO_PORTS],
    ends: (_leases, _protocol, { port }) => ({
      inside: { address: address('10.0.0.90'), port },
      external: { address: address('203.0.113.10'), port },
    }),
  },
  {
    name: 'a prefix translated to another',
    protocols: [TCP, UDP, ICMP, ...NO_PORTS],
    reachableBy: [TCP, UDP, ICMP, ...NO_PORTS],
    ends: (_leases, _protocol, { host, port }) => ({
      inside: { address: address('10.0.9.0') + host, port },
      external: { address: address('198.51.100.0') + host, port },
    }),
  },
  {
    name: 'a protocol without ports on an address of many',
    protocols: NO_PORTS,
    reachableBy: [],
    ends: (_leases, _protocol, { host, port, entry }) => ({
      inside: { address: address('10.0.1.0') + host, port },
      external: { address: NAT_ADDRESSES[entry]!, port },
    }),
  },
]

/** A packet; of ICMP a query or its answer, which has one identifier, that of the end named by `translated`. */
export function between(protocol: number, from: Endpoint, to: Endpoint, translated = from): PacketNumbers {
  const numbers = { protocol, source: from.address, destination: to.address }
  if (protocol === TCP || protocol === UDP) return { ...numbers, sourcePort: from.port, destinationPort: to.port }
  const identifier = protocol === ICMP ? translated.port : 0
  return { ...numbers, sourcePort: identifier, destinationPort: identifier }
}

/** Source NAT of a packet of the flow from inside. */
export const translateOut = ({ external, inside }: Flow, packet: PacketNumbers): PacketNumbers => ({
  ...packet,
  source: external.address,
  ...replacePort(packet, 'sourcePort', inside.port, external.port),
})

/** Destination NAT of a packet of the flow from outside. */
export const translateIn = ({ external, inside }: Flow, packet: PacketNumbers): PacketNumbers => ({
  ...packet,
  destination: inside.address,
  ...replacePort(packet, 'destinationPort', external.port, inside.port),
})

function replacePort(
  { protocol, ...packet }: PacketNumbers,
  end: 'sourcePort' | 'destinationPort',
  before: number,
  after: number,
): Partial<PacketNumbers> {
  if (protocol !== TCP && protocol !== UDP && protocol !== ICMP) return {}
  if (packet[end] !== before) throw new Error(`${end} ${packet[end]} is not the flow's ${before}`)
  return protocol === ICMP ? { sourcePort: after, destinationPort: after } : { [end]: after }
}

export const answerTo = ({
  source,
  destination,
  sourcePort,
  destinationPort,
  ...rest
}: PacketNumbers): PacketNumbers => ({
  ...rest,
  source: destination,
  destination: source,
  sourcePort: destinationPort,
  destinationPort: sourcePort,
})

/** An ICMP error of the host that dropped the packet, to the sender that the packet names. */
export const errorAbout = (embedded: PacketNumbers, by: number): PacketNumbers => ({
  protocol: ICMP,
  source: by,
  destination: embedded.source,
  sourcePort: 0,
  destinationPort: 0,
  embedded,
})
