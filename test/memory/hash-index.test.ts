// The index against a plain list of pairs, with few hashes, so that they collide all the time and wrap at the end.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HashIndex } from '../../src/memory/hash-index.ts'
import { allocate } from '../../src/memory/region.ts'

const make = (entries: number): HashIndex => allocate((region) => new HashIndex(region, entries)).view

/** All refs that a probe for this hash meets. */
function refsOf(index: HashIndex, hash: number): number[] {
  const refs: number[] = []
  for (let at = index.first(hash); at >= 0; at = index.next(hash, at)) refs.push(index.refAt(at))
  return refs
}

const sorted = (refs: readonly number[]): number[] => refs.toSorted((a, b) => a - b)

describe('HashIndex', () => {
  it('finds nothing when it is empty', () => {
    const index = make(8)
    expect(index.first(0)).toBe(-1)
    expect(index.remove(0, 2)).toBe(false)
  })

  it('tells hashes apart that begin in the same cell', () => {
    const index = make(8)
    const other = index.mask + 1
    index.insert(0, 2)
    index.insert(other, 4)
    expect(refsOf(index, 0)).toEqual([2])
    expect(refsOf(index, other)).toEqual([4])
  })

  it('holds several refs of one hash', () => {
    const index = make(8)
    for (const ref of [2, 3, 4]) index.insert(-5, ref)
    expect(index.remove(-5, 3)).toBe(true)
    expect(index.remove(-5, 3)).toBe(false)
    expect(refsOf(index, -5)).toEqual([2, 4])
  })

  it('moves back what a removed cell would cut off, across the end of the table', () => {
    const index = make(4)
    const last = index.mask
    // A cluster that begins at the last cell: home last, last, 0, last. The hole must not swallow the one at home in 0.
    for (const [hash, ref] of [
      [last, 2],
      [last, 4],
      [0, 6],
      [last, 8],
    ] as const)
      index.insert(hash, ref)
    expect(index.remove(last, 2)).toBe(true)
    expect(refsOf(index, last)).toEqual([4, 8])
    expect(refsOf(index, 0)).toEqual([6])
    expect(index.remove(last, 4)).toBe(true)
    expect(refsOf(index, last)).toEqual([8])
    expect(refsOf(index, 0)).toEqual([6])
  })

  it('is at most half full with as many entries as it is made for', () => {
    for (const entries of [1, 4, 5, 8, 1000, 1024]) expect(make(entries).mask + 1).toBeGreaterThanOrEqual(entries * 2)
  })

  it('forgets everything by clear()', () => {
    const index = make(8)
    index.insert(1, 2)
    index.clear()
    expect(index.first(1)).toBe(-1)
  })

  it('equals a list of pairs under random insert and remove', () => {
    const hash = fc.constantFrom(0, 1, 2, 6, 7, 14, 15, 16, 31, -1, 0x7fffffff)
    const step = fc.record({ insert: fc.boolean(), hash, ref: fc.integer({ min: 2, max: 40 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const index = make(7)
        const model: { hash: number; ref: number }[] = []
        for (const { insert, hash, ref } of steps) {
          const known = model.findIndex((pair) => pair.hash === hash && pair.ref === ref)
          if (!insert) {
            expect(index.remove(hash, ref)).toBe(known >= 0)
            if (known >= 0) model.splice(known, 1)
          } else if (known < 0 && model.length < index.mask) {
            // One cell stays empty: more than any table asks for.
            index.insert(hash, ref)
            model.push({ hash, ref })
          }
          for (const each of new Set(steps.map((one) => one.hash)))
            expect(sorted(refsOf(index, each))).toEqual(
              sorted(model.filter((pair) => pair.hash === each).map((pair) => pair.ref)),
            )
        }
      }),
    )
  })

  it('loses nothing at full load, whatever is removed and put back', () => {
    const index = make(512)
    const pairs = Array.from({ length: 1000 }, (_, i) => ({ hash: Math.imul(i, 0x9e3779b1) >> 7, ref: i + 2 }))
    for (const { hash, ref } of pairs) index.insert(hash, ref)
    for (let round = 0; round < 5; round++) {
      for (const { hash, ref } of pairs) if (ref % 5 === round) expect(index.remove(hash, ref)).toBe(true)
      for (const { hash, ref } of pairs) expect(refsOf(index, hash).includes(ref)).toBe(ref % 5 !== round)
      for (const { hash, ref } of pairs) if (ref % 5 === round) index.insert(hash, ref)
    }
    for (const { hash, ref } of pairs) expect(index.remove(hash, ref)).toBe(true)
    expect(index.cells.every((word) => word === 0)).toBe(true)
  })
})
