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
