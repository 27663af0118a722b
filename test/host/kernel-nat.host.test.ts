import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type KernelNatRule, kernelNat } from '../../src/host/kernel-nat.ts'
import { listRuleset } from '../../src/host/ruleset.ts'
import { type Namespace, run } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'

const NAT_PORTS = { from: 16384, to: 60991 }

describe('NAT of the kernel’s own towards wan0', () => {
  let host: Namespace

  beforeAll(() => {
    host = testNamespace('knat')
    host.ip('link add wan0 type veth peer name lan0')
  })
  afterAll(() => host?.delete())

  /** The rules found in a postrouting chain with these rules, and in `sub` with those. */
  const found = (post: string[], sub: string[] = []): KernelNatRule[] =>
    inside(host, () => {
      run('nft', ['flush', 'ruleset'])
      const chain = (name: string, head: string, rules: string[]) =>
        `chain ${name} {\n${[head, ...rules].join('\n')}\n}\n`
      const hook = 'type nat hook postrouting priority 100; policy accept;'
      run('nft', ['-f', '-'], `table ip nat {\n${chain('sub', '', sub)}${chain('POSTROUTING', hook, post)}}\n`)
      return kernelNat(listRuleset(), ['wan0'], NAT_PORTS)
    })

  const collides = [
    'masquerade',
    'oifname "wan0" masquerade',
    'oif wan0 masquerade random',
    'oifname { "wan0", "wan1" } snat to 203.0.113.2',
    'oifname "wan*" masquerade',
    'oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade',
    'meta l4proto tcp masquerade to :60000-65535',
    'meta l4proto udp snat to 203.0.113.2:16384',
  ]
  for (const rule of collides)
    it(`collides with natloom: ${rule}`, () => {
      const statement = rule.includes('snat') ? 'snat' : 'masquerade'
      expect(found([rule])).toEqual([{ chain: 'ip nat POSTROUTING', handle: expect.any(Number), statement }])
    })

  const getsAlong = [
    'oifname "lan0" masquerade',
    'oifname != "wan0" masquerade',
    'oif != { wan0, lan0 } masquerade',
    'meta l4proto { tcp, udp } masquerade to :60992-65535',
    'oifname "wan0" accept',
  ]
  for (const rule of getsAlong) it(`gets along with natloom: ${rule}`, () => expect(found([rule])).toEqual([]))

  it('follows jumps, with what they are limited to, and chains that jump in a circle', () => {
    expect(found(['oifname "lan0" jump sub'], ['masquerade'])).toEqual([])
    expect(found(['oifname "wan0" jump sub'], ['masquerade'])).toMatchObject([{ chain: 'ip nat sub' }])
    expect(found(['oifname "wan0" goto sub', 'jump sub'], ['masquerade', 'snat to 1.2.3.4'])).toHaveLength(2)
    expect(found([], ['masquerade'])).toEqual([])
  })
})
