import { beforeEach, describe, expect, it } from 'vitest'
import { Heartbeats } from '../../../src/coordinator/workers/heartbeats.ts'
import { ControlWords } from '../../../src/memory/control-words.ts'
import { allocate } from '../../../src/memory/region.ts'

let words: ControlWords
let heartbeats: Heartbeats

beforeEach(() => {
  words = allocate((region) => new ControlWords(region, 2)).view
  heartbeats = new Heartbeats(words, 2)
  for (const shard of [0, 1]) words.start(shard)
})

/** Looks `count` times; before each look these shards turn. */
function looks(count: number, turning: readonly number[]): void {
  for (let look = 0; look < count; look++) {
    for (const shard of turning) words.beat(shard, words.heartbeat(shard) + 1000)
    heartbeats.look()
  }
}

describe('a shard', () => {
  it('is not silent while it turns between two looks', () => {
    looks(20, [0, 1])
    expect(heartbeats.silent()).toEqual([])
  })

  it('is silent after five looks at one heartbeat, not after four', () => {
    looks(1, [0, 1])
    looks(4, [0])
    expect(heartbeats.silent()).toEqual([])
    looks(1, [0])
    expect(heartbeats.silent()).toEqual([1])
  })

  it('is no longer silent once it turns again', () => {
    looks(7, [0])
    looks(1, [0, 1])
    expect(heartbeats.silent()).toEqual([])
  })

  it('that has not turned yet is given ten looks', () => {
    looks(9, [])
    expect(heartbeats.silent()).toEqual([])
    looks(1, [])
    expect(heartbeats.silent()).toEqual([0, 1])
  })

  it('is looked at anew when a new thread begins for it', () => {
    looks(1, [0, 1])
    looks(5, [0])
    words.start(1)
    heartbeats.begin(1)
    expect(heartbeats.silent()).toEqual([])
    looks(9, [0])
    expect([heartbeats.silent(), heartbeats.looks(1)]).toEqual([[], 9])
    looks(1, [0])
    expect(heartbeats.silent()).toEqual([1])
  })
})
