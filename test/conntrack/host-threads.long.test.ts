// A host's limit, and the life of its row, while threads count at once.

import { describe, expect, it } from 'vitest'
import { countAmongThreads, LIMIT } from './host-threads.ts'

describe.each([2, 4])('%i threads on one host table', (shards) => {
  it('keep every limit but for one each, less one, while rows come and go, and leave nothing counted', async () => {
    const { most, begun, refused, ended, left } = await countAmongThreads(shards, 200_000)
    expect(most).toBeLessThanOrEqual(LIMIT + shards - 1)
    expect(most).toBeGreaterThanOrEqual(LIMIT)
    expect(left).toEqual({ connections: 0, rows: 0 })
    for (const count of [begun, refused, ended]) expect(count).toBeGreaterThan(0)
  })
})
