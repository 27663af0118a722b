import { describe, expect, it } from 'vitest'
import { leaseAmongThreads } from './lease-threads.ts'

describe('port blocks that move between shards, with threads that take ports of them', () => {
  for (const shards of [2, 4])
    it(`${shards} threads: no port is given twice, none is lost`, async () => {
      const { moved, operations, violations, lost, miscounted } = await leaseAmongThreads(shards, 20_000, 4711)
      expect({ violations, lost, miscounted }).toEqual({ violations: 0, lost: 0, miscounted: 0 })
      expect(operations).toBe(shards * 20_000)
      expect(moved).toBeGreaterThan(0)
    })
})
