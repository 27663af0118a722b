import { describe, expect, it } from 'vitest'
import { GatewayHealth, type HealthParts } from '../../src/coordinator/health.ts'
import type { LinkReport } from '../../src/host/host-tables.ts'
import { parseAddress } from '../../src/wire/address.ts'

const link = (name: string, but: Partial<LinkReport> = {}): LinkReport => ({
  name,
  present: true,
  index: 2,
  enabled: true,
  up: true,
  ethernet: true,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  addresses: [{ address: parseAddress('10.0.0.1'), prefixLength: 24, primary: true }],
  ...but,
})
const GONE = { present: false, index: 0, enabled: false, up: false, addresses: [] }

interface State {
  readonly notTurning?: readonly string[]
  readonly externalAddresses?: number
  readonly wan?: Partial<LinkReport>
}
const parts = ({ notTurning = [], externalAddresses = 1, wan = {} }: State): HealthParts => ({
  shards: 2,
  notTurning: () => notTurning,
  externalAddresses: () => externalAddresses,
  links: () => [link('lan0'), link('wan0', wan)],
})

describe('the health of a gateway', () => {
  const cases: readonly (readonly [string, State, readonly string[]])[] = [
    ['all is well', {}, []],
    ['a shard stands still', { notTurning: ['shard 1'] }, ['shard 1 does not turn']],
    ['nothing is leased', { externalAddresses: 0 }, ['there is no external address: nothing is translated']],
    ['an interface is not set up', { wan: { enabled: false, up: false } }, ['interface wan0 is down']],
    ['a cable is not in', { wan: { up: false } }, ['interface wan0 has no carrier']],
    ['an interface has no address', { wan: { addresses: [] } }, ['interface wan0 has no IPv4 address']],
    ['an interface is gone', { wan: GONE }, ['interface wan0 is gone']],
    ['an interface has another name', { wan: { ...GONE, renamedTo: 'wan9' } }, ['interface wan0 is wan9 now']],
    [
      'a bridge has taken an interface',
      { wan: { master: { name: 'br0', kind: 'bridge' } } },
      ['the bridge br0 takes all frames of interface wan0'],
    ],
    ['an interface is part of a VRF', { wan: { master: { name: 'red', kind: 'vrf' } } }, []],
    [
      'several things are wrong',
      { notTurning: ['shard 0', 'the dispatcher'], externalAddresses: 0, wan: { up: false, addresses: [] } },
      [
        'shard 0 does not turn',
        'the dispatcher does not turn',
        'there is no external address: nothing is translated',
        'interface wan0 has no carrier',
        'interface wan0 has no IPv4 address',
      ],
    ],
  ]
  for (const [what, state, reasons] of cases)
    it(`where ${what}: ${reasons.join('; ') || 'no reason'}`, () => {
      expect(new GatewayHealth(parts(state)).now().reasons).toEqual(reasons)
    })

  it('has what a part adds, as it is at each look', () => {
    const health = new GatewayHealth(parts({}))
    let inForce = true
    health.add(() => (inForce ? [] : ['no rules are in force']))
    expect(health.now().reasons).toEqual([])
    inForce = false
    expect(health.now().reasons).toEqual(['no rules are in force'])
  })

  it('shows the state of the parts beside the reasons', () => {
    expect(new GatewayHealth(parts({ notTurning: ['shard 1'], wan: { up: false } })).now().detail).toEqual({
      shards: 2,
      notTurning: ['shard 1'],
      externalAddresses: 1,
      interfaces: [
        { name: 'lan0', up: true },
        { name: 'wan0', up: false },
      ],
    })
  })
})
