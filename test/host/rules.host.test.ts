// The rules as nft lists them: what the kernel was given is what was meant.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RuleTables } from '../../src/host/rule-tables.ts'
import type { RuleSet } from '../../src/host/rules.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { addr, inside } from './inside.ts'
import { RULES } from './rule-set.ts'

describe('the rules', () => {
  let gateway: Namespace
  let tables: RuleTables

  beforeAll(() => {
    gateway = testNamespace('rules')
    tables = inside(gateway, () => new RuleTables('natloom'))
  })
  afterAll(() => {
    tables?.close()
    gateway?.delete()
  })

  /** What nft lists of a chain with these rules in force. */
  function listed(changes: Partial<RuleSet>, chain: string): string[] {
    tables.apply({ ...RULES, ...changes })
    const text = gateway.exec('nft', 'list', 'chain', 'ip', 'natloom', chain)
    const inOrder = (_: string, elements: string) => `{ ${elements.split(', ').sort().join(', ')} }`
    return text
      .split('\n')
      .map((line) => line.trim().replaceAll(/\{ (.*?) \}/g, inOrder))
      .slice(2, -3)
  }

  it('hide what natloom carries, in this order', () => {
    expect(listed({}, 'prerouting')).toEqual([
      'type filter hook prerouting priority -450; policy accept;',
      'iifname != { "lan0", "lan1", "wan0" } accept',
      'ip daddr 203.0.113.50 drop',
      'ip daddr 203.0.113.2 udp dport 20600 drop',
      'ip daddr 203.0.113.2 tcp dport { 20601, 20602 } drop',
      'ip daddr 203.0.113.2 meta l4proto { tcp, udp } th dport 16384-60991 socket transparent { 0, 1 } accept',
      'ip daddr 203.0.113.2 meta l4proto { tcp, udp } th dport 16384-60991 drop',
      'ip daddr 203.0.113.2 udp dport 2121 drop',
      'ip daddr 203.0.113.2 tcp dport 5000 drop',
      'iifname != { "lan0", "lan1" } ip daddr 203.0.113.2 ip protocol gre drop',
      'meta pkttype != host accept',
      'fib daddr type { broadcast, local, multicast } accept',
      'fib daddr oifname "wan0" drop',
      'fib daddr oif missing drop',
      'iifname != "wan0" accept',
      'fib daddr oifname { "lan0", "lan1" } drop',
    ])
  })

  it('drop what would be forwarded between inside and outside all the same', () => {
    expect(listed({}, 'forward')).toEqual([
      'type filter hook forward priority raw; policy accept;',
      'iifname != { "lan0", "lan1", "wan0" } accept',
      'oifname "wan0" drop',
      'iifname != "wan0" accept',
      'oifname { "lan0", "lan1" } drop',
    ])
  })

  it('ask for interfaces that are there by their indexes too, which nft lists by the names of the moment', () => {
    const [lo, other] = [1, 4711]
    const changes = {
      inside: { names: ['lan0', 'lan1'], indexes: [other, lo] },
      outside: { names: ['wan0'], indexes: [other + 1] },
    }
    expect(listed(changes, 'prerouting').filter((rule) => / iif | oif \S+ drop| oif \{|^iif/.test(rule))).toEqual([
      'iifname != { "lan0", "lan1", "wan0" } iif != { "lo", 4711, 4712 } accept',
      'iifname != { "lan0", "lan1" } iif != { "lo", 4711 } ip daddr 203.0.113.2 ip protocol gre drop',
      'fib daddr oif 4712 drop',
      'fib daddr oif missing drop',
      'iifname != "wan0" iif != 4712 accept',
      'fib daddr oif { "lo", 4711 } drop',
    ])
    expect(listed(changes, 'forward')).toEqual([
      'type filter hook forward priority raw; policy accept;',
      'iifname != { "lan0", "lan1", "wan0" } iif != { "lo", 4711, 4712 } accept',
      'oifname "wan0" drop',
      'oif 4712 drop',
      'iifname != "wan0" iif != 4712 accept',
      'oifname { "lan0", "lan1" } drop',
      'oif { "lo", 4711 } drop',
    ])
  })

  it('keep the resets of the kernel in, with which it would answer segments of NAT’s connections', () => {
    expect(listed({}, 'output')).toEqual([
      'type filter hook output priority raw; policy accept;',
      'oifname != "lo" ip saddr 203.0.113.2 tcp sport 16384-60991 tcp flags == rst drop',
    ])
    expect(listed({ shared: [] }, 'output')).toEqual(['type filter hook output priority raw; policy accept;'])
  })

  it('hide no address and no port while nothing is shared', () => {
    const rules = listed({ shared: [], pool: [] }, 'prerouting').join('\n')
    expect(rules).not.toMatch(/ip daddr|dport|ip protocol/)
    expect(rules).toContain('fib daddr oif missing drop')
  })

  it('take a name byte by byte: what is a wildcard to nft is none here', () => {
    expect(listed({ outside: { names: ['wan*'], indexes: [] } }, 'forward')).toContain('oifname "wan\\*" drop')
  })

  it('name a thousand addresses and ten thousand ports', () => {
    const pool = Array.from({ length: 1024 }, (_, i) => addr(`198.18.${i >> 8}.${i & 255}`))
    const contested = Array.from({ length: 10_000 }, (_, i) => ({ protocol: 17, port: 20_000 + i }))
    const rules = listed({ pool, contested }, 'prerouting').join('\n')
    expect(rules.match(/198\.18\./g)).toHaveLength(1024)
    expect(rules.match(/\b2\d{4}\b/g)).toHaveLength(10_000)
  })
})
