// Packets of every kind that the ownership rule tells apart, gateways that own them, and who the owner of a packet is
// as it stands in memory: what its numbers are is read here with the plain accessors of wire/.

import fc from 'fast-check'
import type { Side } from '../../src/conntrack/terms.ts'
import { POOL, SHARED, SPACES } from '../../src/nat/externals.ts'
import {
  type Endpoints,
  type Leases,
  ownerOf,
  type PacketNumbers,
  type StaticRules,
} from '../../src/ownership/ownership-rule.ts'
import { type FrameSpec, frame, type Ipv4Spec } from '../../src/testing/builder.ts'
import { formatAddress, swap32 } from '../../src/wire/address.ts'
import * as ethernet from '../../src/wire/ethernet.ts'
import * as icmp from '../../src/wire/icmp.ts'
import * as ipv4 from '../../src/wire/ipv4.ts'
import * as udp from '../../src/wire/udp.ts'
import { address, GRE, ICMP, NAT_ADDRESSES, nothingLeased, RULES, TCP, UDP, u16, u32 } from './translations.ts'

// --- gateways ---

export interface Gateway {
  readonly leases: Leases
  readonly rules: StaticRules
}

/** Blocks at home, none of the lowest 1024 ports, but for `moves`: a block, and the shard that leases it instead. */
export interface Shares {
  readonly shards: number
  readonly key: number
  readonly blockSize: number
  readonly moves: readonly (readonly [entry: number, space: number, block: number, shard: number])[]
}

export function sharedOut({ shards, key, blockSize, moves }: Shares): Leases {
  const externals = nothingLeased(blockSize)
  for (const [entry, external] of NAT_ADDRESSES.entries()) {
    externals.add(swap32(external), entry === 0 ? SHARED : POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = 1024 / blockSize; block < externals.blocksPerSpace; block++)
        externals.lease(entry, space, block, block % shards)
  }
  // Shard 8 and above: nobody's.
  for (const [entry, space, block, shard] of moves)
    if (shard < 8) externals.lease(entry, space, block % externals.blocksPerSpace, shard % shards)
    else externals.takeBack(entry, space, block % externals.blocksPerSpace)
  return { shards, key, externals }
}

const shares = (): fc.Arbitrary<Shares> =>
  fc.record({
    shards: fc.integer({ min: 1, max: 8 }),
    key: u32(),
    blockSize: fc.constantFrom(16, 64, 1024),
    moves: fc.array(fc.tuple(fc.nat(1), fc.nat(SPACES - 1), fc.nat(4095), fc.nat(9)), { maxLength: 60 }),
  })

const SERVERS = ['10.0.0.80', '10.0.0.81', '10.0.0.90', '10.0.9.7'].map(address)
const DICTATED = ['203.0.113.10', '198.51.100.7'].map(address)

const endpoints = (of: readonly number[]): fc.Arbitrary<Endpoints> =>
  fc
    .tuple(
      fc.constantFrom(null, ICMP, TCP, UDP),
      fc.constantFrom(...of),
      fc.integer({ min: 1, max: 32 }),
      ports(),
      ports(),
    )
    .map(([protocol, host, length, a, b]) => {
      const mask = -1 << (32 - length)
      const all = { protocol, network: host & mask, mask, firstPort: 0, lastPort: 65535 }
      return protocol === null ? all : { ...all, firstPort: Math.min(a, b), lastPort: Math.max(a, b) }
    })

const rules = (): fc.Arbitrary<StaticRules> =>
  fc.oneof(
    fc.constant(RULES),
    fc.record({
      external: fc.array(endpoints([...NAT_ADDRESSES, ...DICTATED]), { maxLength: 5 }),
      inside: fc.array(endpoints(SERVERS), { maxLength: 5 }),
    }),
  )

export const gateways = (): fc.Arbitrary<Gateway> =>
  fc.record({ shares: shares(), rules: rules() }).map(({ shares, rules }) => ({ leases: sharedOut(shares), rules }))

// --- packets ---

const ports = (): fc.Arbitrary<number> =>
  fc.oneof(u16(), fc.constantFrom(0, 79, 80, 81, 1023, 1024, 5000, 5099, 5100, 6000, 8080, 8081, 65534, 65535))

const addresses = (): fc.Arbitrary<string> =>
  fc
    .oneof(u32(), fc.constantFrom(...NAT_ADDRESSES), fc.constantFrom(...SERVERS, ...DICTATED))
    .map((numeric) => formatAddress(swap32(numeric)))

const ip = (): fc.Arbitrary<Ipv4Spec> =>
  fc.record({
    src: addresses(),
    dst: addresses(),
    id: u16(),
    dontFragment: fc.boolean(),
    options: fc.uint8Array({ maxLength: 40 }),
  })

const fragmentary = (): fc.Arbitrary<Ipv4Spec> =>
  fc
    .tuple(ip(), fc.boolean(), fc.nat(8191))
    .map(([whole, moreFragments, unit]) => ({ ...whole, moreFragments, fragmentOffset: 8 * unit }))

type Carried = Omit<FrameSpec, 'ip'>
const ends = () => fc.record({ sport: ports(), dport: ports() })
const carried = (): fc.Arbitrary<Carried> =>
  fc.oneof(
    ends().map((tcp): Carried => ({ tcp })),
    ends().map((udp): Carried => ({ udp })),
    fc.record({ type: fc.nat(20), id: u16(), seq: u16() }).map((icmp): Carried => ({ icmp })),
    fc.constantFrom(GRE, 0, 50, 132, 255).map((number): Carried => ({ protocol: { number }, payload: 'GRE' })),
  )

const packetOf = (spec: FrameSpec): Uint8Array => frame(spec).slice(ethernet.HEADER_LEN)
const put = ([header, content]: [Ipv4Spec, Carried]): FrameSpec => ({ ...content, ip: header })

const plain = (): fc.Arbitrary<FrameSpec> => fc.tuple(ip(), carried()).map(put)
const errors = (): fc.Arbitrary<FrameSpec> =>
  fc
    .tuple(ip(), fc.constantFrom(3, 4, 5, 11, 12), fc.tuple(fc.oneof(ip(), fragmentary()), carried()), fc.nat(120))
    .map(([header, type, inner, length]) =>
      put([header, { icmp: { type, embedded: packetOf(put(inner)).subarray(0, length + 20) } }]),
    )

/** Whole frames. */
export const specs = (): fc.Arbitrary<FrameSpec> =>
  fc.oneof(plain(), fc.tuple(fragmentary(), carried()).map(put), errors())

// --- owners ---

/** The owner of the IPv4 packet that lies in `bytes`, shard 0 if it ends before what the rule asks for. */
export function ownerOfBytes(side: Side, bytes: Uint8Array, { leases, rules }: Gateway): number {
  const packet = numbersOf(bytes)
  return packet ? ownerOf(side, packet, leases, rules) : 0
}

export function numbersOf(bytes: Uint8Array): PacketNumbers | undefined {
  const mem = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  try {
    return ipv4.version(mem, 0) === 4 ? numbersAt(mem, 0, false) : undefined
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

function numbersAt(mem: DataView, at: number, isEmbedded: boolean): PacketNumbers {
  const numbers = {
    protocol: ipv4.protocol(mem, at),
    source: swap32(ipv4.src(mem, at)),
    destination: swap32(ipv4.dst(mem, at)),
    sourcePort: 0,
    destinationPort: 0,
  }
  if (!isEmbedded && ipv4.isFragment(mem, at)) return { ...numbers, fragment: ipv4.id(mem, at) }
  const transport = at + ipv4.headerLen(mem, at)
  if (numbers.protocol === ipv4.PROTO_ICMP) return { ...numbers, ...icmpNumbers(mem, transport, isEmbedded) }
  if (numbers.protocol !== ipv4.PROTO_TCP && numbers.protocol !== ipv4.PROTO_UDP) return numbers
  return { ...numbers, sourcePort: udp.srcPort(mem, transport), destinationPort: udp.dstPort(mem, transport) }
}

function icmpNumbers(mem: DataView, at: number, isEmbedded: boolean): Partial<PacketNumbers> {
  const type = icmp.type(mem, at)
  if (icmp.isError(type) && !isEmbedded) return { embedded: numbersAt(mem, at + icmp.EMBEDDED, true) }
  if (!icmp.isQuery(type) && !icmp.isReply(type)) return {}
  const identifier = mem.getUint16(at + 4)
  return { sourcePort: identifier, destinationPort: identifier }
}
