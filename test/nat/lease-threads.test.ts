import { describe, expect, it } from 'vitest'
import { leaseAmongThreads } from './lease-threads.ts'

describe('port blocks that move between shards, with threads that take ports of them', () => {
  for (const shards of [2, 4])
    it(`${shards} threads: no port is given twice or while the host has it, none is lost`, async () => {
      const { moved, refused, operations, seconds, sockets, ...faults } = await leaseAmongThreads(shards, 20_000, 4711)
      expect(faults).toEqual({ violations: 0, lost: 0, unlisted: 0, miscounted: 0, misbound: 0 })
      expect(operations).toBe(shards * 20_000)
      expect(Math.min(moved, refused, sockets)).toBeGreaterThan(0)
      expect(seconds).toBeGreaterThan(0)
    })
})
