// Mappings and permissions as tables: found by either end while they last, counted, and gone without a trace.

import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { type AttachedTables, attachTables } from './attached-tables.ts'

const UDP = 17
const [INSIDE, OTHER, EXTERNAL, REMOTE] = [0x0500000a, 0x0600000a, 0x017100cb, 0x070200c0]

let table: AttachedTables
beforeEach(async () => {
  table = await attachTables(8)
})

const insert = (inside: number, port: number, externalPort: number, remote = 0, remotePort = 0): number =>
  table.mappings.insertMapping({
    protocol: UDP,
    insideAddress: inside,
    insidePort: port,
    remoteAddress: remote,
    remotePort,
    externalAddress: EXTERNAL,
    externalPort,
    external: 0,
    isSecond: false,
  })

describe('a mapping', () => {
  it('is found by its inside end and by its external end, in its protocol', () => {
    const row = insert(INSIDE, 5000, 20_000)
    const { findByInside, findByExternal } = table.mappings
    expect(findByInside(UDP, INSIDE, 5000, 0, 0)).toBe(row)
    expect(findByExternal(UDP, EXTERNAL, 20_000)).toBe(row)
    for (const found of [
      findByInside(6, INSIDE, 5000, 0, 0),
      findByInside(UDP, OTHER, 5000, 0, 0),
      findByInside(UDP, INSIDE, 5001, 0, 0),
      findByInside(UDP, INSIDE, 5000, REMOTE, 0),
      findByExternal(6, EXTERNAL, 20_000),
      findByExternal(UDP, EXTERNAL, 20_001),
      findByExternal(UDP, INSIDE, 5000),
    ])
      expect(found).toBe(0)
  })

  it('may be for one remote endpoint only', () => {
    const one = insert(INSIDE, 5000, 20_000, REMOTE, 53)
    const other = insert(INSIDE, 5000, 20_001, REMOTE, 80)
    expect(table.mappings.findByInside(UDP, INSIDE, 5000, REMOTE, 53)).toBe(one)
    expect(table.mappings.findByInside(UDP, INSIDE, 5000, REMOTE, 80)).toBe(other)
    expect(table.mappings.findByInside(UDP, INSIDE, 5000, 0, 0)).toBe(0)
  })

  it('that has ended is found no more, and its row stays until it is removed', () => {
    const row = insert(INSIDE, 5000, 20_000)
    table.mappings.endMapping(row)
    table.mappings.endMapping(row)
    expect(table.mappings.hasEnded(row)).toBe(true)
    expect(table.mappings.findByInside(UDP, INSIDE, 5000, 0, 0)).toBe(0)
    expect(table.mappings.findByExternal(UDP, EXTERNAL, 20_000)).toBe(0)
    expect(insert(INSIDE, 5000, 20_001)).not.toBe(row)
    table.mappings.removeMapping(row)
    expect(insert(OTHER, 5000, 20_002)).toBe(row)
    expect(table.mappings.hasEnded(row)).toBe(false)
  })

  it('is none when the table is full', () => {
    for (let port = 1; port <= 8; port++) expect(insert(INSIDE, port, 20_000 + port)).toBeGreaterThan(0)
    expect(insert(INSIDE, 9, 20_009)).toBe(0)
  })
})

describe('permissions', () => {
  it('equal counts in a Map under random granting and withdrawing', () => {
    const step = fc.record({
      grant: fc.boolean(),
      mapping: fc.constantFrom(1, 2),
      remote: fc.constantFrom(REMOTE, -1),
      port: fc.constantFrom(0, 53),
    })
    const { permissions, permit, withdraw, findPermission } = table.permissions
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const model = new Map<string, { row: number; count: number }>()
        for (const { grant, mapping, remote, port } of steps) {
          const name = `${mapping} ${remote} ${port}`
          const known = model.get(name)
          if (grant) {
            const row = permit(mapping, remote, port)
            expect(row).toBe(known?.row ?? row)
            model.set(name, { row, count: (known?.count ?? 0) + 1 })
          } else if (known) {
            withdraw(known.row)
            if (known.count > 1) known.count--
            else model.delete(name)
          }
          expect(findPermission(mapping, remote, port)).toBe(model.get(name)?.row ?? 0)
          expect(permissions.used).toBe(model.size)
        }
        for (const { row, count } of model.values()) for (let i = 0; i < count; i++) withdraw(row)
        expect(permissions.used).toBe(0)
      }),
    )
  })

  it('are refused when the table is full', () => {
    for (let remote = 1; remote <= 8; remote++) expect(table.permissions.permit(1, remote, 0)).toBeGreaterThan(0)
    expect(table.permissions.permit(1, 9, 0)).toBe(0)
    expect(table.permissions.permit(1, 8, 0)).toBeGreaterThan(0)
  })
})
