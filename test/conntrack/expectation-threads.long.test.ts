import { describe, expect, it } from 'vitest'
import { expectAmongThreads } from './expectation-threads.ts'

const NOTHING_LEFT = { slots: 0, count: 0, reservations: 0, ports: 0 }

describe('expectations among threads', () => {
  it('are matched once or end once, with their ports; none is lost, and no two masters have the same', async () => {
    const report = await expectAmongThreads(3, 20_000, 1, 0)
    const { violations, unaccounted, miscounted, slotsHeld, leaked, left, crashes, mended } = report
    expect({ violations, unaccounted, miscounted, slotsHeld, leaked, left, crashes }).toEqual({
      ...{ violations: {}, unaccounted: 0, miscounted: 0, slotsHeld: 0, leaked: 0, left: NOTHING_LEFT, crashes: 0 },
    })
    expect(mended).toEqual({ slot: 0, count: 0, reservation: 0 })
    expect(report.operations).toBe(60_000)
    for (const key of ['created', 'refreshed', 'matched', 'removed'] as const)
      expect(report[key], key).toBeGreaterThan(0)
    for (const reason of ['overlap', 'global-limit'] as const) expect(report.refused[reason], reason).toBeGreaterThan(0)
    for (const cause of ['expired', 'helper-gone'] as const) expect(report.ended[cause], cause).toBeGreaterThan(0)
  })

  it('are so although threads crash; nothing that they held is left', async () => {
    const report = await expectAmongThreads(3, 20_000, 2, 10_000)
    const { violations, miscounted, slotsHeld, leaked, left, crashes } = report
    expect({ violations, miscounted, slotsHeld, leaked, left }).toEqual({
      ...{ violations: {}, miscounted: 0, slotsHeld: 0, leaked: 0, left: NOTHING_LEFT },
    })
    expect(crashes).toBeGreaterThan(3)
    expect(report.operations).toBeGreaterThanOrEqual(60_000)
    // What a thread did last before it crashed, it may not have counted.
    expect(Math.abs(report.unaccounted)).toBeLessThanOrEqual(crashes)
  })
})
