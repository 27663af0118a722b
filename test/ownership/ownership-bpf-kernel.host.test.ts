// The program of the ownership rule in the kernel: a fanout group of three sockets on a veth, and a host at its other
// end that sends packets of every kind. Each arrives at the member that ownerOf() names.

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Side } from '../../src/conntrack/terms.ts'
import { INSIDE, OUTSIDE } from '../../src/conntrack/terms.ts'
import { type Namespace, veth } from '../../src/lab/world/namespace.ts'
import { instructions } from '../../src/ownership/bpf-assembler.ts'
import { compileOwner } from '../../src/ownership/ownership-bpf.ts'
import { frame } from '../../src/testing/builder.ts'
import { FanoutMembers } from '../datapath/fanout.ts'
import { FarEnd, inside, quietNamespace } from '../io/far-end.ts'
import { type Gateway, ownerOfBytes, sharedOut, specs } from './owned-packets.ts'
import { leasesOf, RULES } from './translations.ts'

const HEADER = 14
const SHARDS = 3
const FRAMES = 300
const seed = Date.now() & 0x7fffffff

describe(`a fanout group with the program of the ownership rule (seed ${seed})`, () => {
  const hosts: Namespace[] = []
  let members: FanoutMembers
  let farEnd: FarEnd

  beforeAll(() => {
    for (const name of ['gateway', 'host']) hosts.push(quietNamespace(name))
    const [gateway, host] = hosts as [Namespace, Namespace]
    veth(gateway, 'eth0', host, 'eth0')
    members = inside(gateway, () => new FanoutMembers('eth0', SHARDS))
    farEnd = new FarEnd(host, 'eth0')
  })
  afterAll(() => {
    members?.close()
    farEnd?.close()
    for (const host of hosts) host.delete()
  })

  /** Sends frames one by one; how many arrived at each member. */
  function expectOwners(side: Side, gateway: Gateway, frames: readonly Uint8Array[]): number[] {
    members.setProgram(compileOwner(side, gateway.leases, gateway.rules).program)
    const counts = new Array<number>(SHARDS).fill(0)
    for (const sent of frames) {
      farEnd.send(sent)
      const { member, frame } = members.next()
      expect(frame).toEqual(sent)
      expect(member).toBe(ownerOfBytes(side, sent.subarray(HEADER), gateway))
      counts[member]! += 1
    }
    return counts
  }

  const sampled = (): Uint8Array[] =>
    fc.sample(
      specs().map((spec) => frame(spec)),
      { numRuns: FRAMES, seed },
    )

  const moves = Array.from({ length: 200 }, (_, i) => [i & 1, i % 3, 16 + 5 * i, (7 * i) % 10] as const)
  const few: Gateway = { leases: sharedOut({ shards: SHARDS, key: seed, blockSize: 64, moves }), rules: RULES }
  for (const [name, side] of [
    ['inside', INSIDE],
    ['outside', OUTSIDE],
  ] as const)
    it(`gives each packet from ${name} to its owner`, () => {
      for (const count of expectOwners(side, few, sampled())) expect(count).toBeGreaterThan(FRAMES / 10)
    })

  it('does so for packets that are cut short', () => {
    expectOwners(
      OUTSIDE,
      few,
      sampled().map((whole, i) => whole.slice(0, HEADER + 1 + (i % 90))),
    )
  })

  it('takes a program with as many exceptions as are compiled in', () => {
    const leases = leasesOf({ shards: SHARDS, key: seed, blockSize: 64, seed: 1 })
    const { program, left } = compileOwner(OUTSIDE, leases, RULES)
    expect(left).toBeGreaterThan(0)
    expect(instructions(program)).toBeGreaterThan(1000)
    members.setProgram(program)
    farEnd.send(sampled()[0]!)
    members.next()
  })
})
