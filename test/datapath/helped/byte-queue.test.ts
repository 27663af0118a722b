// Queues of bytes over a pool of blocks, held against plain strings: whatever is added, moved, dropped and read, in any
// order; the pool has as many blocks as they take, and has all of them back in the end.

import * as fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { attachBytePool, BLOCK_BYTES, bytesKept, poolBytes } from '../../../src/datapath/helped/byte-pool.ts'
import { ByteQueue } from '../../../src/datapath/helped/byte-queue.ts'

const QUEUES = 3
const LONGEST = 3 * BLOCK_BYTES
const CHUNK = 4096 * BLOCK_BYTES

beforeEach(attachBytePool)

const OPERATIONS = ['add', 'addText', 'moveTo', 'addFrom', 'drop', 'copyTo', 'equals', 'text', 'clear'] as const

/** What is done to queue `a`, or from it to `b`; a range of it by two parts of its length. */
const operation = fc.record({
  what: fc.constantFrom(...OPERATIONS),
  a: fc.nat(QUEUES - 1),
  b: fc.nat(QUEUES - 1),
  range: fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })),
  added: fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 60 }),
    fc.nat(LONGEST).map((length) => 'abcdefg'.repeat(LONGEST / 7 + 1).slice(0, length)),
  ),
})

it('queues hold what strings would hold, and count the blocks that it lies in', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      attachBytePool()
      const account = { blocks: 0 }
      const queues = Array.from({ length: QUEUES }, () => new ByteQueue(account))
      const texts = queues.map(() => '')
      for (const { what, a, b, range, added } of operations) {
        const queue = queues[a]!
        const text = texts[a]!
        const [from, to] = range.map((part) => Math.round(part * text.length)).toSorted((x, y) => x - y) as [
          number,
          number,
        ]
        const part = text.slice(from, to)
        if (what === 'add') queue.add(Buffer.from(`xx${added}`, 'latin1'), 2, added.length)
        if (what === 'addText') queue.addText(added)
        if (what === 'add' || what === 'addText') texts[a] += added
        if (what === 'moveTo' && a !== b) {
          queue.moveTo(queues[b]!, to)
          texts[b] += text.slice(0, to)
        }
        if (what === 'addFrom' && a !== b) {
          queues[b]!.addFrom(queue, from, to - from)
          texts[b] += part
        }
        if (what === 'drop') queue.drop(to)
        if (what === 'drop' || (what === 'moveTo' && a !== b)) texts[a] = text.slice(to)
        if (what === 'clear') {
          queue.clear()
          texts[a] = ''
        }
        if (what === 'text') expect(queue.text(from, to)).toBe(part)
        if (what === 'copyTo') {
          const copy = Buffer.alloc(3 + part.length)
          queue.copyTo(copy, 3, from, part.length)
          expect(copy.toString('latin1', 3)).toBe(part)
        }
        if (what === 'equals') {
          const same = Buffer.from(`xx${part}`, 'latin1')
          expect(queue.equals(same, 2, from, part.length)).toBe(true)
          same[same.length - 1]! ^= 1
          expect(queue.equals(same, 2, from, part.length)).toBe(part === '')
        }
        expect(queues.map((each) => each.text())).toEqual(texts)
        expect(queues.map(({ length }) => length)).toEqual(texts.map(({ length }) => length))
        expect(bytesKept()).toBe(queues.reduce((sum, { kept }) => sum + kept, 0))
        expect(account.blocks * BLOCK_BYTES).toBe(bytesKept())
      }
      for (const queue of queues) queue.clear()
      expect(bytesKept()).toBe(0)
    }),
  )
})

describe('the pool', () => {
  it('has no memory before a byte is kept, and counts one byte as a block', () => {
    expect(poolBytes()).toBe(0)
    const queue = new ByteQueue({ blocks: 0 })
    queue.addText('a')
    expect([bytesKept(), queue.kept]).toEqual([BLOCK_BYTES, BLOCK_BYTES])
    expect(poolBytes()).toBeGreaterThan(CHUNK)
  })

  it('grows by chunks, and gives all but one back when no byte is kept', () => {
    const queues = Array.from({ length: 3 }, () => new ByteQueue({ blocks: 0 }))
    const one = new Uint8Array(CHUNK).fill(7)
    for (const queue of queues) queue.add(one, 0, one.length)
    const three = poolBytes()
    expect(bytesKept()).toBe(3 * CHUNK)
    for (const queue of queues) queue.clear()
    expect([bytesKept(), poolBytes()]).toEqual([0, three / 3])
    for (const queue of queues) queue.add(one, 0, one.length)
    expect(queues.every((queue) => queue.equals(one, 0, 0, one.length))).toBe(true)
    expect(poolBytes()).toBe(three)
  })
})
