// Which rows are taken, and by which generation: the life of a row as memory/rows.ts draws it.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { allocate, Region } from '../../src/memory/region.ts'
import { LIVE, Rows } from '../../src/memory/rows.ts'

const WIDTH = 4
const FLAGS = 1
const GENERATION = 3
const OPTIONS = { capacity: 5, width: WIDTH, flagsWord: FLAGS, generationWord: GENERATION }
const make = () => allocate((region) => new Rows(region, OPTIONS))
const generationOf = (rows: Rows, row: number): number => rows.words[row * WIDTH + GENERATION]!

describe('a row', () => {
  it('is odd while it is written, even and live when it is true, even and dead when it is free', () => {
    const rows = make().view
    const row = rows.begin()
    expect(row).toBe(1)
    expect([generationOf(rows, row) & 1, rows.isLive(row)]).toEqual([1, false])
    rows.commit(row)
    expect([generationOf(rows, row) & 1, rows.isLive(row)]).toEqual([0, true])
    const generation = generationOf(rows, row)
    rows.retire(row)
    expect([generationOf(rows, row) & 1, rows.isLive(row)]).toEqual([0, false])
    expect(generationOf(rows, row)).not.toBe(generation)
  })

  it('keeps its other flags when it becomes live', () => {
    const rows = make().view
    const row = rows.begin()
    rows.words[row * WIDTH + FLAGS] = 6
    rows.commit(row)
    expect(rows.words[row * WIDTH + FLAGS]).toBe(6 | LIVE)
  })

  it('has another generation each time it lives', () => {
    const rows = make().view
    const seen = new Set<number>()
    for (let life = 0; life < 100; life++) {
      const row = rows.begin()
      rows.commit(row)
      expect(row).toBe(1)
      seen.add(generationOf(rows, row))
      rows.retire(row)
    }
    expect(seen.size).toBe(100)
  })
})

describe('a table', () => {
  it('gives low rows first, and never row 0', () => {
    const rows = make().view
    expect([1, 2, 3, 4, 5].map(() => rows.begin())).toEqual([1, 2, 3, 4, 5])
    expect(rows.full).toBe(true)
    expect(rows.begin()).toBe(0)
    expect(rows.used).toBe(5)
  })

  it('knows the highest row ever used', () => {
    const rows = make().view
    for (const row of [rows.begin(), rows.begin()]) rows.commit(row)
    rows.retire(2)
    expect([rows.highest, rows.used]).toEqual([2, 1])
  })

  it('is seen by whoever cuts the same memory', () => {
    const { buffer, view } = make()
    const row = view.begin()
    view.commit(row)
    expect(new Rows(new Region(buffer), OPTIONS).isLive(row)).toBe(true)
  })

  it('equals a set under random begin and retire', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 60 }), (steps) => {
        const rows = make().view
        const live = new Set<number>()
        for (const step of steps) {
          if (step < 6) {
            const row = rows.begin()
            expect(row === 0).toBe(live.size === OPTIONS.capacity)
            expect(live.has(row)).toBe(false)
            if (row === 0) continue
            rows.commit(row)
            live.add(row)
          } else {
            const row = [...live][step - 6]
            if (row === undefined) continue
            rows.retire(row)
            live.delete(row)
          }
          expect(rows.used).toBe(live.size)
          for (let row = 0; row <= OPTIONS.capacity; row++) expect(rows.isLive(row)).toBe(live.has(row))
        }
      }),
    )
  })
})

describe('rows of a thread that is gone', () => {
  /** Another thread's view of the same memory, after it has recovered it. */
  const recovered = (buffer: SharedArrayBuffer): Rows => {
    const rows = new Rows(new Region(buffer), OPTIONS)
    rows.recover()
    return rows
  }
  const begun = (rows: Rows, count: number): void => {
    for (let i = 0; i < count; i++) rows.commit(rows.begin())
  }

  it('live on where they are true; the others are free, low ones first', () => {
    const { buffer, view } = make()
    begun(view, 4)
    view.retire(2)
    const rows = recovered(buffer)
    expect([rows.used, rows.highest, rows.full]).toEqual([3, 4, false])
    expect([1, 2, 3, 4].map((row) => rows.isLive(row))).toEqual([true, false, true, true])
    expect([rows.begin(), rows.begin(), rows.begin()]).toEqual([2, 5, 0])
  })

  const ODD: readonly (readonly [what: string, leave: (words: Int32Array, row: number) => void])[] = [
    ['that was begun', () => {}],
    ['that was written', (words, row) => words.fill(7, row * WIDTH, row * WIDTH + FLAGS)],
    ['that was live already, its generation still odd', (words, row) => (words[row * WIDTH + FLAGS] = LIVE)],
  ]
  for (const [what, leave] of ODD)
    it(`are free and even again: one ${what}`, () => {
      const { buffer, view } = make()
      begun(view, 1)
      leave(view.words, view.begin())
      const rows = recovered(buffer)
      expect([rows.used, rows.isLive(2), generationOf(rows, 2) & 1]).toEqual([1, false, 0])
      expect(rows.begin()).toBe(2)
    })

  it('live on if their generation has come round to zero', () => {
    const { buffer, view } = make()
    begun(view, 3)
    view.words[2 * WIDTH + GENERATION] = 0
    view.words[3 * WIDTH + GENERATION] = 0
    const rows = recovered(buffer)
    expect([rows.used, rows.highest]).toEqual([3, 3])
  })

  it('are recovered as well twice as once', () => {
    const { buffer, view } = make()
    begun(view, 2)
    view.begin()
    recovered(buffer)
    const words = view.words.slice()
    expect([recovered(buffer).used, view.words]).toEqual([2, words])
  })
})
