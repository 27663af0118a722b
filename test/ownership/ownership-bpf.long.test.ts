// The ownership rule as a program for the kernel: on a machine of the same kind, what it returns for the bytes of a
// packet is what ownerOf() says about the packet's numbers.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Side } from '../../src/conntrack/terms.ts'
import { INSIDE, OUTSIDE } from '../../src/conntrack/terms.ts'
import { bytesOf, Region } from '../../src/memory/region.ts'
import { Externals, POOL, SPACES, TCP_SPACE } from '../../src/nat/externals.ts'
import {
  instructions,
  JEQ_K,
  Label,
  LD_W_ABS,
  MAX_INSTRUCTIONS,
  Program,
  RET_K,
} from '../../src/ownership/bpf-assembler.ts'
import { compileOwner } from '../../src/ownership/ownership-bpf.ts'
import { ownerOf, type StaticRules } from '../../src/ownership/ownership-rule.ts'
import { frame, type TcpSpec } from '../../src/testing/builder.ts'
import { swap32 } from '../../src/wire/address.ts'
import { damagedFrame } from '../wire/arbitraries.ts'
import { runBpf } from './bpf-machine.ts'
import { type Gateway, gateways, numbersOf, ownerOfBytes, sharedOut, specs } from './owned-packets.ts'
import { address, leasesOf, NAT_ADDRESSES, RULES, setups, TCP, u16, u32 } from './translations.ts'

const NO_RULES: StaticRules = { external: [], inside: [] }
const HEADER = 14
const sides = (): fc.Arbitrary<Side> => fc.constantFrom<Side>(INSIDE, OUTSIDE)
const packetsOf = (frames: Uint8Array[]): Uint8Array[] => frames.map((whole) => whole.subarray(HEADER))

/** Each packet of a gateway's, by the program and by the rule. */
function expectOwners(side: Side, gateway: Gateway, packets: readonly Uint8Array[]): void {
  const program = compileOwner(side, gateway.leases, gateway.rules).program
  for (const packet of packets)
    expect(runBpf(program, packet), `${JSON.stringify(numbersOf(packet))}`).toBe(ownerOfBytes(side, packet, gateway))
}

/** A TCP segment between an endpoint and 192.0.2.7:443. */
const tcpTo = (port: number, address: number): Uint8Array => segment({ sport: 443, dport: port }, 16, address)
const tcpFrom = (port: number, address: number): Uint8Array => segment({ sport: port, dport: 443 }, 12, address)
function segment(tcp: TcpSpec, at: number, address: number): Uint8Array {
  const packet = frame({ ip: { src: '192.0.2.7', dst: '192.0.2.7' }, tcp }).slice(HEADER)
  new DataView(packet.buffer).setUint32(at, address)
  return packet
}

/** Blocks of 64 ports, the lowest `nobodys` of each address apart. */
function leasedAtHome(addresses: readonly number[], shards: number, nobodys = 0): Externals {
  const cut = (region: Region): Externals => new Externals(region, { capacity: addresses.length, blockSize: 64 })
  const externals = cut(new Region(new SharedArrayBuffer(bytesOf(cut))))
  for (const [entry, numeric] of addresses.entries()) {
    externals.add(swap32(numeric), POOL)
    for (let space = 0; space < SPACES; space++)
      for (let block = nobodys; block < 1024; block++) externals.lease(entry, space, block, block % shards)
  }
  return externals
}

describe('the program of the ownership rule', () => {
  const many = fc
    .array(
      specs().map((spec) => frame(spec)),
      { minLength: 20, maxLength: 60 },
    )
    .map(packetsOf)

  it('names the owner of any packet', () => {
    fc.assert(fc.property(sides(), gateways(), many, expectOwners), { numRuns: 100 })
  })

  it('names the owner of any packet, or shard 0 if it ends before what the rule asks for', () => {
    const cut = fc.tuple(specs(), fc.nat(90)).map(([spec, length]) => frame(spec).subarray(HEADER, HEADER + length))
    fc.assert(fc.property(sides(), gateways(), fc.array(cut, { minLength: 20 }), expectOwners))
  })

  it('names an owner of whatever arrives', () => {
    const damaged = fc.array(damagedFrame(), { minLength: 20 }).map(packetsOf)
    fc.assert(fc.property(sides(), gateways(), damaged, expectOwners))
  })

  it('gives everything to shard 0 if that is the only one, and to shard 0 what is not IPv4', () => {
    const alone = sharedOut({ shards: 1, key: 7, blockSize: 64, moves: [] })
    expect(instructions(compileOwner(OUTSIDE, alone, RULES).program)).toBe(1)
    const two = compileOwner(OUTSIDE, { ...alone, shards: 2 }, RULES).program
    for (const version of [0, 5, 6, 15]) expect(runBpf(two, new Uint8Array(60).fill(version << 4))).toBe(0)
  })

  it('follows rules for prefixes of any length', () => {
    const all = { protocol: null, firstPort: 0, lastPort: 65535 }
    const everyone = { external: [{ ...all, network: 0, mask: 0 }], inside: [{ ...all, network: 0, mask: 0 }] }
    fc.assert(
      fc.property(sides(), many, (side, packets) => {
        const leases = sharedOut({ shards: 5, key: 1, blockSize: 64, moves: [] })
        expectOwners(side, { leases, rules: everyone }, packets)
      }),
      { numRuns: 20 },
    )
  })
})

describe('exceptions', () => {
  it('end where they say, also beside the last port and the last address', () => {
    const ports = { protocol: TCP, firstPort: 1, lastPort: 65534 }
    const external = [
      { ...ports, network: NAT_ADDRESSES[1], mask: -1 },
      { ...ports, network: -2, mask: -1 },
    ]
    const externals = leasedAtHome([NAT_ADDRESSES[1], 0xffffffff, 0xfffffffe], 8)
    const gateway = { leases: { shards: 8, key: 11, externals }, rules: { external, inside: external } }
    const packets = [NAT_ADDRESSES[1], 0xffffffff, 0xfffffffe, 0].flatMap((end) =>
      [0, 1, 65534, 65535].flatMap((port) => [tcpTo(port, end), tcpFrom(port, end)]),
    )
    for (const side of [INSIDE, OUTSIDE] as const) expectOwners(side, gateway, packets)
  })

  it('are none where all blocks are at home', () => {
    const externals = leasedAtHome([NAT_ADDRESSES[0]], 4)
    expect(instructions(compileOwner(OUTSIDE, { shards: 4, key: 1, externals }, NO_RULES).program)).toBe(152)
  })

  it('beyond 512 are left to the home of the block, the widest runs and static rules last', () => {
    fc.assert(
      fc.property(setups(), fc.array(u16(), { minLength: 50 }), (setup, ports) => {
        fc.pre(setup.shards > 1)
        const leases = leasesOf(setup)
        const { program, left } = compileOwner(OUTSIDE, leases, RULES)
        expect(instructions(program)).toBeLessThanOrEqual(MAX_INSTRUCTIONS)
        if (setup.blockSize === 1024) expect(left).toBe(0)
        for (const port of [...ports, 8080]) {
          const packet = tcpTo(port, NAT_ADDRESSES[0])
          const owner = ownerOf(OUTSIDE, numbersOf(packet)!, leases, RULES)
          const named = runBpf(program, packet)
          const home = Math.floor(port / setup.blockSize) % setup.shards
          if (named !== owner) expect({ port, left: left > 0, named }).toEqual({ port, left: true, named: home })
          if (port === 8080) expect(named).toBe(owner)
        }
      }),
      { numRuns: 20 },
    )
  })

  it('of 512 blocks that are leased elsewhere all have a place', () => {
    const externals = leasedAtHome([NAT_ADDRESSES[1]], 8)
    for (let block = 0; block < 1024; block += 2) externals.lease(0, TCP_SPACE, block, (block + 3) % 8)
    const leases = { shards: 8, key: 5, externals }
    const { program, left } = compileOwner(OUTSIDE, leases, NO_RULES)
    expect(left).toBe(0)
    for (let port = 0; port < 65536; port += 16)
      expect(runBpf(program, tcpTo(port, NAT_ADDRESSES[1]))).toBe(externals.ownerOfBlock(0, TCP_SPACE, port >> 6))
  })

  it('that an address has in common with others are compiled once', () => {
    const pool = Array.from({ length: 1024 }, (_, i) => address('198.18.0.0') + i)
    const { program, left } = compileOwner(
      OUTSIDE,
      { shards: 4, key: 5, externals: leasedAtHome(pool, 4, 16) },
      NO_RULES,
    )
    expect(left).toBe(0)
    expect(instructions(program)).toBe(154)
  })

  it('are told for each of 1024 addresses of which no two are neighbours', () => {
    const pool = Array.from({ length: 1024 }, (_, i) => address('198.18.0.0') + 2 * i)
    const leases = { shards: 4, key: 5, externals: leasedAtHome(pool, 4, 16) }
    const { program } = compileOwner(OUTSIDE, leases, NO_RULES)
    expect(instructions(program)).toBeLessThanOrEqual(MAX_INSTRUCTIONS)
    for (const [i, to] of pool.entries())
      for (const port of [80, 1024 + 64 * i])
        for (const neighbour of [to, to + 1])
          expect(runBpf(program, tcpTo(port % 65536, neighbour))).toBe(
            ownerOf(OUTSIDE, numbersOf(tcpTo(port % 65536, neighbour))!, leases, NO_RULES),
          )
  })
})

describe('an assembled program', () => {
  it('goes where a value belongs, however far that is', () => {
    const cases = fc.uniqueArray(fc.tuple(u32(), fc.nat(900)), { maxLength: 900, selector: ([first]) => first })
    fc.assert(
      fc.property(cases, fc.array(u32()), (others, values) => {
        const sorted = [[0, 901] as [number, number], ...others.filter(([first]) => first > 0)].sort(
          ([a], [b]) => a - b,
        )
        const places = Array.from({ length: 902 }, () => new Label())
        const program = new Program().add(LD_W_ABS, 0).choose(sorted.map(([first, to]) => ({ first, to: places[to]! })))
        for (const [i, place] of places.entries()) program.place(place).add(RET_K, i)
        const assembled = program.assemble()
        for (const value of [...values, ...sorted.map(([first]) => first)]) {
          const packet = new Uint8Array(4)
          new DataView(packet.buffer).setUint32(0, value)
          expect(runBpf(assembled, packet)).toBe(sorted.findLast(([first]) => first <= value)![1])
        }
      }),
      { numRuns: 50 },
    )
  })

  it('jumps over as many instructions as there are, both ways', () => {
    for (let far = 248; far < 262; far++)
      for (let farther = 0; farther < 300; farther += farther < 20 || farther > 240 ? 1 : 50) {
        const [yes, no] = [new Label(), new Label()]
        const program = new Program().add(LD_W_ABS, 0).when(JEQ_K, 1, yes, no)
        for (let i = 0; i < far; i++) program.add(RET_K, 7)
        program.place(yes).add(RET_K, 1)
        for (let i = 0; i < farther; i++) program.add(RET_K, 7)
        const assembled = program.place(no).add(RET_K, 2).assemble()
        expect(runBpf(assembled, Uint8Array.of(0, 0, 0, 1))).toBe(1)
        expect(runBpf(assembled, Uint8Array.of(0, 0, 0, 2))).toBe(2)
      }
  })

  it('refuses a jump to a place that is not after it', () => {
    const back = new Label()
    expect(() => new Program().place(back).jump(back).add(RET_K, 0).assemble()).toThrow('not after it')
  })
})
