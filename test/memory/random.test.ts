import { beforeEach, describe, expect, it, vi } from 'vitest'

// The generator's counter and key are module-level.
let random: typeof import('../../src/memory/random.ts')
let siphash: typeof import('../../src/memory/siphash.ts')
beforeEach(async () => {
  vi.resetModules()
  random = await import('../../src/memory/random.ts')
  siphash = await import('../../src/memory/siphash.ts')
  siphash.attachHashKey(1, 2)
})

const draw = (count: number): number[] => Array.from({ length: count }, () => random.random32())

describe('random numbers', () => {
  it('are unsigned 32-bit integers', () => {
    for (const number of draw(1000)) expect(number >>> 0).toBe(number)
  })

  it('differ from start to start with the key, and are the same for the same key', async () => {
    const first = draw(8)
    vi.resetModules()
    const again = await import('../../src/memory/random.ts')
    const { attachHashKey } = await import('../../src/memory/siphash.ts')
    attachHashKey(1, 2)
    expect(Array.from({ length: 8 }, () => again.random32())).toEqual(first)
    attachHashKey(1, 3)
    expect(Array.from({ length: 8 }, () => again.random32())).not.toEqual(first)
  })

  it('are others in each life of each shard', () => {
    const lives = [
      [0, 1],
      [0, 2],
      [1, 1],
      [1, 2],
    ] as const
    const drawn = lives.flatMap(([shard, epoch]) => {
      random.attachRandom(shard, epoch)
      return draw(64)
    })
    expect(new Set(drawn).size).toBe(drawn.length)
  })

  it('do not repeat, and fall into every bucket alike', () => {
    const numbers = draw(16_000)
    expect(new Set(numbers).size).toBeGreaterThan(15_990)
    const buckets = new Array<number>(16).fill(0)
    for (const number of numbers) buckets[number >>> 28]! += 1
    // 1000 expected; five standard deviations are 153.
    for (const count of buckets) expect(Math.abs(count - 1000)).toBeLessThan(153)
  })
})
