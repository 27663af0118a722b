import { describe, expect, it } from 'vitest'
import { progressLine, trafficTable } from '../../src/lab/picture.ts'
import type { Load } from '../../src/lab/scenario.ts'
import { isRight, newTally, type Tally } from '../../src/lab/traffic.ts'

const load = (name: string): Load => ({ name, start: async () => newTally(0) })
const tally = (values: Partial<Tally>): Tally => ({ ...newTally(100), ...values })

describe('what came of a load', () => {
  const judged = [
    // sent, arrived, wrong, problems                                right
    [{ sent: 100, arrived: 100 }, true],
    [{ sent: 100, arrived: 99 }, false],
    [{ sent: 99, arrived: 99 }, false],
    [{ sent: 100, arrived: 100, wrong: 1 }, false],
    [{ sent: 100, arrived: 100, problems: ['a connection did not close'] }, false],
  ] as const
  for (const [values, right] of judged)
    it(`${JSON.stringify(values)} of 100 is ${right ? 'right' : 'wrong'}`, () => {
      expect(isRight(tally(values as Partial<Tally>))).toBe(right)
    })
})

describe('the picture', () => {
  it('shows how much of what was planned has arrived', () => {
    const line = progressLine({ load: load('echoes'), tally: tally({ sent: 60, arrived: 50, wrong: 2 }) })
    expect(line).toBe(`  ${'echoes'.padEnd(28)} ${'█'.repeat(10)}${'░'.repeat(10)}      50 of 100  2 wrong`)
  })

  it('ends in a table of what was sent and what arrived', () => {
    const outcomes = [
      { load: load('echoes'), tally: tally({ sent: 100, arrived: 100, bytes: 2_500_000 }) },
      { load: load('ping'), tally: tally({ sent: 100, arrived: 7 }) },
    ]
    expect(trafficTable(outcomes)).toEqual([
      '          sent  arrived  wrong  payload',
      '  echoes   100      100      0   2.5 MB  right',
      '  ping     100        7      0   0.0 MB  WRONG',
    ])
  })
})
