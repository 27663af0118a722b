import { describe, expect, it } from 'vitest'
import { checkInterfaces, linkChanges } from '../../../src/coordinator/interfaces/links.ts'
import type { LinkReport } from '../../../src/host/host-tables.ts'

const UP: LinkReport = {
  name: 'wan0',
  present: true,
  index: 3,
  enabled: true,
  up: true,
  ethernet: true,
  mtu: 1500,
  mac: '02:00:00:00:00:01',
  addresses: [],
}
const DOWN = { ...UP, up: false }
const GONE = { ...UP, present: false, index: 0, up: false }
const AGAIN = { ...UP, index: 7 }

const stateOf = (link: LinkReport | undefined) => JSON.stringify(link && [link.index, link.up])

describe('what is said about an interface', () => {
  const said = [
    // before, after, what
    [undefined, UP, undefined],
    [undefined, DOWN, 'the interface is down'],
    [UP, { ...UP, mtu: 9000 }, undefined],
    [UP, DOWN, 'the interface is down'],
    [DOWN, DOWN, undefined],
    [DOWN, UP, 'the interface is up'],
    [UP, GONE, 'the interface is gone: waiting for it'],
    [GONE, GONE, undefined],
    [GONE, AGAIN, 'the interface is back'],
    [UP, AGAIN, 'the interface is back'],
  ] as const
  for (const [before, after, what] of said)
    it(`${stateOf(before)} -> ${stateOf(after)}: ${what}`, () => {
      const changes = linkChanges(before ? [before] : [], [after])
      expect(changes.map((change) => `${change.interface}: ${change.what}`)).toEqual(what ? [`wan0: ${what}`] : [])
    })
})

describe('an interface that is part of another one', () => {
  const check = (kind: string) => () => checkInterfaces([{ ...UP, master: { name: 'lan', kind } }])

  for (const kind of ['bridge', 'bond', 'team', 'openvswitch', 'hsr'])
    it(`of kind ${kind} is refused, since it gets no frames of its own, and the other one is named`, () =>
      expect(check(kind)).toThrow(
        `interface wan0 is part of the ${kind} lan, which takes all of its frames: name lan instead, or take wan0 out of it`,
      ))

  it('is taken where that one leaves it its frames, as a VRF does', () => expect(check('vrf')).not.toThrow())
})
