// The drop table: what is counted of each interface and reason is exact, and the sources that keep coming are found
// whatever else comes, each class by itself.

import { beforeEach, describe, expect, it } from 'vitest'
import { DROP } from '../../src/counters/drop-reasons.ts'
import { type DropSource, DropTable, HALF_LIFE, SOURCES } from '../../src/counters/drop-table.ts'
import { attachDrops, countDropped, noteSource } from '../../src/counters/drops.shard.ts'
import { setClock } from '../../src/memory/clock.ts'
import { allocate } from '../../src/memory/region.ts'

const [LAN, WAN] = [0, 1]
const { filtered: FILTERED, 'no-mapping': NO_MAPPING } = DROP
const UDP = 17
const START = 1000

let table: DropTable
let second: number

beforeEach(() => {
  table = allocate((region) => new DropTable(region, { ports: 2, workers: 3 })).view
  attachDrops(table, 0)
  at(START)
})

function at(seconds: number): void {
  second = seconds
  setClock(seconds * 1000)
}

const drop = (port: number, reason: number, source: number, destination = 1): void =>
  noteSource(countDropped(port, reason), source, destination, 0x1234_5678, UDP)
const sources = (port: number, reason: number, worker = 0): DropSource[] =>
  table.sourcesOf(table.classOf(worker, port, reason), second).sort((a, b) => b.count - a.count)
const counts = (port: number, reason: number): number[][] =>
  sources(port, reason).map(({ address, count }) => [address, count])
const packets = (port: number, reason: number, worker = 0): number =>
  table.packets[table.classOf(worker, port, reason)]!

/** Numbers that look forged, the same in every run. */
function* forged(count: number): Generator<number> {
  for (let i = 0, x = 88_172_645; i < count; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    yield x | 1
  }
}

describe('few sources', () => {
  it('are counted exactly, each with its last packet', () => {
    for (let i = 1; i <= SOURCES; i++) for (let times = 0; times < i; times++) drop(LAN, FILTERED, 100 + i, times)
    expect(counts(LAN, FILTERED)).toEqual(Array.from({ length: SOURCES }, (_, i) => [100 + SOURCES - i, SOURCES - i]))
    const last = { second: START, destination: SOURCES - 1, ports: 0x1234_5678, protocol: UDP }
    expect(sources(LAN, FILTERED)[0]).toEqual({ address: 100 + SOURCES, count: SOURCES, ...last })
    expect(packets(LAN, FILTERED)).toBe((SOURCES * (SOURCES + 1)) / 2)
  })

  it('are apart by interface, by reason and by worker', () => {
    drop(LAN, FILTERED, 5)
    drop(WAN, FILTERED, 6)
    drop(WAN, NO_MAPPING, 7)
    attachDrops(table, 2)
    drop(WAN, FILTERED, 8)
    expect([counts(LAN, FILTERED), counts(WAN, FILTERED), counts(WAN, NO_MAPPING)]).toEqual([
      [[5, 1]],
      [[6, 1]],
      [[7, 1]],
    ])
    expect(sources(WAN, FILTERED, 2).map(({ address }) => address)).toEqual([8])
    expect([packets(WAN, FILTERED), packets(WAN, FILTERED, 1), packets(WAN, FILTERED, 2)]).toEqual([1, 0, 1])
  })
})

describe('a flood from ever new sources', () => {
  it('leaves those of other classes alone', () => {
    drop(LAN, FILTERED, 5)
    drop(WAN, NO_MAPPING, 7)
    for (const source of forged(100_000)) drop(WAN, FILTERED, source)
    expect([counts(LAN, FILTERED), counts(WAN, NO_MAPPING)]).toEqual([[[5, 1]], [[7, 1]]])
    expect(packets(WAN, FILTERED)).toBe(100_000)
  })

  it('does not hide one that keeps coming in the same class, and hardly changes what is counted of it', () => {
    const flood = forged(1_000_000)
    // Begins long after the flood, with one packet to its thousand.
    for (let i = 0; i < 200_000; i++) drop(WAN, FILTERED, flood.next().value!)
    for (let i = 0; i < 800; i++) {
      for (let others = 0; others < 1000; others++) drop(WAN, FILTERED, flood.next().value!)
      drop(WAN, FILTERED, 42)
    }
    const [first] = sources(WAN, FILTERED)
    expect(first!.address).toBe(42)
    expect(first!.count).toBeGreaterThan(400)
    expect(first!.count).toBeLessThan(1200)
    // Nobody of the flood is made out to have sent much: each has sent one.
    for (const { address, count } of sources(WAN, FILTERED)) if (address !== 42) expect(count).toBeLessThan(1000)
  })
})

describe('time', () => {
  it('halves counts each minute, whether the class is written meanwhile or not', () => {
    for (let i = 0; i < 800; i++) drop(LAN, FILTERED, 5)
    for (let i = 0; i < 2; i++) drop(LAN, FILTERED, 6)
    at(START + HALF_LIFE)
    expect(counts(LAN, FILTERED)).toEqual([
      [5, 400],
      [6, 1],
    ])
    drop(LAN, FILTERED, 7)
    expect(counts(LAN, FILTERED)).toEqual([
      [5, 400],
      [6, 1],
      [7, 1],
    ])
    at(START + 3 * HALF_LIFE)
    expect(counts(LAN, FILTERED)).toEqual([[5, 100]])
    at(START + 100 * HALF_LIFE)
    expect(counts(LAN, FILTERED)).toEqual([])
    drop(LAN, FILTERED, 8)
    expect(counts(LAN, FILTERED)).toEqual([[8, 1]])
    expect(packets(LAN, FILTERED)).toBe(804)
  })

  it('leaves room to those that come now where a flood was', () => {
    for (const source of forged(500_000)) drop(WAN, FILTERED, source)
    at(START + 15 * HALF_LIFE)
    drop(WAN, FILTERED, 42)
    expect(counts(WAN, FILTERED)).toEqual([[42, 1]])
  })
})

it('no two workers write to one cache line', () => {
  for (const worker of [0, 1, 2]) {
    expect(table.classOf(worker, 0, 0) % 8).toBe(0)
    expect(table.linkOf(worker, 0) % 8).toBe(0)
  }
})
