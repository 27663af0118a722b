import { beforeEach, describe, expect, it } from 'vitest'
import { BlockLeases } from '../../../src/coordinator/leases/block-leases.ts'
import { allocate } from '../../../src/memory/region.ts'
import { Externals, SHARED, TCP_SPACE, UDP_SPACE } from '../../../src/nat/externals.ts'
import { freedAt, MAPPED } from '../../../src/nat/port-words.ts'

const SHARDS = 3
const BLOCK_SIZE = 64
/** Blocks 300..329: ten at home with each shard. */
const BLOCKS = Array.from({ length: 30 }, (_, i) => 300 + i)

let externals: Externals
let entry: number
/** The shards' requests: shard and space. */
let asked: [shard: number, space: number][]
/** Blocks that the next requests can be served with. */
let toGive: number[]
/** What the leases did, in order. */
let story: string[]
let leases: BlockLeases

beforeEach(() => {
  externals = allocate((region) => new Externals(region, { capacity: 2, blockSize: BLOCK_SIZE })).view
  entry = externals.add(1, SHARED)
  for (const space of [TCP_SPACE, UDP_SPACE])
    for (const block of BLOCKS) externals.lease(entry, space, block, block % SHARDS)
  asked = []
  toGive = []
  story = []
  leases = new BlockLeases({
    externals,
    requests: {
      requests: () => asked.map(([shard, space]) => ({ shard, entry, space })),
      moveFreeBlock(entry, space, toShard) {
        const block = toGive.shift()
        if (block === undefined) return false
        externals.lease(entry, space, block, toShard)
        return true
      },
      answer: (shard, _, space, granted) =>
        story.push(`shard ${shard}, space ${space}: ${granted ? 'granted' : 'refused'}`),
    },
    shards: SHARDS,
    changed: () => story.push('leases changed'),
    wake: (shard) => story.push(`wake shard ${shard}`),
  })
})

/** Lends this block to a shard that asks. */
function lend(block: number, shard: number, space = TCP_SPACE): void {
  asked = [[shard, space]]
  toGive = [block]
  leases.serve()
  asked = []
  story = []
}
const lessee = (block: number, space = TCP_SPACE) => externals.ownerOfBlock(entry, space, block)
/** Every port of these blocks but `left` gets this word. */
function fill(blocks: readonly number[], word: number, left = 0): void {
  for (const block of blocks)
    for (let i = left; i < BLOCK_SIZE; i++)
      externals.portWords[externals.portIndex(entry, TCP_SPACE, block * BLOCK_SIZE + i)] = word
}

describe('shards that ask for a block', () => {
  it('all get an answer, and are woken after the leases have changed', () => {
    asked = [
      [0, TCP_SPACE],
      [2, UDP_SPACE],
      [0, UDP_SPACE],
    ]
    toGive = [301, 302]
    leases.serve()
    expect(story).toEqual([
      'shard 0, space 0: granted',
      'shard 2, space 1: granted',
      'shard 0, space 1: refused',
      ...['leases changed', 'wake shard 0', 'wake shard 2'],
    ])
  })

  it('are told that there is none, too', () => {
    asked = [[1, TCP_SPACE]]
    leases.serve()
    expect(story).toEqual(['shard 1, space 0: refused', 'wake shard 1'])
  })

  it('that have not asked are left alone', () => {
    leases.serve()
    expect(story).toEqual([])
  })
})

describe('a block that is lent', () => {
  it('goes home when nobody uses it', () => {
    lend(301, 0)
    lend(302, 1, UDP_SPACE)
    leases.returnIdle()
    expect([lessee(301), lessee(302, UDP_SPACE)]).toEqual([1, 2])
    expect(story).toEqual(['leases changed'])
  })

  it('stays while one of its ports is in use', () => {
    lend(301, 0)
    fill([301], MAPPED, BLOCK_SIZE - 1)
    leases.returnIdle()
    expect(lessee(301)).toBe(0)
    expect(story).toEqual([])
    fill([301], 0)
    leases.returnIdle()
    expect(lessee(301)).toBe(1)
  })

  it('stays while its borrower has few blocks with a free port', () => {
    // Blocks 300, 303, ... 327 have their home at shard 0: seven of them have no free port.
    const full = BLOCKS.filter((block) => block % SHARDS === 0).slice(0, 7)
    fill(full.slice(0, 4), MAPPED)
    fill(full.slice(4), freedAt(0))
    lend(301, 0)
    lend(304, 0)
    leases.returnIdle()
    // The borrower has five blocks with a free port and keeps four of them.
    expect([lessee(301), lessee(304)]).toEqual([1, 0])
    leases.returnIdle()
    expect(lessee(304)).toBe(0)
    fill(full.slice(0, 1), 0)
    leases.returnIdle()
    expect(lessee(304)).toBe(1)
  })

  it('is no matter where every block is at home', () => {
    leases.returnIdle()
    expect(story).toEqual([])
  })
})
