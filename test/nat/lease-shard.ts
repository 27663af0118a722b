// A shard that leases blocks of ports on one address, with modules of its own for each test, and what tests ask of it.
// Another shard is a number only.

import { beforeEach, vi } from 'vitest'
import { counterBlock } from '../../src/counters/counters.ts'
import { attach } from '../../src/memory/attached.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE } from '../../src/nat/externals.ts'

export const SIZE = 16
export const [A, B, C, D, E, F, G] = [80, 81, 82, 83, 84, 85, 86] as const
export const ME = 0
export const OTHER = 1

export let ports: typeof import('../../src/nat/ports.shard.ts') &
  typeof import('../../src/nat/blocks.shard.ts') &
  typeof import('../../src/nat/block-requests.shard.ts')
export let reservations: typeof import('../../src/nat/reservations.ts')
export let quarantine: typeof import('../../src/nat/quarantine.shard.ts')
export let clock: typeof import('../../src/memory/clock.ts')
export let externals: Externals
export let counters: Float64Array
/** How often the coordinator was called. */
export let calls: number

beforeEach(async () => {
  const unused = new Region()
  const block = allocate(counterBlock)
  counters = block.view
  const tables = {
    packetMemory: new ArrayBuffer(0),
    connections: unused,
    mappings: unused,
    permissions: unused,
    sequences: unused,
    gone: unused,
    events: unused,
    capacity: 1,
    mappingCapacity: 1,
  }
  vi.resetModules()
  attach({ ...tables, counters: new Region(block.buffer) })
  ports = {
    ...(await import('../../src/nat/ports.shard.ts')),
    ...(await import('../../src/nat/blocks.shard.ts')),
    ...(await import('../../src/nat/block-requests.shard.ts')),
  }
  reservations = await import('../../src/nat/reservations.ts')
  quarantine = await import('../../src/nat/quarantine.shard.ts')
  clock = await import('../../src/memory/clock.ts')
  externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: SIZE })).view
  externals.add(1, POOL)
  begin(2)
})

export function begin(shards: number): void {
  ports.attachPorts(externals, ME, shards, () => calls++)
  clock.setClock(1_000_000)
  ports.followLeases()
  // A shard calls once when it begins.
  calls = 0
}
export function lease(shard: number, space: number, ...blocks: number[]): void {
  for (const block of blocks) externals.lease(0, space, block, shard)
  ports.followLeases()
}
export const take = (space = TCP_SPACE, wanted = 5000, preserve = false): number =>
  ports.takePort(0, space, wanted, { preservePorts: preserve, parity: false })
export const takeAll = (count: number): number[] => Array.from({ length: count }, () => take())
export const isPending = (): boolean => ports.isLeasePending(0, TCP_SPACE)
export const lessee = (block: number, space = TCP_SPACE): number => externals.ownerOfBlock(0, space, block)
export const wordOf = (port: number): number => externals.portWords[externals.portIndex(0, TCP_SPACE, port)]!
export const portsOf = (block: number): number[] => Array.from({ length: SIZE }, (_, i) => block * SIZE + i)
export const sorted = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b)
export function fill(block: number, word: number, count = SIZE, space = TCP_SPACE): void {
  const first = externals.portIndex(0, space, block * SIZE)
  externals.portWords.fill(word, first, first + count)
}
