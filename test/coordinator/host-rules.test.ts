import { describe, expect, it } from 'vitest'
import { HostRules } from '../../src/coordinator/host-rules.ts'
import type { RulesLook } from '../../src/host/rule-tables.ts'

const WELL: RulesLook = { inForce: true, restored: [] }
const RESTORED: RulesLook = { inForce: true, restored: ['ip natloom'] }
const GONE: RulesLook = { inForce: false, restored: [], failure: 'EPERM' }

describe('the look at the nft rules', () => {
  const said: string[] = []
  let found: RulesLook | undefined
  const note = (level: string) => (_: unknown, text: string) => said.push(`${level}: ${text}`)
  const begin = () => {
    said.length = 0
    return new HostRules({ lookAtRules: () => found }, { warn: note('warn'), error: note('error') } as never)
  }
  const state = ({ restored, inForce }: HostRules) => ({ restored, inForce })

  it('says nothing while all is well, and before and after there are rules', () => {
    const rules = begin()
    for (found of [undefined, WELL, WELL]) rules.look()
    expect([state(rules), rules.faults(), said]).toEqual([{ restored: 0, inForce: true }, [], []])
  })

  it('logs and counts each table that was made again', () => {
    const rules = begin()
    for (found of [RESTORED, WELL, { ...RESTORED, restored: ['ip natloom', 'ip natloom-owned'] }]) rules.look('nft (7)')
    expect(state(rules)).toEqual({ restored: 3, inForce: true })
    expect(said).toEqual(Array(2).fill('warn: natloom’s nft rules were changed: made again'))
  })

  it('that fails says nothing of them until one succeeds: nobody knows whether they are in force', () => {
    let fails = true
    const rules = new HostRules(
      {
        lookAtRules() {
          if (fails) throw new Error('ENOBUFS')
          return WELL
        },
      },
      {} as never,
    )
    expect(() => rules.look()).toThrow('ENOBUFS')
    expect([rules.inForce, rules.faults()]).toEqual([undefined, []])
    fails = false
    rules.look()
    expect([rules.inForce, rules.faults()]).toEqual([true, []])
  })

  it('is a fault as long as they are gone, which is logged once', () => {
    const rules = begin()
    for (found of [GONE, GONE]) rules.look()
    expect(state(rules)).toEqual({ restored: 0, inForce: false })
    expect(rules.faults()).toEqual([
      'the nft rules are gone (EPERM): the kernel forwards untranslated what natloom carries',
    ])
    found = RESTORED
    rules.look()
    expect([state(rules), rules.faults()]).toEqual([{ restored: 1, inForce: true }, []])
    expect(said).toHaveLength(2)
  })
})
