import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import type { GatewayConfig } from '../../src/coordinator/config.ts'
import { allocateMemory } from '../../src/coordinator/memory.ts'
import { CELL } from '../../src/counters/counters.ts'

function configuration(env: Readonly<Record<string, string>> = {}, changes: Partial<GatewayConfig> = {}) {
  const interfaces = {
    NATLOOM_CONFIG: '/dev/null',
    NATLOOM_WORKERS: '1',
    NATLOOM_INSIDE: 'lan0,lan1',
    NATLOOM_OUTSIDE: 'wan0',
  }
  return { ...loadConfig({ env: { ...interfaces, ...env } }).config, ...changes }
}

describe('what a shard is told', () => {
  it('names the side of each port, inside ones first', () => {
    const [settings] = allocateMemory(configuration()).settings
    expect(settings.sides).toEqual([0, 0, 1])
    expect(settings.fib).toEqual({ ports: 3, shards: 1 })
  })

  it('divides what all shards have together', () => {
    const config = configuration({ NATLOOM_CAPACITY_CONNECTIONS: '10000', NATLOOM_ICMP_ERRORS_PER_SECOND: '100' })
    const { settings, shards, counters } = allocateMemory({ ...config, workers: 3 })
    expect(settings.map(({ shard }) => shard)).toEqual([0, 1, 2])
    for (const each of settings) expect([each.connections, each.icmpErrorsPerSecond]).toEqual([3334, 34])
    expect([shards.length, counters.length]).toEqual([3, 3])
  })

  it('has one secret for all shards of a start, and another one at each start', () => {
    const starts = [1, 2].map(() => allocateMemory({ ...configuration(), workers: 2 }).settings)
    expect(starts[0][0].hashKey).toEqual(starts[0][1].hashKey)
    expect(starts[0][0].hashKey).not.toEqual(starts[1][0].hashKey)
  })

  it('has room for the addresses of a pool, and for eight at least', () => {
    const capacity = (env = {}) => allocateMemory(configuration(env)).externals.capacity
    expect(capacity()).toBe(8)
    expect(capacity({ NATLOOM_NAT_POOL: '203.0.113.0/27' })).toBe(32)
  })
})

describe('the dispatcher', () => {
  it('is there only where a thread dispatches, numbered behind the shards', () => {
    expect(allocateMemory(configuration()).dispatcher).toBeUndefined()
    const { settings, shards, dispatcher } = allocateMemory(
      configuration({ NATLOOM_DISPATCH: 'thread' }, { workers: 3 }),
    )
    expect(dispatcher!.settings).toMatchObject({ shard: 3, shards: 3, ownerKey: settings[0]!.ownerKey })
    expect(dispatcher!.memory.handover).toBe(shards[0]!.handover)
    expect(dispatcher!.memory.tables).not.toBe(shards[0]!.tables)
  })
})

describe('shared memory', () => {
  it('shows a shard’s counters where the shard counts', () => {
    const { counters, shards } = allocateMemory(configuration())
    new Float64Array(shards[0].tables)[CELL.turns] = 7
    expect(counters[0][CELL.turns]).toBe(7)
  })

  it('has tables of a shard’s own; externals, routes and orders are everybody’s', () => {
    const { shards } = allocateMemory({ ...configuration(), workers: 2 })
    expect(shards[0].tables).not.toBe(shards[1].tables)
    expect(shards[0].externals).toBe(shards[1].externals)
    expect(shards[0].fib).toBe(shards[1].fib)
  })
})
