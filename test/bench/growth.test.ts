// What counts as growth in a soak, and what doesn't.

import { describe, expect, it } from 'vitest'
import { byChance, growthOf, plotted } from '../../bench/soak/growth.ts'

const SAMPLES = 240
const series = (at: (i: number) => number): number[] => Array.from({ length: SAMPLES }, (_, i) => at(i))

describe('growth', () => {
  it('is what a line through the last two thirds rises by', () => {
    expect(growthOf(series((i) => 100 + i)).grown).toBeCloseTo(159, 6)
    expect(growthOf(series((i) => 100 - i)).grown).toBeCloseTo(-159, 6)
    expect(growthOf(series(() => 7))).toMatchObject({ mean: 7, least: 7, most: 7, grown: 0, deviation: 0 })
  })

  it('in the first third is none', () => {
    expect(growthOf(series((i) => Math.min(i, SAMPLES / 3))).grown).toBe(0)
  })

  it('of what goes up and down is below what chance makes of it, and a leak among it is above', () => {
    const floods = 100
    const upAndDown = (i: number): number => 1000 * ((i * 7) % 5)
    const steady = growthOf(series(upAndDown))
    expect(Math.abs(steady.grown)).toBeLessThan(byChance(steady, floods))
    const leaking = growthOf(series((i) => upAndDown(i) + 30 * i))
    expect(leaking.grown).toBeGreaterThan(byChance(leaking, floods))
  })

  it('asks for two samples', () => {
    expect(() => growthOf([1])).toThrow(RangeError)
  })
})

describe('a plot', () => {
  it('is one character a column, from 0 to the highest', () => {
    expect(plotted([0, 1, 2, 4, 8], 5)).toBe('▁▂▃▅█')
    expect([...plotted(series((i) => i))]).toHaveLength(80)
  })
})
