// What a shard counts: names and cells as a metrics endpoint shows them, and where they lie.

import { describe, expect, it } from 'vitest'
import { CELL, counterBlock, METRICS, protocolCell } from '../../src/counters/counters.ts'
import { DROP, DROP_REASONS } from '../../src/counters/drop-reasons.ts'
import { allocate } from '../../src/memory/region.ts'

describe('metrics', () => {
  it('lie one behind the other, in the order of their declaration', () => {
    let next = 0
    for (const [key, { cells }] of Object.entries(METRICS)) {
      expect(CELL[key as keyof typeof CELL]).toBe(next)
      next += cells.length
    }
    expect(allocate(counterBlock).view).toHaveLength(next)
  })

  it('have names of their own, in the manner of Prometheus: counters end in _total, gauges do not', () => {
    const names = Object.values(METRICS).map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    for (const { name, type, help } of Object.values(METRICS)) {
      expect(name).toMatch(/^natloom_[a-z_]+$/)
      expect(name.endsWith('_total')).toBe(type === 'counter')
      expect(help).toMatch(/^[A-Z]/)
    }
  })

  it('have cells that differ by their labels', () => {
    for (const { cells } of Object.values(METRICS)) {
      const labels = cells.map((cell) => JSON.stringify(cell))
      expect(new Set(labels).size).toBe(labels.length)
    }
  })

  it('have a cell for each protocol', () => {
    expect([6, 17, 1, 47, 0, 255].map(protocolCell)).toEqual([0, 1, 2, 3, 3, 3])
  })
})

describe('drop reasons', () => {
  it('are numbered by their place, each with a text of its own', () => {
    for (const [number, [reason]] of DROP_REASONS.entries()) expect(DROP[reason]).toBe(number)
    expect(new Set(DROP_REASONS.map(([, text]) => text)).size).toBe(DROP_REASONS.length)
  })

  it('are the cells of the metric, in their order', () => {
    expect(METRICS.drops.cells).toEqual(DROP_REASONS.map(([reason]) => ({ reason })))
  })
})
