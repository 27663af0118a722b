// The tables that have natloom's rules, while others change the ruleset, and from one gateway to the next. The kernel's
// three ways are tried here, the older two by not asking for what is newer.

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { foreignTableRefusal, RuleTables, type WayOfOwning, waysOfOwning } from '../../src/host/rule-tables.ts'
import { type Namespace, run } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'
import { RULES } from './rule-set.ts'

const WELL = { inForce: true, restored: [] }
const PLAIN = 'ip natloom'
const OWNED = 'ip natloom-owned'

let gateway: Namespace
const open: RuleTables[] = []

beforeEach(() => {
  gateway = testNamespace('tables')
})
afterEach(() => {
  for (const tables of open.splice(0)) tables.close()
  gateway.delete()
})

const opened = (way: WayOfOwning): RuleTables => {
  const tables = inside(gateway, () => new RuleTables('natloom', waysOfOwning(way)))
  open.push(tables)
  return tables
}
const begun = (way: WayOfOwning): RuleTables => {
  const tables = opened(way)
  tables.apply(RULES)
  return tables
}
/** As the kernel does it when the gateway is killed. */
const killed = (tables: RuleTables): void => {
  open.splice(open.indexOf(tables), 1)
  tables.close()
}
const nft = (...args: string[]): string => gateway.exec('nft', ...args)
/** The tables there are, and how many rules each has. */
const tables = (): Record<string, number> =>
  Object.fromEntries(
    nft('list', 'tables')
      .split('\n')
      .filter(Boolean)
      .map((line) => line.replace(/^table /, ''))
      .map((table) => [table, (nft('list', 'table', ...table.split(' ')).match(/ (drop|accept)$/gm) ?? []).length]),
  )
const RULES_OF_ONE = 20
/** Tables with all rules. */
const whole = (...names: string[]) => Object.fromEntries(names.map((name) => [name, RULES_OF_ONE]))
const refused = (...args: string[]): string => {
  try {
    return `done: ${nft(...args)}`
  } catch (error) {
    return String(error)
  }
}

it('this kernel has the best of the ways', () => expect(opened('persistent').way).toBe('persistent'))

describe('a persistent table', () => {
  it('is left alone by another’s flush, and its deletion is refused', () => {
    const mine = begun('persistent')
    nft('add', 'table', 'ip', 'others')
    nft('flush', 'ruleset')
    expect(tables()).toEqual(whole(PLAIN))
    for (const change of ['delete table ip natloom', 'flush table ip natloom', 'add chain ip natloom more'])
      expect(refused(change)).toContain('Operation not permitted')
    expect(tables()).toEqual(whole(PLAIN))
    expect(mine.look()).toEqual(WELL)
  })

  it('stays when its gateway is killed, and belongs to the next one', () => {
    killed(begun('persistent'))
    expect(tables()).toEqual(whole(PLAIN))
    begun('persistent')
    nft('flush', 'ruleset')
    expect(tables()).toEqual(whole(PLAIN))
  })

  it('is removed by a flush while it is nobody’s, and made anew by the next start', () => {
    killed(begun('persistent'))
    nft('flush', 'ruleset')
    expect(tables()).toEqual({})
    begun('persistent')
    expect(tables()).toEqual(whole(PLAIN))
  })
})

describe('a pair of tables', () => {
  it('has a plain one, which is made again after a flush, and an owned one, which stays meanwhile', () => {
    const mine = begun('pair')
    expect(tables()).toEqual(whole(PLAIN, OWNED))
    nft('flush', 'ruleset')
    expect(tables()).toEqual(whole(OWNED))
    expect(mine.look()).toEqual({ inForce: true, restored: [PLAIN] })
    expect(tables()).toEqual(whole(PLAIN, OWNED))
    expect(mine.look()).toEqual(WELL)
  })

  it('keeps the plain one when its gateway is killed, and the next one completes it', () => {
    killed(begun('pair'))
    expect(tables()).toEqual(whole(PLAIN))
    begun('pair')
    expect(tables()).toEqual(whole(PLAIN, OWNED))
  })

  it('is made anew by the next start if a flush removed what was left', () => {
    killed(begun('pair'))
    nft('flush', 'ruleset')
    expect(tables()).toEqual({})
    begun('pair')
    expect(tables()).toEqual(whole(PLAIN, OWNED))
  })
})

describe('a table that anybody may change is made again', () => {
  const CHANGES = [
    ['when it is removed', 'delete table ip natloom'],
    ['when its rules are removed', 'flush chain ip natloom prerouting'],
    ['when it is put to sleep', 'add table ip natloom { flags dormant; }'],
    ['when a rule is added', 'insert rule ip natloom prerouting accept'],
  ] as const
  for (const way of ['pair', 'plain'] as const)
    for (const [what, change] of CHANGES)
      it(`${what} (${way})`, () => {
        const mine = begun(way)
        const before = nft('list', 'table', 'ip', 'natloom')
        run('ip', ['netns', 'exec', gateway.name, 'nft', '-f', '-'], change)
        expect(mine.look()).toEqual({ inForce: true, restored: [PLAIN] })
        expect(nft('list', 'table', 'ip', 'natloom')).toBe(before)
        expect(mine.look()).toEqual(WELL)
      })

  it('when one of its rules is removed', () => {
    const mine = begun('pair')
    const handle = /oif missing drop # handle (\d+)/.exec(nft('-a', 'list', 'table', 'ip', 'natloom'))?.[1]
    nft('delete', 'rule', 'ip', 'natloom', 'prerouting', 'handle', handle ?? '')
    expect(mine.look()).toEqual({ inForce: true, restored: [PLAIN] })
  })

  it('and not when others change their own', () => {
    const mine = begun('pair')
    nft('add', 'table', 'ip', 'others')
    expect(mine.look()).toEqual(WELL)
  })
})

describe('what another gateway has left is taken over', () => {
  const LEFT = [
    ['persistent', 'pair'],
    ['pair', 'persistent'],
    ['plain', 'persistent'],
    ['plain', 'pair'],
  ] as const
  for (const [left, next] of LEFT)
    it(`${left} by ${next}`, () => {
      killed(begun(left))
      const mine = begun(next)
      expect(tables()).toEqual(next === 'pair' ? whole(PLAIN, OWNED) : whole(PLAIN))
      expect(mine.look()).toEqual(WELL)
    })

  for (const way of ['persistent', 'pair', 'plain'] as const)
    it(`a version’s that hid at netdev ingress, by ${way}`, () => {
      gateway.ip('link add wan0 type veth peer name far0')
      const released = `table netdev natloom {
          chain outside0 {
            type filter hook ingress device "wan0" priority 0; policy accept;
            ip daddr 203.0.113.2 drop
          }
        }
        table ip natloom {
          chain forward {
            type filter hook forward priority -300; policy accept;
            iifname "lan0" oifname "wan0" drop
          }
        }`
      run('ip', ['netns', 'exec', gateway.name, 'nft', '-f', '-'], released)
      begun(way)
      expect(tables()).toEqual(way === 'pair' ? whole(PLAIN, OWNED) : whole(PLAIN))
    })

  for (const way of ['persistent', 'pair'] as const)
    it(`not while its process runs (${way})`, () => {
      const first = begun(way)
      const second = opened(way)
      const message = expect.stringContaining(`belongs to a running process (${first.port})`)
      expect(() => second.refuseForeign()).toThrow(expect.objectContaining({ code: 'HOST_IN_USE', message }))
      expect(inside(gateway, () => foreignTableRefusal('natloom'))).toEqual(message)
      expect(inside(gateway, () => foreignTableRefusal('guests'))).toBeUndefined()
      expect(() => second.apply(RULES)).toThrow(expect.objectContaining({ code: 'HOST_IN_USE' }))
      expect(first.look()).toEqual(WELL)
    })
})
