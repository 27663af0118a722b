import { describe, expect, it } from 'vitest'
import { ruleText } from '../../src/host/nft.ts'
import { RULES } from './rule-set.ts'

describe('the script for nft', () => {
  it('has a chain only for an interface that is there, and names the missing ones in the sets', () => {
    const text = ruleText({ ...RULES, present: new Set(['wan0']) })
    expect(text).toContain('device "wan0"')
    expect(text).not.toContain('device "lan0"')
    expect(text).toContain('oifname { "lan0", "lan1", "wan0" } drop')
  })

  it('hides no ports while nothing is shared', () => {
    const text = ruleText({ ...RULES, shared: [], pool: [] })
    expect(text).not.toContain('dport')
    expect(text).not.toContain('ip protocol')
    expect(text).not.toContain('ip daddr')
  })

  it('drops what would be forwarded between inside and outside, whatever the ingress rules let through', () => {
    const text = ruleText(RULES)
    expect(text).toContain('iifname { "lan0", "lan1" } oifname { "wan0" } drop')
    expect(text).toContain('iifname { "wan0" } oifname { "lan0", "lan1", "wan0" } drop')
  })

  it('refuses a name that nft would take for something else', () => {
    expect(() => ruleText({ ...RULES, outside: ['wan*'] })).toThrow(/"wan\*" can't be used in nft rules: rename it/)
  })
})
