// The slots as a shard has them, over memory without a kernel: the test writes what the program would.

import { beforeEach, describe, expect, it } from 'vitest'
import { type Hop, Hops } from '../../src/offload/hops.ts'
import {
  ACTIVE,
  bucketsFor,
  HOP,
  HOP_WORDS,
  HOPS_AT,
  MAX_SLOTS,
  PENDING,
  SLOT,
  SLOT_WORDS,
  SLOTS_AT,
  valueBytes,
  WAYS,
} from '../../src/offload/layout.ts'
import { NO_SLOT, prepareValue, REST_MS, Slots } from '../../src/offload/slots.ts'
import { parseAddress } from '../../src/wire/address.ts'

const UDP = 17
const INSIDE = 0
const SRC = parseAddress('10.0.0.5')
const DST = parseAddress('192.0.2.7')
const NOW = 5000

let value: SharedArrayBuffer
let words: Int32Array
let counts: BigUint64Array
let slots: Slots
const options = { seed: 0x12345678, buckets: bucketsFor(64) }

beforeEach(() => {
  value = new SharedArrayBuffer(valueBytes(options.buckets))
  prepareValue(value, options)
  words = new Int32Array(value)
  counts = new BigUint64Array(value)
  slots = new Slots(value, 0)
})

const word = (slot: number, name: keyof typeof SLOT): number => SLOTS_AT / 4 + slot * SLOT_WORDS + SLOT[name]
const read = (slot: number, name: keyof typeof SLOT): number => words[word(slot, name)]!

/** As the program counts. */
function countPacket(slot: number, bytes: number): void {
  counts[word(slot, 'packets') / 2]! += 1n
  counts[word(slot, 'bytes') / 2]! += BigInt(bytes)
}

/** A slot with a flow of its own. */
function begin(ports: number, of = slots): number {
  const slot = of.claim(SRC, DST, ports, UDP, INSIDE)
  if (slot === NO_SLOT) return slot
  of.translate(slot, parseAddress('203.0.113.1'), DST, ports + 1)
  of.renew(slot, of.version(), 7, 2)
  of.publish(slot, UDP, INSIDE, 42)
  return slot
}

/** Ends it and lets it rest. */
function end(slot: number): void {
  slots.free(slot, NOW)
  expect(slots.rested(NOW + REST_MS)).toBe(slot)
  slots.release(slot)
}

describe('the life of a slot', () => {
  it('is hidden until it is published, and then pending until it is activated', () => {
    const slot = slots.claim(SRC, DST, 1, UDP, INSIDE)
    expect(slots.isLive(slot)).toBe(false)
    slots.publish(slot, UDP, INSIDE, 42)
    expect([slots.isLive(slot), read(slot, 'state'), slots.rowOf(slot)]).toEqual([true, PENDING, 42])
    slots.activate(slot)
    expect(read(slot, 'state')).toBe(ACTIVE)
  })

  it('rests after it was freed, in the order of the ends, and has its last counts then', () => {
    const [a, b] = [begin(1), begin(2)]
    slots.free(b, NOW)
    slots.free(a, NOW + 3)
    expect(slots.isLive(a) || slots.isLive(b)).toBe(false)
    countPacket(b, 100)
    expect(slots.rested(NOW + REST_MS - 1)).toBe(NO_SLOT)
    expect(slots.rested(NOW + REST_MS)).toBe(b)
    expect(slots.take(b)).toBe(true)
    expect([slots.packets, slots.bytes, slots.rowOf(b)]).toEqual([1, 100, 42])
    slots.release(b)
    expect(slots.rested(NOW + REST_MS + 2)).toBe(NO_SLOT)
    expect(slots.rested(NOW + REST_MS + 3)).toBe(a)
    slots.release(a)
    expect(slots.rested(NOW + 1000)).toBe(NO_SLOT)
  })

  it('rests by a clock that comes round', () => {
    const slot = begin(1)
    slots.free(slot, 0x7fffffff - 3)
    expect(slots.rested(0x7fffffff)).toBe(NO_SLOT)
    expect(slots.rested((0x7fffffff + REST_MS - 3) | 0)).toBe(slot)
  })

  it('is nobody’s while it rests, and begins its next life with zeros', () => {
    const one = new SharedArrayBuffer(valueBytes(1))
    prepareValue(one, { seed: 1, buckets: 1 })
    ;[value, words, counts, slots] = [
      one as SharedArrayBuffer,
      new Int32Array(one),
      new BigUint64Array(one),
      new Slots(one, 0),
    ]
    const taken = Array.from({ length: WAYS }, (_, i) => begin(i + 1))
    expect(begin(99)).toBe(NO_SLOT)
    const slot = taken[2]!
    countPacket(slot, 100)
    for (const name of ['pending', 'flags', 'lastSeen', 'end', 'ack', 'window', 'maxWindow'] as const)
      words[word(slot, name)] = 3
    const generation = read(slot, 'generation')
    slots.free(slot, NOW)
    expect(read(slot, 'generation')).toBe(generation + 1)
    expect(begin(99)).toBe(NO_SLOT)
    slots.rested(NOW + REST_MS)
    slots.release(slot)
    expect(begin(99)).toBe(slot)
    expect(slots.take(slot)).toBe(false)
    for (let i = SLOT.packets; i < SLOT_WORDS; i++) expect(words[SLOTS_AT / 4 + slot * SLOT_WORDS + i]).toBe(0)
  })

  it('is refused when its bucket is full, by other shards too', () => {
    const other = new Slots(value, 1)
    const seen = new Set<number>()
    for (let ports = 1; ports < 4000; ports++) {
      const slot = begin(ports, ports % 2 === 0 ? slots : other)
      if (slot === NO_SLOT) continue
      expect(seen).not.toContain(slot)
      seen.add(slot)
    }
    expect(seen.size).toBe(slots.count)
    expect(begin(4001)).toBe(NO_SLOT)
    end([...seen].find((slot) => read(slot, 'owner') === 1)!)
  })

  it('is found again by its shard’s successor, if only claimed, pending, active or resting', () => {
    const other = new Slots(value, 1)
    begin(99, other)
    const mine = [slots.claim(SRC, DST, 1, UDP, INSIDE), begin(2), begin(3), begin(4)]
    slots.activate(mine[2]!)
    slots.free(mine[3]!, NOW)
    const successor = new Slots(value, 0)
    const found: number[] = []
    for (let at = 0; ; ) {
      const slot = successor.nextOwned(at)
      if (slot === NO_SLOT) break
      found.push(slot)
      at = slot + 1
    }
    expect(found).toEqual(mine.toSorted((a, b) => a - b))
    for (const slot of found) successor.free(slot, NOW)
    for (const slot of found) {
      expect(successor.rested(NOW + REST_MS)).toBe(slot)
      successor.release(slot)
    }
    expect(successor.nextOwned(0)).toBe(NO_SLOT)
  })
})

describe('what the program counts', () => {
  it('is told once', () => {
    const slot = begin(1)
    expect(slots.take(slot)).toBe(false)
    countPacket(slot, 1500)
    countPacket(slot, 40)
    expect([slots.take(slot), slots.packets, slots.bytes]).toEqual([true, 2, 1540])
    expect([slots.take(slot), slots.packets, slots.bytes]).toEqual([false, 0, 0])
  })

  it('goes on where 32 bits end', () => {
    const slot = begin(1)
    counts[word(slot, 'packets') / 2] = 0xffff_ffffn
    counts[word(slot, 'bytes') / 2] = 0xffff_fff0n
    slots.take(slot)
    expect([slots.packets, slots.bytes]).toEqual([0xffff_ffff, 0xffff_fff0])
    countPacket(slot, 0x20)
    slots.take(slot)
    expect([slots.packets, slots.bytes]).toEqual([1, 0x20])
    counts[word(slot, 'bytes') / 2]! += 3n << 32n
    slots.take(slot)
    expect(slots.bytes).toBe(3 * 2 ** 32)
  })
})

describe('hops, and versions of routes', () => {
  const hop: Hop = { interfaceIndex: 3, mtu: 1500, own: Uint8Array.of(1, 2, 3, 4, 5, 6), neighbour: new Uint8Array(6) }

  it('have a generation for each setting, and none before and while they are invalid', () => {
    const hops = new Hops(value)
    expect(hops.generation(7)).toBe(0)
    hops.set(7, hop)
    const first = hops.generation(7)
    expect(first).not.toBe(0)
    hops.set(7, { ...hop, mtu: 1400 })
    expect(hops.generation(7)).not.toBe(first)
    expect(words[HOPS_AT / 4 + 7 * HOP_WORDS + HOP.mtu]).toBe(1400)
    hops.invalidate(7)
    hops.invalidate(7)
    expect(hops.generation(7)).toBe(0)
    hops.set(7, hop)
    expect(hops.generation(7)).not.toBe(0)
    expect(hops.generation(8)).toBe(0)
  })

  it('never come round to the generation that says invalid', () => {
    const hops = new Hops(value)
    words[HOPS_AT / 4 + 7 * HOP_WORDS + HOP.generation] = -2
    hops.set(7, hop)
    expect(hops.generation(7)).toBe(2)
  })

  it('are those of a slot until one of them is raised', () => {
    const slot = begin(1)
    const before = slots.version()
    slots.raiseVersion()
    expect(slots.version()).not.toBe(before)
    expect(read(slot, 'version')).toBe(before)
    slots.renew(slot, slots.version(), 9, 4)
    expect([read(slot, 'version'), read(slot, 'hop'), read(slot, 'hopGeneration')]).toEqual([slots.version(), 9, 4])
  })
})

describe('how many slots', () => {
  it('are found for all but one flow in a thousand at most, when half are taken', () => {
    const count = 40_000
    const [large, buckets] = [new SharedArrayBuffer(valueBytes(bucketsFor(count))), bucketsFor(count)]
    prepareValue(large, { seed: 0x12345678, buckets })
    const many = new Slots(large, 0)
    let refused = 0
    for (let i = 0; i < count / 2; i++)
      if (many.claim(SRC + (i << 24), DST, i * 7919, UDP, INSIDE) === NO_SLOT) refused++
    expect(refused).toBeLessThan((count / 2) * 0.001)
  })

  it('as many as fit into 512 MiB', () => {
    expect(valueBytes(bucketsFor(MAX_SLOTS))).toBeLessThanOrEqual(512 << 20)
    expect(MAX_SLOTS).toBeGreaterThan(4_190_000)
    for (const wrong of [0, -1, 1.5, MAX_SLOTS + 1]) expect(() => bucketsFor(wrong)).toThrow(RangeError)
  })
})
