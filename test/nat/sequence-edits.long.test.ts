// Sequence adjustment: two numberings of one stream. Told by a text and its edits: each character that is the same on
// both sides has a number on either, and whatever is asked must follow from that.

import fc from 'fast-check'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { cutConnections } from '../../src/conntrack/connection-table.ts'
import { attach } from '../../src/memory/attached.ts'
import { allocate, Region } from '../../src/memory/region.ts'
import { cutSequences, editedConnections, MOST_EDITS } from '../../src/nat/sequence-table.ts'

const CAPACITY = 64
const ROW = 1

const attachedEdits = async () => {
  const cut = (table: (region: Region, capacity: number) => unknown) =>
    new Region(allocate((region) => table(region, CAPACITY)).buffer)
  vi.resetModules()
  const unused = new Region()
  attach({
    ...{
      packetMemory: new ArrayBuffer(0),
      counters: unused,
      mappings: unused,
      permissions: unused,
      gone: unused,
      capacity: CAPACITY,
      mappingCapacity: CAPACITY,
    },
    connections: cut(cutConnections),
    sequences: cut(cutSequences),
    events: new Region(),
  })
  return import('../../src/nat/sequence-edits.shard.ts')
}

let edits: Awaited<ReturnType<typeof attachedEdits>>
beforeEach(async () => {
  edits = await attachedEdits()
})

const edit = fc.record({
  gap: fc.nat(20),
  lengthIn: fc.integer({ min: 1, max: 20 }),
  lengthOut: fc.nat(30),
})

interface Placed {
  readonly at: number
  readonly lengthIn: number
  readonly lengthOut: number
  /** Where the replacement begins, from the stream's first byte. */
  readonly out: number
}

function place(list: readonly { gap: number; lengthIn: number; lengthOut: number }[]): Placed[] {
  const placed: Placed[] = []
  let at = 0
  let out = 0
  for (const { gap, lengthIn, lengthOut } of list) {
    at += gap
    out += gap
    placed.push({ at, lengthIn, lengthOut, out })
    at += lengthIn
    out += lengthOut
  }
  return placed
}

describe('numbers of a direction with edits', () => {
  it('are those of the other numbering, for every byte that both have; within an edit rounded to its ends', () => {
    fc.assert(
      fc.property(fc.array(edit, { maxLength: MOST_EDITS }), fc.integer(), (list, isn) => {
        edits.forgetEdits(ROW)
        const placed = place(list)
        for (const { at, lengthIn, lengthOut } of placed)
          expect(edits.addEdit(ROW, 0, (isn + at) | 0, lengthIn, lengthOut)).toBe(true)
        const last = placed.at(-1)
        const end = last === undefined ? 30 : last.at + last.lengthIn + 30
        for (let number = 0; number < end; number++) {
          const within = placed.find(({ at, lengthIn }) => number > at && number < at + lengthIn)
          const before = placed.filter(({ at, lengthIn }) => number >= at + lengthIn)
          const shift = before.reduce((sum, { lengthIn, lengthOut }) => sum + lengthOut - lengthIn, 0)
          const [down, up] = within ? [within.out, within.out + within.lengthOut] : [number + shift, number + shift]
          expect(edits.toReceiver(ROW, 0, (isn + number) | 0)).toBe((isn + down) | 0)
          expect(edits.toReceiver(ROW, 0, (isn + number) | 0, edits.UP)).toBe((isn + up) | 0)
          if (!within && !placed.some(({ at, lengthOut }) => at === number && lengthOut === 0))
            expect(edits.toSender(ROW, 0, (isn + number + shift) | 0)).toBe((isn + number) | 0)
        }
        for (const { at, lengthIn, lengthOut, out } of placed)
          for (let i = 1; i < lengthOut; i++) {
            expect(edits.toSender(ROW, 0, (isn + out + i) | 0)).toBe((isn + at) | 0)
            expect(edits.toSender(ROW, 0, (isn + out + i) | 0, edits.UP)).toBe((isn + at + lengthIn) | 0)
          }
        // The other direction has none of it.
        expect(edits.toReceiver(ROW, 1, isn)).toBe(isn)
      }),
    )
  })

  it('stay what they were behind what is acknowledged, and edits before it end', () => {
    fc.assert(
      fc.property(
        fc.array(edit, { minLength: 1, maxLength: MOST_EDITS }),
        fc.integer(),
        fc.nat(400),
        (list, isn, has) => {
          edits.forgetEdits(ROW)
          const placed = place(list)
          for (const { at, lengthIn, lengthOut } of placed) edits.addEdit(ROW, 0, (isn + at) | 0, lengthIn, lengthOut)
          const from = edits.toSender(ROW, 0, (isn + has) | 0)
          const numbers = Array.from({ length: 60 }, (_, i) => (from + i) | 0)
          const receivers = numbers.map((number) => edits.toReceiver(ROW, 0, number))
          edits.endEdits(ROW, 0, (isn + has) | 0)
          expect(edits.editsInForce(ROW, 0)).toBe(placed.filter(({ out, lengthOut }) => out + lengthOut > has).length)
          expect(numbers.map((number) => edits.toReceiver(ROW, 0, number))).toEqual(receivers)
          // What is older stays older.
          expect(((edits.toReceiver(ROW, 0, (from - 1) | 0) - receivers[0]!) | 0) < 0).toBe(true)
        },
      ),
    )
  })

  it('have room for sixteen edits that wait, again and again', () => {
    for (let round = 0; round < 10_000; round++) {
      expect(edits.roomForEdits(ROW, 0)).toBeGreaterThan(0)
      expect(edits.addEdit(ROW, 0, round * 10, 4, 5)).toBe(true)
      if (round >= MOST_EDITS - 1) edits.endEdits(ROW, 0, (round - MOST_EDITS + 1) * 11 + 5)
    }
    // Fifteen are in force, each of which adds a byte, as the ended ones have.
    expect(edits.editsInForce(ROW, 0)).toBe(MOST_EDITS - 1)
    expect(edits.toReceiver(ROW, 0, 100_000)).toBe(110_000)
    expect(edits.addEdit(ROW, 0, 100_000, 1, 1)).toBe(true)
    expect(edits.addEdit(ROW, 0, 100_001, 1, 1)).toBe(false)
  })

  it('say which bytes were replaced', () => {
    edits.addEdit(ROW, 1, 100, 10, 3)
    expect(edits.touchesEdit(ROW, 1, 90, 100)).toBe(false)
    expect(edits.touchesEdit(ROW, 1, 90, 101)).toBe(true)
    expect(edits.touchesEdit(ROW, 1, 109, 200)).toBe(true)
    expect(edits.touchesEdit(ROW, 1, 110, 200)).toBe(false)
    expect(edits.touchesEdit(ROW, 0, 100, 110)).toBe(false)
  })

  it('are refused to a connection when all rows are taken, and given again when one ends', () => {
    const most = editedConnections(CAPACITY)
    for (let row = 1; row <= CAPACITY; row++) expect(edits.addEdit(row, 0, 0, 1, 1)).toBe(row <= most)
    if (most < CAPACITY) {
      edits.forgetEdits(1)
      expect(edits.addEdit(CAPACITY, 0, 0, 1, 1)).toBe(true)
    }
  })
})

it('a repetition of an edit that has ended is known for one, wherever numbers have come to since', () => {
  edits.addEdit(ROW, 0, 1000, 20, 30)
  expect(edits.repeatsEnded(ROW, 0, 1000)).toBe(false)
  edits.endEdits(ROW, 0, 1030)
  expect([990, 1000, 1019, 1020].map((from) => edits.repeatsEnded(ROW, 0, from))).toEqual([true, true, true, false])
  expect(edits.repeatsEnded(ROW, 1, 1000)).toBe(false)
  // The next 8 GB are all news.
  for (let sent = 1020; sent < 2 ** 33; sent += 2 ** 15)
    if (edits.repeatsEnded(ROW, 0, sent | 0)) expect.fail(`${sent} bytes later`)
  expect(edits.offsetOf(ROW, 0)).toBe(10)
})
