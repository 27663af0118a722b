import { describe, expect, it } from 'vitest'
import { spread, summary } from '../../bench/statistics.ts'

describe('a summary of rounds', () => {
  const rounds = [
    [[5], { median: 5, least: 5, most: 5 }],
    [[3, 1, 2], { median: 2, least: 1, most: 3 }],
    [[4, 1, 3, 2], { median: 2.5, least: 1, most: 4 }],
    [[10, 9, 100], { median: 10, least: 9, most: 100 }],
  ] as const
  for (const [values, is] of rounds) it(`${values} is ${JSON.stringify(is)}`, () => expect(summary(values)).toEqual(is))

  it('of no rounds there is none', () => expect(() => summary([])).toThrow(RangeError))

  it('spreads by half of the way from least to most', () => {
    expect(spread({ median: 10, least: 8, most: 12 })).toBeCloseTo(0.2)
    expect(spread({ median: 10, least: 10, most: 10 })).toBe(0)
  })
})
