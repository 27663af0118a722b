// What helpers throw, as entries of the log: each helper's first, then one a minute (datapath/helped/helper-errors.ts).

import { beforeEach, expect, it } from 'vitest'
import { attachHelperErrors, blame } from '../../../src/datapath/helped/helper-errors.ts'
import type { Report } from '../../../src/datapath/shard-contract.ts'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import type { Registered } from '../../../src/helpers/registry.shard.ts'
import { setClock } from '../../../src/memory/clock.ts'

const helper = (name: 'ftp' | 'irc'): Registered => ({
  id: 1,
  helper: BUILTIN[name]!(),
  classes: [],
  onFailure: 'reset',
})

let told: Report[]
beforeEach(() => {
  told = []
  attachHelperErrors((report) => told.push(report))
  setClock(1000)
})

const throwIn = (name: 'ftp' | 'irc', milliseconds: number) => {
  setClock(milliseconds)
  blame(helper(name), 'help()', new Error('out of order'))
}

it('name the helper, its function, and the error', () => {
  throwIn('ftp', 1000)
  expect(told).toEqual([
    {
      level: 'error',
      text: 'helper ftp failed in help(): its connection goes on without it, and so will the next ones',
      detail: {
        helper: 'ftp',
        in: 'help()',
        error: 'out of order',
        at: expect.stringMatching(/helper-errors\.test\.ts:\d+:\d+$/),
        stack: expect.stringMatching(/^Error: out of order\n/),
      },
    },
  ])
})

it('are told once a minute of each helper, with how many were not', () => {
  for (const milliseconds of [1000, 1001, 60_999]) throwIn('ftp', milliseconds)
  throwIn('irc', 60_999)
  throwIn('ftp', 61_000)
  throwIn('ftp', 121_000)
  expect(told.map(({ detail }) => [detail.helper, detail.untold])).toEqual([
    ['ftp', undefined],
    ['irc', undefined],
    ['ftp', 2],
    ['ftp', undefined],
  ])
})
