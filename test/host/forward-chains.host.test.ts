// Which forward chains would refuse what natloom forwards between lan0 and wan0, by real rulesets in a namespace.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ForwardChain, forwardChains, ruleTexts } from '../../src/host/forward-chains.ts'
import { listRuleset } from '../../src/host/ruleset.ts'
import { type Namespace, run } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'

describe('forward chains of others', () => {
  let host: Namespace

  beforeAll(() => {
    host = testNamespace('fwd')
    host.ip('link add wan0 type veth peer name lan0')
  })
  afterAll(() => host?.delete())

  const found = (script: string): ForwardChain[] =>
    inside(host, () => {
      run('nft', ['flush', 'ruleset'])
      run('nft', ['-f', '-'], script)
      return forwardChains(listRuleset(), ['lan0'], ['wan0'], (table) => table === 'ip natloom')
    })
  const forward = (rules: readonly string[], policy = 'accept', more = '') =>
    `table inet filter {\n${more}\nchain forward {\ntype filter hook forward priority 0; policy ${policy};\n` +
    `${rules.join('\n')}\n}\n}\n`
  const HANDLE = expect.any(Number)
  const CHAIN = 'inet filter forward'

  const refusing = [
    'drop',
    'iifname "lan0" tcp dport 25 drop',
    'iif wan0 oif lan0 reject',
    'iifname { "lan0", "lan1" } oifname "wan*" counter reject with icmp type admin-prohibited',
    'iifname != "lan1" ct state new drop',
    'ct state vmap { established : accept, invalid : drop }',
  ]
  for (const rule of refusing)
    it(`would refuse: ${rule}`, () => {
      expect(found(forward([rule]))).toEqual([
        { chain: CHAIN, policy: 'accept', refusing: [{ chain: CHAIN, handle: HANDLE }] },
      ])
    })

  const harmless = [
    'accept',
    'iifname "docker0" drop',
    'iifname "lan0" oifname "lan0" drop',
    'iifname "wan0" oifname != "lan0" reject',
    'tcp flags syn tcp option maxseg size set rt mtu',
    'counter',
  ]
  for (const rule of harmless) it(`has no part in it: ${rule}`, () => expect(found(forward([rule]))).toEqual([]))

  it('a policy drops what no rule accepts', () => {
    expect(found(forward(['iifname "lan0" oifname "wan0" accept'], 'drop'))).toEqual([
      { chain: CHAIN, policy: 'drop', refusing: [] },
    ])
  })

  it('jumps are followed, with what they are limited to', () => {
    const sub = 'chain sub {\ndrop\n}'
    expect(found(forward(['iifname "docker0" jump sub'], 'accept', sub))).toEqual([])
    expect(found(forward(['iifname "lan0" jump sub', 'goto sub'], 'accept', sub))).toEqual([
      { chain: CHAIN, policy: 'accept', refusing: [{ chain: 'inet filter sub', handle: HANDLE }] },
    ])
    expect(found(forward(['ct state vmap { new : jump sub }'], 'accept', sub))).toMatchObject([
      { refusing: [{ chain: 'inet filter sub' }] },
    ])
  })

  it('other hooks, other families and natloom’s own tables are not among them', () => {
    const chain = (hook: string) => `chain c {\ntype filter hook ${hook} priority 0; policy drop;\n}\n`
    expect(found(`table inet a {\n${chain('input')}}\ntable ip6 b {\n${chain('forward')}}\n`)).toEqual([])
    expect(found(`table ip natloom {\n${chain('forward')}}\n`)).toEqual([])
    expect(found(`table ip filter {\n${chain('forward')}}\n`)).toMatchObject([{ chain: 'ip filter c' }])
  })

  it('their rules are shown as nft writes them', () => {
    const [chain] = found(forward(['counter', 'iifname "lan0" tcp dport 25 drop']))
    const [{ handle }] = chain.refusing
    expect(inside(host, () => ruleTexts(CHAIN)).get(handle)).toBe('iifname "lan0" tcp dport 25 drop')
  })
})
