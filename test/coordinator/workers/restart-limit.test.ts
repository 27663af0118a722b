import { beforeEach, describe, expect, it } from 'vitest'
import { RestartLimit } from '../../../src/coordinator/workers/restart-limit.ts'

let now: number
const allowedAfter = (seconds: number, limit: RestartLimit): boolean => {
  now += seconds * 1000
  return limit.allows()
}
const limitOf = (restarts: number, withinSeconds: number) => new RestartLimit({ restarts, withinSeconds }, () => now)

beforeEach(() => {
  now = 0
})

describe('a limit of 2 restarts in 60 s', () => {
  it('allows two at once, and not a third', () => {
    const limit = limitOf(2, 60)
    expect([allowedAfter(0, limit), allowedAfter(0, limit), allowedAfter(0, limit), allowedAfter(59.9, limit)]).toEqual(
      [true, true, false, false],
    )
  })

  it('slides: each counts for 60 s', () => {
    const limit = limitOf(2, 60)
    expect([allowedAfter(0, limit), allowedAfter(40, limit)]).toEqual([true, true])
    // At 50 s both count, at 60 s the second only, at 90 s that one and the third.
    expect([allowedAfter(10, limit), allowedAfter(10, limit), allowedAfter(30, limit)]).toEqual([false, true, false])
    // At 100 s the third only.
    expect(allowedAfter(10, limit)).toBe(true)
  })

  it('lets restarts go on for ever that are rare', () => {
    const limit = limitOf(2, 60)
    for (let i = 0; i < 1000; i++) expect(allowedAfter(30, limit)).toBe(true)
  })
})

describe('a limit of none', () => {
  it('allows none', () => {
    expect(allowedAfter(1000, limitOf(0, 60))).toBe(false)
  })
})
