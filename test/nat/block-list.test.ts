// The blocks of one address and space that a shard leases, against a model of maps and sets.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BlockList, UNREAD } from '../../src/nat/block-list.ts'

const BLOCKS = 64
const SIZE = 16

const step = fc.record({
  do: fc.constantFrom('add', 'read', 'take', 'free', 'drop', 'relist', 'remove'),
  block: fc.nat(BLOCKS - 1),
  usable: fc.nat(SIZE),
})

describe('a list of blocks', () => {
  it('knows each block as the model does, and draws those that are listed', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const list = new BlockList(BLOCKS, SIZE)
        const usable = new Map<number, number>()
        const leases = new Map<number, number>()
        const listed = new Set<number>()
        for (const { do: what, block, usable: count } of steps) {
          const isRead = leases.get(block) !== UNREAD && usable.has(block)
          if (what === 'add' && !usable.has(block)) {
            list.add(block)
            usable.set(block, SIZE)
            leases.set(block, UNREAD)
            listed.add(block)
          } else if (what === 'read' && usable.has(block) && !isRead) {
            list.setRead(block, 7 * block, count, SIZE - count)
            usable.set(block, count)
            leases.set(block, 7 * block)
            if (count === 0) listed.delete(block)
          } else if (what === 'take' && isRead && usable.get(block)! > 0) {
            list.change(block, -1, 0)
            usable.set(block, usable.get(block)! - 1)
            if (usable.get(block) === 0) listed.delete(block)
          } else if (what === 'free' && isRead && usable.get(block)! < SIZE) {
            list.change(block, 1, 0)
            usable.set(block, usable.get(block)! + 1)
            listed.add(block)
          } else if (what === 'drop' && isRead) {
            list.unlist(block)
            listed.delete(block)
          } else if (what === 'relist' && isRead && usable.get(block)! > 0) {
            list.list(block)
            listed.add(block)
          } else if (what === 'remove' && usable.has(block)) {
            list.remove(block)
            for (const of of [usable, leases, listed]) of.delete(block)
          }
          const places = Array.from({ length: list.listed }, (_, place) => list.at(place))
          expect(new Set(places)).toEqual(listed)
          expect([list.listed, list.known]).toEqual([listed.size, usable.size])
        }
        for (let block = 0; block < BLOCKS; block++) {
          expect([list.has(block), list.isListed(block)]).toEqual([usable.has(block), listed.has(block)])
          if (!usable.has(block)) continue
          expect([list.usableIn(block), list.leaseOf(block)]).toEqual([usable.get(block), leases.get(block)])
        }
      }),
      { numRuns: 200 },
    )
  })
})
