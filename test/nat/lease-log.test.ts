// The log of changed leases: what a reader that has fallen behind is told.

import { describe, expect, it } from 'vitest'
import { allocate } from '../../src/memory/region.ts'
import { Externals, POOL, TCP_SPACE, UDP_SPACE } from '../../src/nat/externals.ts'
import { addressChanged, isOfAddress, KEPT_CHANGES, LeaseLog, LOST_CHANGE } from '../../src/nat/lease-log.ts'

describe('the log of leases', () => {
  it('keeps the last changes, and says of older ones that they are lost', () => {
    const { view: log } = allocate((region) => new LeaseLog(region))
    for (let i = 0; i < KEPT_CHANGES + 10; i++) log.add(1000 + i)
    const oldest = log.head() - KEPT_CHANGES + 1
    expect(log.at(oldest)).toBe(1000 + oldest)
    expect(log.at(log.head() - 1)).toBe(1000 + KEPT_CHANGES + 9)
    // The next change may be written over it at this moment.
    expect([log.at(oldest - 1), log.at(0)]).toEqual([LOST_CHANGE, LOST_CHANGE])
  })

  it('names what has changed: a block, or an address', () => {
    const { view: externals } = allocate((region) => new Externals(region, { capacity: 4, blockSize: 64 }))
    externals.add(1, POOL)
    const entry = externals.add(2, POOL)
    const from = externals.version()
    externals.lease(entry, UDP_SPACE, 300, 1)
    externals.takeBack(entry, UDP_SPACE, 300)
    externals.leaseAll(entry, TCP_SPACE, [301, 302], (block) => block % 2)
    externals.remove(entry)
    const changes = Array.from({ length: externals.version() - from }, (_, i) => externals.log.at(from + i))
    const block = externals.blockIndex(entry, UDP_SPACE, 300)
    expect(changes.slice(0, 2)).toEqual([block, block])
    expect(changes.slice(2).map((change) => isOfAddress(change) && addressChanged(change))).toEqual([entry, entry])
  })

  it('has counts of what each shard leases beside it', () => {
    const { view: externals } = allocate((region) => new Externals(region, { capacity: 4, blockSize: 64 }))
    const entry = externals.add(1, POOL)
    const blocks = Array.from({ length: 30 }, (_, i) => 300 + i)
    externals.leaseAll(entry, TCP_SPACE, blocks, (block) => block % 3)
    externals.lease(entry, UDP_SPACE, 300, 1)
    const counts = () => [0, 1, 2].map((shard) => externals.leasedBlocks(shard, TCP_SPACE))
    expect(counts()).toEqual([10, 10, 10])
    externals.takeBack(entry, TCP_SPACE, 301)
    externals.lease(entry, TCP_SPACE, 301, 0)
    externals.leaseAll(entry, TCP_SPACE, blocks, () => 2)
    expect(counts()).toEqual([11, 9, 10])
    externals.remove(entry)
    expect([...counts(), externals.leasedBlocks(1, UDP_SPACE)]).toEqual([0, 0, 0, 0])
  })
})
