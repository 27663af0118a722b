// What an expectation costs, for functions.ts. A shard's tables are module-level state, so memory is attached here
// before the shard's modules are imported.

import { cutConnections } from '../src/conntrack/connection-table.ts'
import { ExpectationTable } from '../src/conntrack/expectation-table.ts'
import { counterBlock } from '../src/counters/counters.ts'
import { attach } from '../src/memory/attached.ts'
import { allocate, Region } from '../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE } from '../src/nat/externals.ts'

const CAPACITY = 4096
/** Open expectations of other masters, as on a gateway with as many FTP sessions in a listing. */
const OPEN = 1000
const MASTERS = 256
const KEY = 6 | (1 << 8)

const cut = (table: (region: Region) => unknown): Region => new Region(allocate(table).buffer)
attach({
  ...{ packetMemory: new ArrayBuffer(0), mappings: new Region(), permissions: new Region(), sequences: new Region() },
  ...{ gone: new Region(), events: new Region(), counters: cut(counterBlock), capacity: MASTERS, mappingCapacity: 0 },
  connections: cut((region) => cutConnections(region, MASTERS)),
})
const { attachExpectations, expectCount } = await import('../src/conntrack/expectation-slots.shard.ts')
const { expect, withdraw } = await import('../src/conntrack/expectations.shard.ts')
const { claim } = await import('../src/conntrack/expectation-matching.shard.ts')
const { reserveFor, unreserveAt } = await import('../src/nat/reservations.ts')

const CHOICE = { preservePorts: false, parity: true } as const

/** By name, functions that do one thing `times` times. */
export function expectingBenches(): readonly (readonly [name: string, work: (times: number) => number])[] {
  const table = allocate((region) => new ExpectationTable(region, { capacity: CAPACITY, shards: 2 })).view
  const externals = allocate((region) => new Externals(region, { capacity: 1, blockSize: 64 })).view
  externals.add(1, POOL)
  for (let block = 16; block < 1024; block++) externals.lease(0, TCP_SPACE, block, block % 2)
  attachExpectations(table, 0, 1, (at) => unreserveAt(externals, at))
  const draft = {
    ...{ key: KEY, src: 7, srcMask: -1, srcPort: 0, dst: 1, dstPort: 0, savedAddress: 5, savedPort: 0, flags: 0 },
    ...{ helper: 1, childHelper: 0, class: 0, maxExpected: 255, timeout: 300, direction: 0 as const, reservation: 0 },
    ...{ masterRow: 1, masterGeneration: 0 },
  }
  for (let i = 0; i < OPEN; i++) {
    draft.masterRow = 2 + (i % (MASTERS - 2))
    draft.dstPort = i
    expect(draft)
  }
  draft.masterRow = 1
  draft.maxExpected = 1
  let port = OPEN
  const next = (): number => (port = (port + 1) & 0xffff)
  return [
    [
      'expectation published, the last one of its master evicted',
      (times) => {
        let sink = 0
        for (let i = 0; i < times; i++) {
          draft.dstPort = next()
          draft.reservation = 0
          sink ^= expect(draft)
        }
        return sink
      },
    ],
    [
      'the same, with a port reserved and one given back',
      (times) => {
        let sink = 0
        for (let i = 0; i < times; i++) {
          draft.savedPort = next()
          draft.reservation =
            reserveFor(externals, { owner: i & 1, entry: 0, space: TCP_SPACE }, draft.savedPort, CHOICE) + 1
          draft.dstPort = draft.reservation & 0xffff
          sink ^= expect(draft)
        }
        return sink
      },
    ],
    [
      'expectation published and withdrawn',
      (times) => {
        let sink = 0
        draft.reservation = 0
        for (let i = 0; i < times; i++) {
          draft.dstPort = next()
          const handle = expect(draft)
          if (withdraw(handle)) sink++
        }
        return sink
      },
    ],
    [
      `new connection that none of ${OPEN} expects`,
      (times) => {
        let sink = 0
        for (let i = 0; i < times; i++) if (expectCount() > 0) sink ^= claim(KEY, 7, 2, next() << 16)
        return sink
      },
    ],
  ]
}
