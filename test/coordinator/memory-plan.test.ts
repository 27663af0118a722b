import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/control/config.ts'
import { allocateMemory } from '../../src/coordinator/memory.ts'
import {
  MOST_WORKERS,
  memoryFaults,
  memoryPlan,
  mostWorkers,
  type PlannedConfig,
  sharedTables,
  tableSizes,
} from '../../src/coordinator/memory-plan.ts'
import { HEAP_MEGABYTES } from '../../src/coordinator/workers/thread-pool.ts'
import { helpedBytes } from '../../src/datapath/helped/memory-bound.ts'
import { privateBytes } from '../../src/datapath/shard-tables.ts'

const GIB = 2 ** 30

const configuration = (changes: Readonly<Record<string, string>> = {}) =>
  loadConfig({
    env: {
      NATLOOM_CONFIG: '/dev/null',
      NATLOOM_INSIDE: 'lan0',
      NATLOOM_OUTSIDE: 'wan0',
      NATLOOM_WORKERS: '1',
      NATLOOM_CAPACITY_CONNECTIONS: '16384',
      ...changes,
    },
  }).config

describe('the plan of memory', () => {
  const configurations = [
    {},
    { NATLOOM_WORKERS: '3', NATLOOM_CAPACITY_CONNECTIONS: '100000', NATLOOM_INSIDE: 'lan0,lan1' },
    { NATLOOM_WORKERS: '2', NATLOOM_NAT_POOL: '203.0.113.0/26', NATLOOM_CAPACITY_EXPECTATIONS: '16384' },
  ]
  for (const changes of configurations)
    it(`of ${JSON.stringify(changes)} is what is allocated, to the page`, () => {
      const config = configuration(changes)
      const plan = memoryPlan(config)
      const { shards, control, fib } = allocateMemory(config)
      const page = (bytes: number) => Math.ceil(bytes / 65536) * 65536
      expect(shards.map(({ tables }) => tables.byteLength)).toEqual(shards.map(() => page(plan.tables)))
      const { externals, handover, expectations, hosts, helperList } = shards[0]!
      const shared = [externals, handover, expectations, hosts, helperList, fib.buffer, control.buffer]
      const allocated = shared.reduce((sum, { byteLength }) => sum + byteLength, 0)
      expect(allocated).toBeGreaterThanOrEqual(plan.shared)
      expect(allocated - plan.shared).toBeLessThan(shared.length * 65536)
    })

  it('is made without memory of its own, also for the largest table', () => {
    const before = process.memoryUsage().arrayBuffers
    const config = configuration({ NATLOOM_NAT_POOL: '203.0.113.0/26' })
    const { tables } = memoryPlan({ ...config, capacity: { connections: 16_777_216, expectations: 16_384 } })
    expect(tables).toBeGreaterThan(4 * GIB)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20)
  })
})

describe('what a thread takes beside its tables', () => {
  const largest = configuration({ NATLOOM_WORKERS: '2', NATLOOM_CAPACITY_CONNECTIONS: '16777216' })

  it('is in the plan, of each', () => {
    const { packetMemory, tables, own, shared, threads, total } = memoryPlan(largest)
    expect(own).toBe(privateBytes(tableSizes(largest), sharedTables(largest).hosts.hosts))
    expect(total).toBe(packetMemory + 2 * (tables + own) + shared + threads)
  })

  it('is bounded, however many connections there may be, and far below the limit of its heap', () => {
    const { own } = memoryPlan(largest)
    // Side tables name their free rows by four bytes each, of one connection in eight, outside of the heap.
    expect(own).toBeLessThan(96 * 2 ** 20 + 16_777_216 / 2 / 2)
    const garbage = 2
    const helpersMay = 256 * 2 ** 20
    expect(garbage * helpedBytes(16_777_216) + helpersMay).toBeLessThan((HEAP_MEGABYTES / 2) * 2 ** 20)
  })
})

describe('a shard has rows for as many mappings', () => {
  const sizes = (changes: Readonly<Record<string, string>>) => tableSizes(configuration(changes))

  it('as for connections, where NAT has more ports', () => {
    expect(sizes({})).toEqual({ connections: 16_384, mappings: 16_384 })
    expect(sizes({ NATLOOM_WORKERS: '3' })).toEqual({ connections: 5462, mappings: 5462 })
  })

  it('as NAT has ports of all protocols, where these are fewer: any shard may come to lease nearly all', () => {
    const many = { NATLOOM_CAPACITY_CONNECTIONS: '16777216', NATLOOM_WORKERS: '4' }
    const connections = 4_194_304
    expect(sizes({ ...many, NATLOOM_NAT_PORTS_FROM: '20000', NATLOOM_NAT_PORTS_TO: '20999' })).toEqual({
      connections,
      // Blocks of 64 from 20032 on; those that an end of the range cuts are left out.
      mappings: 3 * (20_992 - 20_032),
    })
    const perAddress = 3 * (65_536 - 1024)
    expect(sizes({ ...many, NATLOOM_NAT_POOL: '203.0.113.1' })).toEqual({ connections, mappings: perAddress })
    expect(sizes({ ...many, NATLOOM_NAT_POOL: '203.0.113.0/28' })).toEqual({ connections, mappings: 16 * perAddress })
    expect(sizes({ ...many, NATLOOM_NAT_POOL: '203.0.113.0/24' })).toEqual({ connections, mappings: connections })
  })

  it('as ports of a shared address by default', () => {
    const { from, to } = configuration().nat.ports
    const mappings = 3 * (to + 1 - from)
    expect(mappings).toBe(133_824)
    expect(sizes({ NATLOOM_CAPACITY_CONNECTIONS: '1048576' })).toEqual({ connections: 1_048_576, mappings })
  })
})

describe('what has no room', () => {
  const planned = (changes: Partial<PlannedConfig>): PlannedConfig => ({ ...configuration(), ...changes })
  const manyPorts = configuration({ NATLOOM_NAT_POOL: '203.0.113.0/26' })
  const interfaces = (count: number) => Array.from({ length: count }, (_, i) => `lan${i}`)
  const cases: readonly [string, PlannedConfig, number][] = [
    ['too many workers', planned({ workers: 32 }), 64 * GIB],
    ['too large rings', planned({ workers: 32, dispatch: 'thread', io: { ringMegabytes: 512 } }), 64 * GIB],
    ['many interfaces', planned({ workers: 4, inside: interfaces(20), io: { ringMegabytes: 512 } }), 64 * GIB],
    ['rings larger than the host', planned({ io: { ringMegabytes: 512 } }), GIB / 2],
    ['too large tables', { ...manyPorts, capacity: { connections: 16_777_216, expectations: 16 } }, 64 * GIB],
  ]
  for (const [what, config, memory] of cases)
    it(`${what}: each of the remedies that are told is enough`, () => {
      const [fault, ...more] = memoryFaults(config, memory)
      expect(more).toEqual([])
      const remedies = [...fault!.remedy.matchAll(/([a-zA-Z.]+) to (\w+)/g)]
      expect(remedies.length).toBeGreaterThan(0)
      for (const [, key, value] of remedies)
        expect(memoryFaults(changed(config, key!, value!), memory), `${key} ${value}`).toEqual([])
    })

  it('is told with fewer interfaces as the only way where nothing else helps', () => {
    const [fault] = memoryFaults(planned({ inside: interfaces(200), dispatch: 'thread' }), 64 * GIB)
    expect(fault!.remedy).toBe('name fewer interfaces')
  })

  it('is never what a host of many cores gets by default', () => {
    for (const dispatch of ['kernel', 'thread'] as const)
      for (const ringMegabytes of [16, 128, 512]) {
        const config = planned({ dispatch, io: { ringMegabytes } })
        const workers = mostWorkers(config, MOST_WORKERS)
        expect(memoryFaults({ ...config, workers }, 64 * GIB)).toEqual([])
      }
  })

  it('is not the most workers that a configuration may name, with a dispatcher', () => {
    expect(mostWorkers(planned({ dispatch: 'thread' }), MOST_WORKERS)).toBe(MOST_WORKERS)
  })
})

function changed(config: PlannedConfig, key: string, value: string): PlannedConfig {
  if (key === 'io.ringMegabytes') return { ...config, io: { ringMegabytes: Number(value) } }
  if (key === 'workers') return { ...config, workers: Number(value) }
  if (key === 'dispatch') return { ...config, dispatch: 'thread' }
  if (key === 'capacity.connections') return { ...config, capacity: { ...config.capacity, connections: Number(value) } }
  throw new Error(`no such remedy: ${key}`)
}
