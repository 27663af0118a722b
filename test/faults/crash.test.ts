// Workers that crash as NATLOOM_FAULTS orders (crash.ts): under the condition natloom-faults, and never without it.

import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ordersOf } from './crash.ts'

const POOL = fileURLToPath(new URL('../../dist/test/faults/pool.js', import.meta.url))

function run(orders: string | undefined, ...flags: string[]): { inMain: number; inWorker: number | string } {
  const { NATLOOM_FAULTS: _, ...rest } = process.env
  const env = orders === undefined ? rest : { ...rest, NATLOOM_FAULTS: orders }
  return JSON.parse(execFileSync(process.execPath, [...flags, POOL], { env, encoding: 'utf8' }))
}
const CONDITION = '--conditions=natloom-faults'

describe('under the condition natloom-faults', () => {
  const ends = [
    ['throw', /^Error: crashed as ordered: row /],
    ['overflow', /^RangeError: Maximum call stack size exceeded$/],
    ['exit', /^Error: .*exit/],
  ] as const
  for (const [kind, ending] of ends)
    it(`a pool's worker ends by ${kind}; the main thread goes on`, () => {
      const { inMain, inWorker } = run(`seed=3,every=200,kinds=${kind}`, CONDITION)
      expect(inWorker).toMatch(ending)
      expect(inMain).toBe(1000)
    })

  it('nothing crashes without an order', () => {
    expect(run(undefined, CONDITION)).toEqual({ inMain: 1000, inWorker: 1000 })
  })
})

describe('the product', () => {
  it('does not crash, whatever is ordered', () => {
    expect(run('seed=3,every=1,kinds=throw')).toEqual({ inMain: 1000, inWorker: 1000 })
  })
})

describe('orders', () => {
  it('have a seed, a distance and kinds', () => {
    expect(ordersOf('seed=7,every=5000,kinds=throw|exit')).toEqual({ seed: 7, every: 5000, kinds: ['throw', 'exit'] })
    expect(ordersOf('every=1')).toEqual({ seed: 1, every: 1, kinds: ['throw', 'exit', 'overflow'] })
  })

  for (const text of ['', 'seed=1', 'every=0', 'every=5,kind=throw', 'every=5,kinds=melt', 'seed=x,every=5'])
    it(`that make no sense are refused: "${text}"`, () => {
      expect(() => ordersOf(text)).toThrow('allowed: seed=1,every=5000,kinds=throw|exit|overflow')
    })
})
