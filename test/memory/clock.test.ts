import { describe, expect, it } from 'vitest'
import * as clock from '../../src/memory/clock.ts'

describe('the clock', () => {
  it('has whole seconds beside the milliseconds', () => {
    expect([clock.now, clock.nowMs]).toEqual([0, 0])
    clock.setClock(61_999.5)
    expect([clock.now, clock.nowMs]).toEqual([61, 61_999.5])
  })
})
