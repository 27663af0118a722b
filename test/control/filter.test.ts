// The key `filter`: rules as mappings and as lines, in the file, in the environment and on replay's command line.

import { describe, expect, it } from 'vitest'
import { ConfigError, filterRule, loadConfig } from '../../src/control/config.ts'
import { RULE_IN_WORDS, readRule, ruleText } from '../../src/control/filter-text.ts'
import { filter } from '../../src/control/schema/filter.ts'
import { parseFilterRule } from '../../src/coordinator/filter.ts'
import { parsePrefix } from '../../src/wire/address.ts'
import { temporaryFile } from './command.ts'

const TWO_INTERFACES = { NATLOOM_INSIDE: 'lan0', NATLOOM_OUTSIDE: 'wan0' }
const ofVariable = (NATLOOM_FILTER: string) => loadConfig({ env: { ...TWO_INTERFACES, NATLOOM_FILTER } }).config.filter
const ofFile = (yaml: string) =>
  loadConfig({ file: temporaryFile('natloom.yaml', `filter:\n${yaml}`), env: TWO_INTERFACES }).config.filter

function refused(load: () => unknown): string[] {
  try {
    load()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ where, what }) => `${where.replace(/^.*\//, '')}: ${what}`)
  }
  throw new Error('the configuration was accepted')
}

describe('a rule', () => {
  it('is the same as a mapping and as a line, in the file and in the environment', () => {
    const rules = [
      { action: 'deny', direction: 'out', proto: 6, port: 25 },
      { action: 'allow', state: 'related', proto: 99, inside: '10.0.0.0/8', remote: '192.0.2.7' },
      { action: 'deny', port: '6000-6010' },
    ]
    const lines = [
      'deny out tcp port 25',
      'allow remote 192.0.2.7 inside 10.0.0.0/8 proto 99 related',
      'deny port 6000-6010',
    ]
    expect(ofVariable(lines.join(', '))).toEqual(rules)
    expect(ofFile(lines.map((line) => `  - ${line}\n`).join(''))).toEqual(rules)
    expect(ofFile(rules.map((rule) => `  - ${JSON.stringify(rule)}\n`).join(''))).toEqual(rules)
  })

  it('is written as the line that it is read from, its words in one order', () => {
    const lines = [
      'deny',
      'allow in',
      'allow out liberal tcp',
      'deny out related tcp inside 10.0.0.5 remote 192.0.2.0/24 port 1-1024',
    ]
    for (const line of lines) expect(ruleText(readRule(line) as never)).toBe(line)
    expect(ruleText(readRule('deny port 25 proto 6 out') as never)).toBe('deny out proto 6 port 25')
  })

  it('is read into numbers', () => {
    const read = (line: string) => parseFilterRule(filterRule(filter.parse([readRule(line)])[0]!))
    expect(read('deny')).toEqual({
      allows: false,
      isLiberal: false,
      openedFrom: null,
      related: null,
      protocol: null,
      inside: parsePrefix('0.0.0.0/0'),
      remote: parsePrefix('0.0.0.0/0'),
      ports: null,
    })
    expect(read('allow out new udp inside 10.0.0.5 remote 192.0.2.0/24 port 53')).toEqual({
      allows: true,
      isLiberal: false,
      openedFrom: 0,
      related: false,
      protocol: 17,
      inside: parsePrefix('10.0.0.5/32'),
      remote: parsePrefix('192.0.2.0/24'),
      ports: { from: 53, to: 53 },
    })
    expect(read('allow liberal tcp')).toMatchObject({ allows: true, isLiberal: true, protocol: 6 })
    expect(read('allow in related gre')).toMatchObject({ openedFrom: 1, related: true, protocol: 47 })
  })
})

describe('a rule that is none', () => {
  const NAMES = 'tcp, udp, icmp, igmp, ipencap, dccp, ipv6, rsvp, gre, esp, ah, ospf, pim, vrrp, l2tp, sctp, udplite'
  const PROTOCOL = `${NAMES}, or a number from 0 to 255`
  const PREFIX = 'an IPv4 address, or a prefix without bits behind its length (192.0.2.0/24)'
  const PORT = 'a port from 1 to 65535, or a range a-b'
  const lines = [
    ['deny out prot tcp', `"deny out prot tcp" is not allowed; allowed: ${RULE_IN_WORDS}; "prot" is no word of a rule`],
    ['deny in out', `"deny in out" is not allowed; allowed: ${RULE_IN_WORDS}; direction is said twice`],
    ['deny tcp port', `"deny tcp port" is not allowed; allowed: ${RULE_IN_WORDS}; nothing follows "port"`],
    ['out tcp', '"out" is not allowed; allowed: allow, deny'],
    ['deny proto 256', `256 is not allowed; allowed: ${PROTOCOL}`],
    ['deny proto any', `"any" is not allowed; allowed: ${PROTOCOL}`],
    ['deny inside 10.0.0.1/8', `"10.0.0.1/8" is not allowed; allowed: ${PREFIX}; did you mean 10.0.0.0/8?`],
    ['deny remote example.com', `"example.com" is not allowed; allowed: ${PREFIX}`],
    ['deny tcp port 0', `0 is not allowed; allowed: ${PORT}`],
    ['deny tcp port 65536', `65536 is not allowed; allowed: ${PORT}`],
    ['deny tcp port 20-10', `"20-10" is not allowed; allowed: ${PORT}`],
    ['deny tcp port 10-65536', `"10-65536" is not allowed; allowed: ${PORT}`],
    ['deny tcp port smtp', `"smtp" is not allowed; allowed: ${PORT}`],
    ['deny icmp port 8', '"icmp" is not allowed; allowed: tcp, udp or none, because the rule has a port'],
    ['deny proto 47 port 8', '47 is not allowed; allowed: tcp, udp or none, because the rule has a port'],
  ] as const
  for (const [line, problem] of lines)
    it(`"${line}": what is wrong, and what is allowed`, () => {
      expect(refused(() => ofVariable(line))).toEqual([`NATLOOM_FILTER: ${problem}`])
    })

  it('is told with its line of the file, and with the key that was meant', () => {
    const yaml = '  - deny in\n  - { action: deny, ports: 25 }\n  - { direction: out }\n'
    expect(refused(() => ofFile(yaml))).toEqual([
      'natloom.yaml:3: filter[1].ports: no such key; did you mean filter[1].port?',
      'natloom.yaml:4: filter[2].action: not set; allowed: allow, deny',
    ])
  })

  it('is one of more than 1024', () => {
    expect(refused(() => ofVariable(Array(1025).fill('deny').join()))[0]).toMatch(/allowed: at most 1024 rules$/)
  })
})
