// The connection table against a plain Map from tuples: random insert, delete, expiry and lookup in a table that is
// small enough to be full most of the time.

import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { CONN, CONN_WORDS } from '../../src/conntrack/connection-table.ts'
import type { Side } from '../../src/conntrack/terms.ts'
import { type AttachedTables, attachTables } from './attached-tables.ts'

const CAPACITY = 24
const TCP = 6

interface Tuple {
  readonly src: number
  readonly dst: number
  readonly ports: number
}

let table: AttachedTables
beforeAll(async () => {
  table = await attachTables(CAPACITY)
})

// Few values, so that tuples share addresses or ports; the sign bit is set in some.
const word = () => fc.constantFrom(1, 2, 0x0a000005, -1, -2147483648, 0x7fffffff)
const tuple = (): fc.Arbitrary<Tuple> => fc.record({ src: word(), dst: word(), ports: word() })

type Step =
  | {
      readonly do: 'insert'
      readonly original: Tuple
      readonly reply: Tuple
      readonly side: Side
      readonly timeout: number
    }
  | { readonly do: 'delete'; readonly which: number }
  | { readonly do: 'pass'; readonly seconds: number }

const step = (): fc.Arbitrary<Step> =>
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('insert' as const),
        original: tuple(),
        reply: tuple(),
        side: fc.constantFrom<Side>(0, 1),
        timeout: fc.integer({ min: 1, max: 20 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), which: fc.nat(CAPACITY) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), seconds: fc.nat(8) }) },
  )

/** As packets show it: the side that the tuple comes by is part of it. */
const nameOf = ({ src, dst, ports }: Tuple, side: Side): string => `${side} ${src} ${dst} ${ports}`

function find({ src, dst, ports }: Tuple, side: Side): number {
  const key = table.tuple.keyWord(TCP, side)
  return table.connections.findConnection(key, src, dst, ports, table.tuple.hashTuple(key, src, dst, ports))
}

function insert(original: Tuple, reply: Tuple, side: Side, timeout: number): number {
  const { connections, hot, confirm } = table.connections
  const row = connections.begin()
  if (row === 0) return 0
  const base = row * CONN_WORDS
  hot.set([original.src, original.dst, original.ports, reply.src, reply.dst, reply.ports], base + CONN.origSrc)
  hot[base + CONN.state] = table.tuple.keyWord(TCP, side)
  hot[base + CONN.lastSeen] = table.clock.now
  hot[base + CONN.timeout] = timeout
  confirm(row)
  return row
}

describe('the connection table', () => {
  it('equals a Map under random insert, delete and expiry', () => {
    let seconds = 0
    fc.assert(
      fc.property(fc.array(step(), { maxLength: 80 }), (steps) => {
        const { connections, remove } = table.connections
        /** Tuple to row << 1 | direction; row to its tuples and the second it ends. */
        const tuples = new Map<string, number>()
        const rows = new Map<number, { names: [string, string]; ends: number }>()
        const end = (row: number): void => {
          for (const name of rows.get(row)!.names) tuples.delete(name)
          rows.delete(row)
          remove(row)
        }
        for (const one of steps) {
          if (one.do === 'insert') {
            const names: [string, string] = [
              nameOf(one.original, one.side),
              nameOf(one.reply, table.tuple.otherSide(one.side)),
            ]
            // Tuples are unique: whoever inserts has looked.
            if (tuples.has(names[0]) || tuples.has(names[1])) continue
            const row = insert(one.original, one.reply, one.side, one.timeout)
            expect(row === 0).toBe(rows.size === CAPACITY)
            if (row === 0) continue
            expect(rows.has(row)).toBe(false)
            rows.set(row, { names, ends: seconds + one.timeout })
            for (const [direction, name] of names.entries()) tuples.set(name, (row << 1) | direction)
          } else if (one.do === 'delete') {
            const row = [...rows.keys()][one.which]
            if (row !== undefined) end(row)
          } else {
            seconds += one.seconds
            table.clock.setClock(seconds * 1000)
            for (const [row, { ends }] of [...rows]) {
              expect(table.track.hasExpired(row)).toBe(seconds >= ends)
              if (seconds >= ends) end(row)
            }
          }
          expect(connections.used).toBe(rows.size)
        }
        for (const { do: what, ...rest } of steps) {
          if (what !== 'insert' || !('original' in rest)) continue
          for (const side of [0, 1] as const)
            for (const each of [rest.original, rest.reply])
              expect(find(each, side)).toBe(tuples.get(nameOf(each, side)) ?? 0)
        }
        for (const row of [...rows.keys()]) end(row)
        expect(table.connections.connectionIndex.cells.every((cell) => cell === 0)).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it('finds every connection of a full table by both tuples', () => {
    const all = Array.from({ length: CAPACITY }, (_, i) => ({ src: i + 100, dst: 7, ports: i * 0x10001 }))
    const rows = all.map((each) => insert(each, { ...each, dst: 8 }, 0, 60))
    for (const [i, each] of all.entries()) {
      expect(find(each, 0)).toBe(rows[i]! << 1)
      expect(find({ ...each, dst: 8 }, 1)).toBe((rows[i]! << 1) | 1)
      expect(find(each, 1)).toBe(0)
    }
    expect(insert({ src: 1, dst: 1, ports: 1 }, { src: 2, dst: 2, ports: 2 }, 0, 60)).toBe(0)
    for (const row of rows) table.connections.remove(row)
  })
})
