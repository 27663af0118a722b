import { describe, expect, it } from 'vitest'
import { linkChanges } from '../../../src/coordinator/interfaces/links.ts'
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
const RENAMED = { ...GONE, renamedTo: 'wan9' }
const BRIDGED = { ...UP, master: { name: 'br0', kind: 'bridge' } }
const IN_VRF = { ...UP, master: { name: 'red', kind: 'vrf' } }

const stateOf = (link: LinkReport | undefined) =>
  JSON.stringify(link && [link.index, link.up, link.renamedTo, link.master?.name])

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
    [UP, RENAMED, 'the interface was renamed to wan9: nothing passes by it until it has its name again'],
    [RENAMED, RENAMED, undefined],
    [RENAMED, GONE, undefined],
    [RENAMED, UP, 'the interface is back'],
    [UP, BRIDGED, 'the bridge br0 takes all frames of the interface now'],
    [BRIDGED, BRIDGED, undefined],
    [BRIDGED, UP, 'the interface has its frames again'],
    [UP, IN_VRF, undefined],
  ] as const
  for (const [before, after, what] of said)
    it(`${stateOf(before)} -> ${stateOf(after)}: ${what}`, () => {
      const changes = linkChanges(before ? [before] : [], [after])
      const texts = changes.map((change) => `${change.interface}: ${change.what}`)
      expect(texts).toEqual(what ? [`wan0: ${what}`] : [])
    })
})
