// The ownership rule: whatever kind of NAT translates a packet, its answer, errors about it and its fragments come to
// the shard that it came to. The translation is that of translations.ts.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Side } from '../../src/conntrack/terms.ts'
import { INSIDE, OUTSIDE } from '../../src/conntrack/terms.ts'
import { spaceOf } from '../../src/nat/externals.ts'
import { type Leases, mix, ownerOf, type PacketNumbers, ROUND } from '../../src/ownership/ownership-rule.ts'
import {
  address,
  answerTo,
  between,
  choosePort,
  draws,
  type Endpoint,
  errorAbout,
  type Flow,
  GRE,
  ICMP,
  KINDS,
  type Kind,
  leasesOf,
  NAT_ADDRESSES,
  nothingLeased,
  RULES,
  setups,
  TCP,
  translateIn,
  translateOut,
  UDP,
  u16,
  u32,
} from './translations.ts'

type Owner = (side: Side, packet: PacketNumbers) => number

const ownerBy =
  (leases: Leases): Owner =>
  (side, packet) =>
    ownerOf(side, packet, leases, RULES)

const fromInside = ({ protocol, inside, remote }: Flow): PacketNumbers => between(protocol, inside, remote)
const fromOutside = ({ protocol, external, remote }: Flow): PacketNumbers =>
  between(protocol, remote, external, external)

function forFlowsOf(kind: Kind, check: (flow: Flow, owner: Owner) => void): void {
  fc.assert(
    fc.property(setups(), fc.constantFrom(...kind.protocols), draws(), (setup, protocol, draw) => {
      const leases = leasesOf(setup)
      check({ protocol, ...kind.ends(leases, protocol, draw), remote: draw.remote }, ownerBy(leases))
    }),
  )
}

for (const kind of KINDS)
  describe(`the owner of ${kind.name}`, () => {
    it('meets the answer to what the inside end has sent', () =>
      forFlowsOf(kind, (flow, owner) => {
        const packet = fromInside(flow)
        expect(owner(OUTSIDE, answerTo(translateOut(flow, packet)))).toBe(owner(INSIDE, packet))
      }))

    it('meets the answer to what came from outside', () =>
      forFlowsOf(kind, (flow, owner) => {
        const packet = fromOutside(flow)
        expect(owner(INSIDE, answerTo(translateIn(flow, packet)))).toBe(owner(OUTSIDE, packet))
      }))

    it('meets errors from outside about what was sent there, by the other end and by routers', () =>
      forFlowsOf(kind, (flow, owner) => {
        const packet = fromInside(flow)
        const sent = translateOut(flow, packet)
        for (const by of [flow.remote.address, address('192.0.2.99')]) {
          expect(owner(OUTSIDE, errorAbout(sent, by))).toBe(owner(INSIDE, packet))
          expect(owner(OUTSIDE, errorAbout({ ...sent, fragment: 7 }, by))).toBe(owner(INSIDE, packet))
        }
      }))

    it('meets errors from inside about what was delivered, by the inside end and by routers', () =>
      forFlowsOf(kind, (flow, owner) => {
        const packet = fromOutside(flow)
        const delivered = translateIn(flow, packet)
        for (const by of [flow.inside.address, address('10.0.0.1')]) {
          expect(owner(INSIDE, errorAbout(delivered, by))).toBe(owner(OUTSIDE, packet))
          expect(owner(INSIDE, errorAbout({ ...delivered, fragment: 7 }, by))).toBe(owner(OUTSIDE, packet))
        }
      }))

    const arrivals: [string, Side, (flow: Flow) => PacketNumbers][] = [
      ['inside', INSIDE, fromInside],
      ['outside', OUTSIDE, fromOutside],
    ]
    for (const [name, side, arriving] of arrivals)
      it(`gets the fragments from ${name} that one shard has put the ports to`, () =>
        forFlowsOf(kind, (flow, owner) => {
          const whole = arriving(flow)
          const { sourcePort, destinationPort } = whole
          for (const fragment of [0, 1, 0xffff]) {
            const first = { ...whole, fragment }
            const later = { ...first, sourcePort: 0, destinationPort: 0 }
            expect(owner(side, later)).toBe(owner(side, first))
            const { fragment: _, ...handedOver } = { ...later, sourcePort, destinationPort }
            expect(owner(side, handedOver)).toBe(owner(side, whole))
          }
        }))
  })

describe('hairpin: two connections, of which each has one owner', () => {
  const pairs = KINDS.flatMap((near) =>
    KINDS.flatMap((far) =>
      near.protocols
        .filter((protocol) => far.reachableBy.includes(protocol))
        .map((protocol) => ({ near, far, protocol })),
    ),
  )

  /** The sender's connection and the receiver's: to each the other's external endpoint is the remote one. */
  function forHairpins(check: (near: Flow, far: Flow, owner: Owner) => void): void {
    fc.assert(
      fc.property(fc.constantFrom(...pairs), setups(), draws(), draws(), (pair, setup, here, there) => {
        const { protocol } = pair
        const leases = leasesOf(setup)
        const near = pair.near.ends(leases, protocol, here)
        // An ICMP query keeps the identifier that its sender was given.
        const draw = protocol === ICMP ? { ...there, port: near.external.port } : there
        const far = pair.far.ends(leases, protocol, draw)
        check({ protocol, ...near, remote: far.external }, { protocol, ...far, remote: near.external }, ownerBy(leases))
      }),
      { numRuns: 500 },
    )
  }

  it('the answer goes back by the shards that the packet came by', () =>
    forHairpins((near, far, owner) => {
      const packet = fromInside(near)
      const turned = translateOut(near, packet)
      const answer = answerTo(translateIn(far, turned))
      expect(owner(INSIDE, answer)).toBe(owner(OUTSIDE, turned))
      expect(owner(OUTSIDE, translateOut(far, answer))).toBe(owner(INSIDE, packet))
    }))

  it('so does an error about the packet', () =>
    forHairpins((near, far, owner) => {
      const packet = fromInside(near)
      const turned = translateOut(near, packet)
      const error = errorAbout(translateIn(far, turned), far.inside.address)
      expect(owner(INSIDE, error)).toBe(owner(OUTSIDE, turned))
      expect(owner(OUTSIDE, errorAbout(turned, far.external.address))).toBe(owner(INSIDE, packet))
    }))
})

describe('the owner of any packet', () => {
  const sides = fc.constantFrom<Side>(INSIDE, OUTSIDE)
  const numbers = {
    protocol: fc.oneof(fc.constantFrom(ICMP, TCP, UDP, GRE), fc.nat(255)),
    source: u32(),
    destination: fc.oneof(u32(), fc.constantFrom(...NAT_ADDRESSES)),
    sourcePort: u16(),
    destinationPort: u16(),
  }
  const whole: fc.Arbitrary<PacketNumbers> = fc.record(numbers)
  const fragments = fc.record({ ...numbers, fragment: u16() })
  const errors = fc.record({ ...numbers, quoted: fc.oneof(whole, fc.record({ ...numbers, quoted: whole })) })

  it('is one of the shards', () => {
    fc.assert(
      fc.property(setups(), sides, fc.oneof(whole, fragments, errors), (setup, side, packet) => {
        const owner = ownerOf(side, packet, leasesOf(setup), RULES)
        expect(Number.isInteger(owner) && owner >= 0 && owner < setup.shards).toBe(true)
      }),
    )
  })

  it('is the same whether addresses are signed', () => {
    fc.assert(
      fc.property(setups(), sides, whole, fc.nat(0xff), (setup, side, packet, host) => {
        const owner = ownerBy(leasesOf(setup))
        const source = address('10.0.9.0') + host
        for (const unsigned of [packet, { ...packet, source }]) {
          const signed = { ...unsigned, source: unsigned.source | 0, destination: unsigned.destination | 0 }
          expect(owner(side, signed)).toBe(owner(side, unsigned))
        }
      }),
    )
  })

  it('is the same by whichever inside interface it came', () => {
    fc.assert(
      fc.property(setups(), sides, whole, fc.nat(15), (setup, side, packet, port) => {
        const owner = ownerBy(leasesOf(setup))
        const arrived = { ...packet, port, interface: `lan${port}` }
        expect(owner(side, arrived)).toBe(owner(side, packet))
      }),
    )
  })

  it('is the lessee of the port from outside, wherever the block is at home', () => {
    fc.assert(
      fc.property(setups(), u32(), u16(), u16(), (setup, remote, remotePort, port) => {
        const leases = leasesOf(setup)
        const lessee = leases.externals.ownerOfBlock(1, spaceOf(TCP), Math.floor(port / setup.blockSize))
        fc.pre(lessee >= 0)
        const packet = between(TCP, { address: remote, port: remotePort }, { address: NAT_ADDRESSES[1], port })
        expect(ownerOf(OUTSIDE, packet, leases, RULES)).toBe(lessee)
      }),
    )
  })

  it('is the same for RTP and RTCP, from either side', () => {
    fc.assert(
      fc.property(setups(), draws(), (setup, draw) => {
        const leases = leasesOf(setup)
        const owner = ownerBy(leases)
        const pair = ({ address, port }: Endpoint) => [port & ~1, port | 1].map((port) => ({ address, port }))
        const inside = pair({ address: address('10.0.1.0') + draw.host, port: draw.port })
        const external = pair(choosePort(leases, UDP, inside[0]!, draw))
        const owners = [
          ...inside.map((endpoint) => owner(INSIDE, between(UDP, endpoint, draw.remote))),
          ...external.map((endpoint) => owner(OUTSIDE, between(UDP, draw.remote, endpoint))),
        ]
        expect(new Set(owners).size).toBe(1)
      }),
    )
  })
})

describe('load', () => {
  const PACKETS = 10_000
  const host = (i: number): Endpoint => ({ address: address('10.1.0.0') + i, port: 40000 })
  const server = { address: address('192.0.2.7'), port: 443 }
  const forwarded = { address: NAT_ADDRESSES[0], port: 8080 }
  const hostsOwn = { address: NAT_ADDRESSES[0], port: 22 }
  const loads: [string, Side, (i: number) => PacketNumbers][] = [
    ['many hosts with one port each', INSIDE, (i) => between(UDP, host(i), server)],
    ['one host with many pairs of ports', INSIDE, (i) => between(TCP, { ...host(0), port: 2 * i }, server)],
    ['one host with many ICMP identifiers', INSIDE, (i) => between(ICMP, { ...host(0), port: i }, server)],
    ['many clients of one forwarded port', OUTSIDE, (i) => between(TCP, host(i), forwarded)],
    ['one busy client of one forwarded port', OUTSIDE, (i) => between(TCP, { ...server, port: i }, forwarded)],
    ['tunnels to many remote hosts', INSIDE, (i) => between(GRE, host(0), host(i))],
    ['fragmented datagrams of one host', INSIDE, (i) => ({ ...between(UDP, host(0), server), fragment: i })],
    ["the host's own traffic, to a port that nobody leases", OUTSIDE, (i) => between(TCP, host(i), hostsOwn)],
  ]

  for (const [name, side, packet] of loads)
    it(`of ${name} spreads evenly over the shards`, () => {
      for (const shards of [2, 3, 7, 16])
        for (const key of [0, 0x9e3779b9]) {
          const leases = { shards, key, externals: nothingLeased(64) }
          const counts = new Array<number>(shards).fill(0)
          for (let i = 0; i < PACKETS; i++) counts[ownerOf(side, packet(i), leases, RULES)]! += 1
          expect(chiSquare(counts), `${counts} of ${shards} shards, key ${key}`).toBeLessThan(bound(shards - 1))
        }
    })

  function chiSquare(counts: number[]): number {
    const expected = PACKETS / counts.length
    return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  }

  /** What chance exceeds once in ten thousand times: the chi-square quantile by Wilson and Hilferty. */
  const bound = (freedom: number): number =>
    freedom * (1 - 2 / (9 * freedom) + 3.719 * Math.sqrt(2 / (9 * freedom))) ** 3
})

describe('the hash', () => {
  /** What a machine computes that walks the steps with nothing but unsigned 32-bit words, as classic BPF. */
  const onWords = (x: bigint, word: bigint): bigint =>
    ROUND.reduce((a, { shift, factor }) => BigInt.asUintN(32, (a ^ (a >> BigInt(shift))) * BigInt(factor)), x ^ word)

  it("is MurmurHash3's finaliser, round by round", () => {
    const finalised = [0, 1, 0xdeadbeef, 0xffffffff].map((word) => mix(0, word))
    expect(finalised).toEqual([0, 0x514e28b7, 0x0de5c6a9, 0x81f16f39])
  })

  it('takes a word in as unsigned 32-bit arithmetic does', () => {
    fc.assert(
      fc.property(u32(), u32(), (x, word) => {
        expect(BigInt(mix(x, word))).toBe(onWords(BigInt(x), BigInt(word)))
      }),
    )
  })

  const KEY = 0x12345678
  const leases = { shards: 1000, key: KEY, externals: nothingLeased(64) }
  const packet = between(UDP, { address: 0x0a000105, port: 40001 }, { address: 0xc0000207, port: 53 })
  const chain = (...words: bigint[]): number => Number(words.reduce(onWords, BigInt(KEY)) % 1000n)
  const udp = (port: bigint): bigint => (17n << 16n) | port

  it('of a chosen port: the inside address, then protocol and half the port', () => {
    expect(ownerOf(INSIDE, packet, leases, RULES)).toBe(chain(0x0a000105n, udp(20000n)))
  })

  it('of a chosen ICMP identifier: the whole of it', () => {
    const query = { ...packet, protocol: ICMP, sourcePort: 40001, destinationPort: 40001 }
    expect(ownerOf(INSIDE, query, leases, RULES)).toBe(chain(0x0a000105n, (1n << 16n) | 40001n))
  })

  it('of a dictated endpoint: the remote address, then protocol and its port', () => {
    const server = { ...packet, source: address('10.0.0.90') }
    expect(ownerOf(INSIDE, server, leases, RULES)).toBe(chain(0xc0000207n, udp(53n)))
  })

  it('of a fragment: source, destination, then protocol and identification', () => {
    const fragment = { ...packet, fragment: 0xbeef }
    expect(ownerOf(INSIDE, fragment, leases, RULES)).toBe(chain(0x0a000105n, 0xc0000207n, udp(0xbeefn)))
  })
})
