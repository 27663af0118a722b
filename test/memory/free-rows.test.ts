import { beforeEach, describe, expect, it } from 'vitest'
import { FreeRows } from '../../src/memory/free-rows.ts'

const CAPACITY = 5
let free: FreeRows
beforeEach(() => {
  free = new FreeRows(CAPACITY)
})

/** All that can be taken. */
function takeAll(): number[] {
  const taken: number[] = []
  for (let row = free.take(); row !== 0; row = free.take()) taken.push(row)
  return taken
}

describe('free rows of a side table', () => {
  it('are each taken once, low ones first, and 0 is none', () => {
    expect(free.isEmpty).toBe(false)
    expect(takeAll()).toEqual([1, 2, 3, 4, 5])
    expect(free.isEmpty).toBe(true)
    expect(free.take()).toBe(0)
  })

  it('are taken again when they were given back', () => {
    takeAll()
    free.give(3)
    free.give(2)
    expect(takeAll().toSorted()).toEqual([2, 3])
  })

  it('are all as new after clear()', () => {
    takeAll()
    free.give(4)
    free.clear()
    expect(takeAll()).toEqual([1, 2, 3, 4, 5])
  })

  it('are, after a crash, those that nobody names, whatever was free before', () => {
    free.take()
    free.recover(new Set([2, 5]))
    expect(takeAll()).toEqual([1, 3, 4])
    free.recover(new Set([1, 2, 3, 4, 5]))
    expect(free.isEmpty).toBe(true)
  })
})
